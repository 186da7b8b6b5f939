"""Find the best segmentation the way the original libraries do, tie for tie.

best[e] = max over arcs (s, e, w) of best[s] + l[w], positions from left to right; an equal score
does not replace an earlier one. SentencePiece keeps best as float32, BytePiece as float64.
"""

# A kernel takes arrays by position, is one loop, and knows the bytes of UTF-8.
# ruff: noqa: C901, PLR0917
from __future__ import annotations

import numpy as np

from service.numerics.dtypes import Bytes8, Ids32, Ids64, Vector64
from service.numerics.kernels import kernel
from service.numerics.lattice.charsmap import char_width
from service.numerics.lattice.linear import BY_CHARS, UNKNOWN, emit

_UNREACHED = -2


@kernel()
def _sum(left: float, right: float, single: bool) -> float:
    """Return the sum in the precision of the original library."""
    return float(np.float64(np.float32(left + right))) if single else left + right


@kernel()
def _scatter(
    data: Bytes8,
    origin: int,
    start: int,
    stop: int,
    units: Ids32,
    scores: Vector64,
    rules: Ids64,
    best: Vector64,
    pieces: Ids32,
    backs: Ids32,
    single: bool,
) -> None:
    """Fill best, the piece that ends at each place and where it begins, for one segment."""
    pieces[start + 1 : stop + 1] = _UNREACHED
    best[start] = 0.0
    place = start
    while place < stop:
        lead = data[origin + place]
        width = char_width(lead) if rules[BY_CHARS] else 1
        if place > start and pieces[place] == _UNREACHED:
            place += width
            continue
        so_far = best[place]
        alone = False
        node = 0
        for here in range(place, stop):
            child = units[node] ^ (np.int64(data[origin + here]) << 2)
            if units[child + 1] != node:
                break
            node = child
            piece = units[node + 2]
            if piece >= 0:
                score = _sum(so_far, scores[piece], single)
                end = here + 1
                if pieces[end] == _UNREACHED or score > best[end]:
                    best[end] = score
                    pieces[end] = piece
                    backs[end] = place
                if end - place == width:
                    alone = True
        if rules[BY_CHARS] and not alone:
            end = min(place + width, stop)
            score = _sum(so_far, scores[len(scores) - 1], single)
            if pieces[end] == _UNREACHED or score > best[end]:
                best[end] = score
                pieces[end] = -1
                backs[end] = place
        place += width


@kernel(
    "int64(uint8[::1], int64[::1], int32[::1], int64[::1], int32[::1], float64[::1], "
    "int64[::1], int32[::1], boolean, float64[::1], int32[::1], int32[::1], int32[::1], "
    "int32[::1], int64[::1])"
)
def best_texts(
    data: Bytes8,
    bounds: Ids64,
    fixed: Ids32,
    groups: Ids64,
    units: Ids32,
    scores: Vector64,
    rules: Ids64,
    byte_ids: Ids32,
    single: bool,
    best: Vector64,
    pieces: Ids32,
    backs: Ids32,
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
        scores: (v + 1,) l as the library sees it.
        rules: of the vocabulary.
        byte_ids: of single bytes.
        single: whether sums are rounded to float32.
        best: scratch, the longest text + 1.
        pieces: scratch of that length.
        backs: scratch of that length.
        ids: out.
        ends: out.
        counts: out, (texts,); -1 where no path exists.

    Returns:
        Number of ids written.
    """
    size = 0
    for text in range(len(groups) - 1):
        first, last = groups[text], groups[text + 1]
        origin = bounds[first]
        begin = size
        after_unknown = False
        for segment in range(first, last):
            start, stop = bounds[segment] - origin, bounds[segment + 1] - origin
            if fixed[segment] >= 0:
                ids[size], ends[size] = fixed[segment], stop
                size += 1
                after_unknown = False
                continue
            _scatter(
                data,
                origin,
                start,
                stop,
                units,
                scores,
                rules,
                best,
                pieces,
                backs,
                single,
            )
            if stop > start and pieces[stop] == _UNREACHED:
                size = begin
                counts[text] = -1
                break
            # The chain of back pointers is turned round in place: backs[s] becomes the next end.
            end = stop
            after = -1
            while end > start:
                before = backs[end]
                backs[end] = after
                after = end
                end = before
            while after >= 0:
                piece = pieces[after]
                size = emit(
                    piece,
                    end,
                    after,
                    data,
                    origin,
                    rules,
                    byte_ids,
                    ids,
                    ends,
                    size,
                    after_unknown,
                )
                after_unknown = piece < 0
                end = after
                after = backs[after]
        else:
            counts[text] = size - begin
    return size


@kernel(
    "int64(uint8[::1], int64[::1], int32[::1], int64[::1], int32[::1], int64[::1], "
    "int32[::1], int32[::1], int64[::1])"
)
def longest_texts(
    data: Bytes8,
    bounds: Ids64,
    fixed: Ids32,
    groups: Ids64,
    units: Ids32,
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
                node, piece, end = 0, -1, place
                for here in range(place, stop):
                    child = units[node] ^ (np.int64(data[here]) << 2)
                    if units[child + 1] != node:
                        break
                    node = child
                    if units[node + 2] >= 0:
                        piece, end = units[node + 2], here + 1
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
