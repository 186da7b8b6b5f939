"""Find the best segmentation the way the original libraries do, tie for tie.

best[e] = max over arcs (s, e, w) of best[s] + l[w], positions from left to right; an equal score
does not replace an earlier one. SentencePiece sums in float32, BytePiece in float64: the scores
that are given have the precision of the library.
"""

# A kernel takes arrays by position, is one loop, and knows the bytes of UTF-8.
# ruff: noqa: C901, PLR0917
from __future__ import annotations

import numpy as np

from service.numerics.dtypes import Bytes8, Ids32, Ids64
from service.numerics.kernels import kernel
from service.numerics.lattice.charsmap import char_width
from service.numerics.lattice.linear import BY_CHARS, UNKNOWN, emit
from service.numerics.lattice.trie import NOWHERE, rank_at, step

_ENDS = 32  # a way packs the piece that ends at a place, and below this bit where it begins
_PLACE = (1 << _ENDS) - 1


@kernel()
def _scatter(
    data: Bytes8,
    start: int,
    stop: int,
    units: Ids64,
    scores: np.ndarray,
    by_chars: int,
    best: np.ndarray,
    ways: Ids64,
) -> None:
    """Fill best, and the last piece of the best path to each place, for one segment."""
    best[start + 1 : stop + 1] = -np.inf
    best[start] = 0.0
    unknown = len(scores) - 1
    place = start
    while place < stop:
        width = char_width(data[place]) if by_chars else 1
        so_far = best[place]
        if so_far == -np.inf:
            place += width
            continue
        alone = place + width
        seen = by_chars == 0
        node = units[0]
        for here in range(place, stop):
            node = step(units, node, data[here])
            if node == NOWHERE:
                break
            rank = rank_at(node)
            end = here + 1
            score = so_far + scores[rank]
            if score > best[end]:
                best[end] = score
                ways[end] = (rank - 1) << _ENDS | place
            seen |= end == alone and rank > 0
        if not seen:
            end = min(alone, stop)
            score = so_far + scores[unknown]
            if score > best[end]:
                best[end] = score
                ways[end] = -1 << _ENDS | place
        place = alone


@kernel()
def _trace(start: int, stop: int, ways: Ids64, ids: Ids32, ends: Ids32, slot: int) -> int:
    """Write the best path of a segment so that it ends before a slot; return its first slot."""
    end = stop
    while end > start:
        slot -= 1
        ids[slot], ends[slot] = ways[end] >> _ENDS, end
        end = ways[end] & _PLACE
    return slot


@kernel(
    "int64(uint8[::1], int64[::1], int32[::1], int64[::1], int64[::1], float32[::1], int64[::1], "
    "int32[::1], float32[::1], int64[::1], int32[::1], int32[::1], int64[::1])",
    "int64(uint8[::1], int64[::1], int32[::1], int64[::1], int64[::1], float64[::1], int64[::1], "
    "int32[::1], float64[::1], int64[::1], int32[::1], int32[::1], int64[::1])",
)
def best_texts(
    data: Bytes8,
    bounds: Ids64,
    fixed: Ids32,
    groups: Ids64,
    units: Ids64,
    scores: np.ndarray,
    rules: Ids64,
    byte_ids: Ids32,
    best: np.ndarray,
    ways: Ids64,
    ids: Ids32,
    ends: Ids32,
    counts: Ids64,
) -> int:
    """Write the best path of every text into flat arrays; arguments as in `sample_texts`.

    Args:
        data: normalised bytes.
        bounds: of segments.
        fixed: ids of segments that are one piece.
        groups: of texts.
        units: of the trie.
        scores: (v + 2,) l by rank as the library sees it, -inf for rank 0.
        rules: of the vocabulary.
        byte_ids: of single bytes.
        best: scratch, the longest text + 1, in the precision of the scores.
        ways: scratch of that length.
        ids: out, an id a byte and one a segment.
        ends: out.
        counts: out, (texts,); -1 where no path exists.

    Returns:
        Number of ids written.
    """
    size = 0
    for text in range(len(groups) - 1):
        first, last = groups[text], groups[text + 1]
        origin = bounds[first]
        own = data[origin : bounds[last]]
        begin = size
        after_unknown = False
        for segment in range(first, last):
            start, stop = bounds[segment] - origin, bounds[segment + 1] - origin
            if fixed[segment] >= 0:
                ids[size], ends[size] = fixed[segment], stop
                size += 1
                after_unknown = False
                continue
            _scatter(own, start, stop, units, scores, rules[BY_CHARS], best, ways)
            if best[stop] == -np.inf:
                size = begin
                counts[text] = -1
                break
            # The path lies at the end of the room for it: it has no more pieces than bytes, and is
            # printed as no more ids than bytes, so nothing is overwritten before it is read.
            limit = size + stop - start
            place = start
            for slot in range(_trace(start, stop, ways, ids, ends, limit), limit):
                piece, end = ids[slot], ends[slot]
                if piece >= 0:
                    ids[size], ends[size] = piece, end
                    size += 1
                else:
                    size = emit(
                        piece, place, end, own, 0, rules, byte_ids, ids, ends, size, after_unknown
                    )
                after_unknown = piece < 0
                place = end
        else:
            counts[text] = size - begin
    return size


@kernel(
    "int64(uint8[::1], int64[::1], int32[::1], int64[::1], int64[::1], int64[::1], int32[::1], "
    "int32[::1], int64[::1])"
)
def longest_texts(
    data: Bytes8,
    bounds: Ids64,
    fixed: Ids32,
    groups: Ids64,
    units: Ids64,
    rules: Ids64,
    ids: Ids32,
    ends: Ids32,
    counts: Ids64,
) -> int:
    """Write the path that takes the longest piece each time, as WordPiece does.

    A segment that cannot be finished so is one unknown piece. Arguments as in `best_texts`.
    """
    size = 0
    for text in range(len(groups) - 1):
        origin = bounds[groups[text]]
        begin = size
        for segment in range(groups[text], groups[text + 1]):
            start, stop = bounds[segment], bounds[segment + 1]
            first = size
            place = start
            while place < stop and fixed[segment] < 0:
                node, piece, end = units[0], -1, place
                for here in range(place, stop):
                    node = step(units, node, data[here])
                    if node == NOWHERE:
                        break
                    if rank_at(node) > 0:
                        piece, end = rank_at(node) - 1, here + 1
                if piece < 0:
                    break
                ids[size], ends[size] = piece, end - origin
                size += 1
                place = end
            if place < stop:
                size = first
                ids[size] = fixed[segment] if fixed[segment] >= 0 else rules[UNKNOWN]
                ends[size] = stop - origin
                size += 1
        counts[text] = size - begin
    return size
