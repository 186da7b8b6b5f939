"""List the best segmentations in order, exactly: no path is pruned.

At every place, from the end, the best N ways to finish are kept as (score, arc, rank of the way
that follows). The ways of a place come from merging those of its arcs' ends, each already in order.

Source: k-best parsing over a directed acyclic graph, algorithm 1 of Huang and Chiang 2005.
"""

# A kernel takes arrays by position, is one loop, and knows the bytes of UTF-8.
# ruff: noqa: C901, PLR0917
from __future__ import annotations

import math

import numpy as np

from service.numerics.dtypes import Bytes8, Ids32, Ids64, Matrix64, Vector64
from service.numerics.kernels import kernel
from service.numerics.lattice.linear import emit
from service.numerics.lattice.logspace import list_arcs


@kernel(
    "void(uint8[::1], int64[::1], int32[::1], int64[::1], float64[::1], int64[::1], int64, "
    "float64[:, ::1], int32[:, ::1], int32[:, ::1], int32[:, ::1])"
)
def rank_ways(
    data: Bytes8,
    bounds: Ids64,
    fixed: Ids32,
    units: Ids64,
    scores: Vector64,
    rules: Ids64,
    most: int,
    best: Matrix64,
    pieces: Ids32,
    ends: Ids32,
    ranks: Ids32,
) -> None:
    """Fill the best `most` ways to finish from every place of one text.

    Args:
        data: normalised bytes.
        bounds: of segments.
        fixed: ids of segments that are one piece.
        units: of the trie.
        scores: (v + 1,) l; the last is that of an unknown character, -inf where it has no arc.
        rules: of the vocabulary.
        most: N.
        best: out, (n + 1, N) score of each way, -inf where there are fewer.
        pieces: out, (n + 1, N) piece of its first arc.
        ends: out, (n + 1, N) end of its first arc.
        ranks: out, (n + 1, N) rank of the way that follows.
    """
    size = len(data)
    best[:] = -math.inf
    best[size, 0] = 0.0
    arcs = np.empty(rules[2] + 2, np.int32)
    stops = np.empty(rules[2] + 2, np.int64)
    heads = np.empty(rules[2] + 2, np.int64)
    for segment in range(len(fixed) - 1, -1, -1):
        start, stop = bounds[segment], bounds[segment + 1]
        if fixed[segment] >= 0:
            for rank in range(most):
                best[start, rank] = best[stop, rank]
                pieces[start, rank], ends[start, rank] = fixed[segment], stop
                ranks[start, rank] = rank
            continue
        for place in range(stop - 1, start - 1, -1):
            count = list_arcs(data, place, stop, units, rules, arcs, stops)
            heads[:count] = 0
            for rank in range(most):
                top, chosen = -math.inf, -1
                for arc in range(count):
                    if heads[arc] < most:
                        score = scores[arcs[arc]] + best[stops[arc], heads[arc]]
                        if score > top:
                            top, chosen = score, arc
                if chosen < 0:
                    break
                best[place, rank] = top
                pieces[place, rank] = arcs[chosen]
                ends[place, rank] = stops[chosen]
                ranks[place, rank] = heads[chosen]
                heads[chosen] += 1


@kernel(
    "int64(uint8[::1], int64[::1], int32[::1], int64, float64[:, ::1], int32[:, ::1], "
    "int32[:, ::1], int32[:, ::1], int32[::1], int32[::1], int64[::1])"
)
def read_ways(
    data: Bytes8,
    rules: Ids64,
    byte_ids: Ids32,
    most: int,
    best: Matrix64,
    pieces: Ids32,
    ends: Ids32,
    ranks: Ids32,
    ids: Ids32,
    stops: Ids32,
    counts: Ids64,
) -> int:
    """Write the ways from the text's start, best first; return how many ids were written."""
    size = 0
    for way in range(most):
        if best[0, way] == -math.inf:
            counts[way] = -1
            continue
        begin = size
        place, rank = 0, way
        after_unknown = False
        while place < len(data):
            piece, end = pieces[place, rank], ends[place, rank]
            size = emit(
                piece, place, end, data, 0, rules, byte_ids, ids, stops, size, after_unknown
            )
            after_unknown = piece < 0
            rank = ranks[place, rank]
            place = end
        counts[way] = size - begin
    return size
