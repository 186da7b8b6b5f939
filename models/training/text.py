"""Cut a text file into bytes to train on and bytes to hold out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.errors import RecipeError

HELD_OUT = 10  # the last tenth


@dataclass(frozen=True, slots=True)
class ByteText:
    """Hold a text as byte ids, 0 to 255: `train` (n,) uint8, `held_out` (m,) uint8."""

    train: NDArray[np.uint8]
    held_out: NDArray[np.uint8]
    sha256: str


def read_text(path: Path) -> ByteText:
    """Return the bytes of `path`, the last tenth of them held out.

    Raises:
        RecipeError: the file is missing or empty.
    """
    if not path.is_file():
        raise RecipeError(f"{path} is not a file: give the text to train on")
    content = path.read_bytes()
    if not content:
        raise RecipeError(f"{path} is empty: give a text to train on")
    ids = np.frombuffer(content, dtype=np.uint8)
    cut = len(ids) - len(ids) // HELD_OUT
    return ByteText(ids[:cut], ids[cut:], hashlib.sha256(content).hexdigest())


def batches(
    text: NDArray[np.uint8], *, seed: int, steps: int, rows: int, length: int
) -> Iterator[NDArray[np.int64]]:
    """Yield `steps` batches (rows, length + 1) int64 of windows drawn uniformly.

    The last byte of a window is only predicted. The draw depends on `seed` alone, so that every
    variant sees the same windows in the same order.

    Raises:
        RecipeError: the text is shorter than one window.
    """
    last = len(text) - length - 1
    if last < 0:
        message = f"the text has {len(text)} bytes to train on, one window takes {length + 1}"
        raise RecipeError(message)
    random = np.random.Generator(np.random.Philox(seed))
    within = np.arange(length + 1)
    for _ in range(steps):
        starts = random.integers(0, last + 1, size=rows)
        yield text[starts[:, None] + within].astype(np.int64)


def windows(text: NDArray[np.uint8], *, length: int, most: int) -> NDArray[np.int64]:
    """Return up to `most` windows (k, length + 1) int64, evenly spread, one byte shared at most.

    Raises:
        RecipeError: the text is shorter than one window.
    """
    whole = (len(text) - 1) // length
    if whole < 1:
        message = f"{len(text)} bytes are held out, one window takes {length + 1}"
        raise RecipeError(message)
    kept = min(whole, most)
    chosen = np.arange(kept) * whole // kept
    found: NDArray[np.int64] = text[chosen[:, None] * length + np.arange(length + 1)].astype(
        np.int64
    )
    return found
