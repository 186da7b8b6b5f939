"""Measure a file the way a manifest pins it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from models.errors import RecipeError


def measure(path: Path) -> dict[str, object]:
    """Return the size and digest of a file, as a manifest pins them.

    Raises:
        RecipeError: the file does not exist.
    """
    if not path.is_file():
        message = f"{path.name} was not written into {path.parent}"
        raise RecipeError(message)
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"sha256": digest, "bytes": path.stat().st_size}
