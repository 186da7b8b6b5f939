"""Draw by the first published rule of Viterbi sampling: biased, kept for comparison.

As the best path is searched from left to right, a new arc replaces the incumbent at its end with
probability sigmoid(α (new - incumbent)), both being scores of the paths that happen to be held. Of
m equally good arcs into one place the last wins half the time, the first two 2^-(m-1) each, where
1/m would be right. `linear` draws from the law itself.

Source: Su Jianlin 2023, kexue.fm/archives/9768 (withdrawn by its author in archives/9811).
"""

# A kernel takes arrays by position, is one loop, and knows the bytes of UTF-8.
# ruff: noqa: C901, PLR0917
from __future__ import annotations

import math

import numpy as np

from service.numerics.dtypes import Bytes8, Ids32, Ids64, Vector64
from service.numerics.kernels import kernel
from service.numerics.lattice.linear import emit
from service.numerics.lattice.logspace import list_arcs
from service.numerics.lattice.philox import philox, unit


@kernel()
def _sigmoid(number: float) -> float:
    if number >= 0.0:
        return 1.0 / (1.0 + math.exp(-number))
    tail = math.exp(number)
    return tail / (1.0 + tail)


@kernel()
def _read_back(
    data: Bytes8,
    rules: Ids64,
    byte_ids: Ids32,
    pieces: Ids32,
    backs: Ids64,
    ids: Ids32,
    ends: Ids32,
    size: int,
) -> int:
    """Write the path that the back pointers tell and return the number of ids so far."""
    trail = np.empty(len(data) + 1, np.int64)
    length = 0
    place = len(data)
    while place > 0:
        trail[length] = place
        length += 1
        place = backs[place]
    after_unknown = False
    for back in range(length - 1, -1, -1):
        end = trail[back]
        size = emit(
            pieces[end], place, end, data, 0, rules, byte_ids, ids, ends, size, after_unknown
        )
        after_unknown = pieces[end] < 0
        place = end
    return size


@kernel(
    "int64(uint8[::1], int64[::1], int32[::1], int64[::1], float64[::1], int64[::1], "
    "int32[::1], uint64[::1], uint64, int64, int32[::1], int32[::1], int64[::1], float64[::1])"
)
def sample_text_v1(
    data: Bytes8,
    bounds: Ids64,
    fixed: Ids32,
    units: Ids64,
    logs: Vector64,
    rules: Ids64,
    byte_ids: Ids32,
    key: Ids64,
    name: np.uint64,
    samples: int,
    ids: Ids32,
    ends: Ids32,
    counts: Ids64,
    totals: Vector64,
) -> int:
    """Draw paths of one text; return the number of ids, or -1 where no piece covers the text.

    Args:
        data: normalised bytes.
        bounds: of segments.
        fixed: ids of segments that are one piece.
        units: of the trie.
        logs: (v + 1,) α l.
        rules: of the vocabulary.
        byte_ids: of single bytes.
        key: of the random streams.
        name: which stream.
        samples: how many.
        ids: out.
        ends: out.
        counts: out, (samples,).
        totals: out, (samples,) Σ α l of each path.
    """
    arcs = np.empty(rules[2] + 2, np.int32)
    stops = np.empty(rules[2] + 2, np.int64)
    held = np.empty(len(data) + 1, np.float64)
    pieces = np.empty(len(data) + 1, np.int32)
    backs = np.empty(len(data) + 1, np.int64)
    size = 0
    for sample in range(samples):
        begin = size
        block = 0
        held[:] = -math.inf
        held[0] = 0.0
        for segment in range(len(fixed)):
            start, stop = bounds[segment], bounds[segment + 1]
            if fixed[segment] >= 0:
                held[stop], pieces[stop], backs[stop] = held[start], fixed[segment], start
                continue
            for place in range(start, stop):
                if held[place] == -math.inf:
                    continue
                count = list_arcs(data, place, stop, units, rules, arcs, stops)
                for arc in range(count):
                    end = stops[arc]
                    score = held[place] + logs[arcs[arc]]
                    words = philox(
                        np.uint64(block), np.uint64(sample), name, np.uint64(2), key[0], key[1]
                    )
                    block += 1
                    if held[end] == -math.inf or unit(words[0]) < _sigmoid(score - held[end]):
                        held[end], pieces[end], backs[end] = score, arcs[arc], place
        if held[len(data)] == -math.inf:
            return -1
        size = _read_back(data, rules, byte_ids, pieces, backs, ids, ends, size)
        counts[sample] = size - begin
        totals[sample] = held[len(data)]
    return size
