"""Derive independent, repeatable random streams from one seed.

A stream is Philox, a counter-based generator, keyed by a digest of the seed and of what the stream
is for. Two streams of one seed share nothing, and none depends on how many draws another took: an
answer is the same whatever batch, thread or replica computed it.

Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3" (Philox).
"""

from __future__ import annotations

import secrets
from hashlib import blake2b

import numpy as np

MOST_SEED = 2**63 - 1
ScopePart = str | int | bytes


def draw_seed() -> int:
    """Return a seed of the system's own choosing, 0 to 2^63 - 1."""
    return secrets.randbelow(MOST_SEED + 1)


def stream_key(seed: int, *scope: ScopePart) -> tuple[int, int]:
    """Return the 128-bit key of one stream as two unsigned 64-bit numbers.

    Args:
        seed: 0 to 2^63 - 1.
        scope: what the stream is for, as ("tokenization", text_index); each part keeps its type
            and its length, so that ("a", "bc") and ("ab", "c") differ.
    """
    digest = blake2b(str(seed).encode(), digest_size=16)
    for part in scope:
        kind = type(part).__name__
        content = part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogatepass")
        digest.update(f"|{kind}:{len(content)}:".encode())
        digest.update(content)
    raw = digest.digest()
    return int.from_bytes(raw[:8], "little"), int.from_bytes(raw[8:], "little")


def generator(seed: int, *scope: ScopePart) -> np.random.Generator:
    """Return numpy's generator over the Philox stream of a seed and a scope."""
    low, high = stream_key(seed, *scope)
    return np.random.Generator(np.random.Philox(key=np.array([low, high], dtype=np.uint64)))
