"""Find the pieces of a vocabulary that begin with given bytes, or that given bytes begin with."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from service.numerics.dtypes import Ids32

# Longer pieces are banners and runs of spaces; no text is healed further back than this.
REACH_BYTES = 64


@dataclass(frozen=True, slots=True)
class Pieces:
    """Hold the bytes of every piece, in the order of ids and in that of bytes.

    Attributes:
        texts: bytes of each id; empty where an id stands for no text (special tokens), which
            healing never allows.
        ordered: the same without the empty ones, sorted.
        ids: (m,) int32, the id of each of `ordered`.
        longest: bytes of the longest piece.
    """

    texts: tuple[bytes, ...]
    ordered: tuple[bytes, ...]
    ids: Ids32
    longest: int


def sort_pieces(texts: Sequence[bytes]) -> Pieces:
    """Return the pieces ready to be searched; `texts[i]` is what id i stands for."""
    order = sorted((each for each in range(len(texts)) if texts[each]), key=lambda i: texts[i])
    return Pieces(
        texts=tuple(texts),
        ordered=tuple(texts[each] for each in order),
        ids=np.array(order, np.int32),
        longest=max(map(len, texts), default=0),
    )


def pieces_beyond(pieces: Pieces, rest: bytes) -> Ids32:
    """Return, sorted, the ids of all pieces that begin with `rest` and are longer.

    They are neighbours in the order of bytes: after `rest` itself, and before the first string
    that is larger than everything that begins with it.
    """
    low = bisect_left(pieces.ordered, rest + b"\0")
    high = bisect_left(pieces.ordered, rest + b"\xff" * (pieces.longest - len(rest) + 1))
    return np.sort(pieces.ids[low : max(low, high)])


def pieces_within(pieces: Pieces, rest: bytes) -> list[int]:
    """Return the ids of all pieces that `rest` begins with, shorter ones first."""
    found = []
    for length in range(1, min(len(rest), pieces.longest) + 1):
        text = rest[:length]
        place = bisect_left(pieces.ordered, text)
        while place < len(pieces.ordered) and pieces.ordered[place] == text:
            found.append(int(pieces.ids[place]))
            place += 1
    return found


def open_places(pieces: Pieces, text: bytes) -> list[int]:
    """Return where a piece may begin that is not over when `text` is.

    Args:
        pieces: the vocabulary.
        text: ends where the prompt breaks off.

    Returns:
        Each place s, in bytes from the start of `text`, for which some piece begins with text[s:]
        and is longer; rising, none further than `REACH_BYTES` from the end.
    """
    first = max(0, len(text) - min(pieces.longest, REACH_BYTES))
    return [place for place in range(first, len(text)) if len(pieces_beyond(pieces, text[place:]))]
