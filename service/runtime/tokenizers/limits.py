"""Bound what a tokenizer file may hold: it comes from outside."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from service.errors import InvalidInput, PayloadTooLarge
from service.numerics.lattice.vocabulary import MOST_PIECE_BYTES

MOST_FILE_BYTES = 64 << 20
MOST_PIECES = 1_000_000
_LARGEST_SCORE = 1e30  # beyond it float32 sums of a long text overflow


def check_pieces(pieces: Sequence[bytes]) -> None:
    """Refuse a vocabulary that is empty, too large, or names a piece twice.

    Raises:
        PayloadTooLarge: more than a million pieces, or one longer than 1,024 bytes.
        InvalidInput: no piece at all, an empty one, or one twice.
    """
    if len(pieces) > MOST_PIECES:
        raise PayloadTooLarge(
            f"The file has more than {MOST_PIECES} pieces. Use a smaller vocabulary."
        )
    if not pieces:
        raise InvalidInput("The file holds no piece at all.")
    longest = max(map(len, pieces))
    if longest > MOST_PIECE_BYTES:
        raise PayloadTooLarge(
            f"A piece has {longest} bytes and {MOST_PIECE_BYTES} are read at most."
        )
    if b"" in pieces:
        raise InvalidInput(f"Piece {list(pieces).index(b'')} is empty.")
    if len(set(pieces)) != len(pieces):
        ((twice, count),) = Counter(pieces).most_common(1)
        shown = twice[:40].decode("utf-8", "backslashreplace")
        raise InvalidInput(f"The piece {shown!r} stands in the file {count} times.")


def check_scores(scores: Sequence[float]) -> npt.NDArray[np.float32]:
    """Return scores as (v,) float32.

    Raises:
        InvalidInput: one is NaN, infinite or absurdly large.
    """
    for number, score in enumerate(scores):
        if not math.isfinite(score) or abs(score) > _LARGEST_SCORE:
            raise InvalidInput(f"Piece {number} has the score {score}; it must be a plain number.")
    return np.array(scores, np.float32)
