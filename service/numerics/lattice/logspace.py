"""Filter, draw and measure a lattice in logarithms: slower, at any α, and for one text.

    L[n] = 0,   L[s] = logsumexp of α l[w] + L[e] over the arcs (s, e, w),   log Z = L[0]

From q(s, e) = exp(α l[w] + L[e] - L[s]), the chance of an arc given its start, follows the rest:

    A[e] = Σ A[s] q(s, e)            chance that a path has a cut at e, A[0] = 1
    A[s] q(s, e)                     chance that a path uses the piece there
    - Σ A[s] q log q                 entropy of the law in nats
    Σ A[s]                           expected number of pieces

Source: the forward-backward identities for a directed acyclic graph.
"""

# A kernel takes arrays by position, is one loop, and knows the bytes of UTF-8.
# ruff: noqa: C901, PLR0917, PLR2004
from __future__ import annotations

import math

import numpy as np

from service.numerics.dtypes import Bytes8, Ids32, Ids64, Vector64
from service.numerics.kernels import kernel
from service.numerics.lattice.charsmap import char_width
from service.numerics.lattice.linear import BY_CHARS, emit
from service.numerics.lattice.philox import philox, unit
from service.numerics.lattice.trie import NOWHERE, rank_at, step


@kernel()
def list_arcs(
    data: Bytes8,
    place: int,
    stop: int,
    units: Ids64,
    rules: Ids64,
    pieces: Ids32,
    ends: Ids64,
) -> int:
    """Write the arcs that begin at a place, shorter ones first, and return how many there are.

    An unknown character is piece -1.
    """
    lead = data[place]
    if rules[BY_CHARS] and lead & 0xC0 == 0x80:
        return 0  # inside a character
    count = 0
    node = units[0]
    width = char_width(lead)
    alone = False
    for here in range(place, stop):
        node = step(units, node, data[here])
        if node == NOWHERE:
            break
        rank = rank_at(node)
        if rank > 0:
            pieces[count], ends[count] = rank - 1, here + 1
            count += 1
            if here + 1 - place == width:
                alone = True
    if rules[BY_CHARS] and not alone:
        pieces[count], ends[count] = -1, min(place + width, stop)
        count += 1
    return count


@kernel()
def log_sum(numbers: Vector64, count: int) -> float:
    """Return log Σ exp; -inf for none."""
    top = -math.inf
    for place in range(count):
        top = max(top, numbers[place])
    if top == -math.inf:
        return top
    total = 0.0
    for place in range(count):
        total += math.exp(numbers[place] - top)
    return float(top + math.log(total))


@kernel(
    "void(uint8[::1], int64[::1], int32[::1], int64[::1], float64[::1], int64[::1], float64[::1])"
)
def filter_log(
    data: Bytes8,
    bounds: Ids64,
    fixed: Ids32,
    units: Ids64,
    logs: Vector64,
    rules: Ids64,
    masses: Vector64,
) -> None:
    """Fill L for one text, (n + 1,); -inf where no path goes on."""
    size = len(data)
    masses[:] = -math.inf
    masses[size] = 0.0
    pieces = np.empty(rules[2] + 2, np.int32)
    ends = np.empty(rules[2] + 2, np.int64)
    terms = np.empty(rules[2] + 2, np.float64)
    for segment in range(len(fixed) - 1, -1, -1):
        start, stop = bounds[segment], bounds[segment + 1]
        if fixed[segment] >= 0:
            masses[start] = masses[stop]
            continue
        for place in range(stop - 1, start - 1, -1):
            count = list_arcs(data, place, stop, units, rules, pieces, ends)
            for arc in range(count):
                terms[arc] = logs[pieces[arc]] + masses[ends[arc]]
            masses[place] = log_sum(terms, count)


@kernel(
    "int64(uint8[::1], int64[::1], int32[::1], int64[::1], float64[::1], int64[::1], "
    "int32[::1], float64[::1], uint64[::1], uint64, int64, int32[::1], int32[::1], int64[::1], "
    "float64[::1])"
)
def sample_text_log(
    data: Bytes8,
    bounds: Ids64,
    fixed: Ids32,
    units: Ids64,
    logs: Vector64,
    rules: Ids64,
    byte_ids: Ids32,
    masses: Vector64,
    key: Ids64,
    name: np.uint64,
    samples: int,
    ids: Ids32,
    ends: Ids32,
    counts: Ids64,
    log_probs: Vector64,
) -> int:
    """Draw paths of one text from its log masses; `linear.sample_texts` explains the arguments."""
    pieces = np.empty(rules[2] + 2, np.int32)
    stops = np.empty(rules[2] + 2, np.int64)
    size = 0
    for sample in range(samples):
        begin = size
        total = 0.0
        block = np.uint64(0)
        words = (np.uint64(0), np.uint64(0), np.uint64(0), np.uint64(0))
        left = 0
        after_unknown = False
        for segment in range(len(fixed)):
            place, stop = bounds[segment], bounds[segment + 1]
            if fixed[segment] >= 0:
                ids[size], ends[size] = fixed[segment], stop
                size += 1
                after_unknown = False
                continue
            while place < stop:
                if left == 0:
                    words = philox(block, np.uint64(sample), name, np.uint64(0), key[0], key[1])
                    block += np.uint64(1)
                    left = 4
                left -= 1
                goal = unit(words[3 - left])
                count = list_arcs(data, place, stop, units, rules, pieces, stops)
                chosen = 0
                for arc in range(count):
                    part = math.exp(logs[pieces[arc]] + masses[stops[arc]] - masses[place])
                    if part > 0.0:
                        chosen = arc
                        goal -= part
                        if goal < 0.0:
                            break
                piece, end = pieces[chosen], stops[chosen]
                total += logs[piece]
                size = emit(
                    piece, place, end, data, 0, rules, byte_ids, ids, ends, size, after_unknown
                )
                after_unknown = piece < 0
                place = end
        counts[sample] = size - begin
        log_probs[sample] = total - masses[0]
    return size


@kernel(
    "Tuple((float64, float64))(uint8[::1], int64[::1], int32[::1], int64[::1], float64[::1], "
    "int64[::1], boolean, float64[::1], float64[::1])"
)
def measure_text(
    data: Bytes8,
    bounds: Ids64,
    fixed: Ids32,
    units: Ids64,
    logs: Vector64,
    rules: Ids64,
    as_bytes: bool,
    masses: Vector64,
    cuts: Vector64,
) -> tuple[float, float]:
    """Return the entropy and the expected number of printed ids, and fill A, (n + 1,), in `cuts`.

    `as_bytes` says that an unknown character is printed as one id a byte; otherwise a run of
    unknown characters is one id, so the chance that two follow each other is taken off.
    """
    pieces = np.empty(rules[2] + 2, np.int32)
    ends = np.empty(rules[2] + 2, np.int64)
    unknown = np.zeros(len(data) + 1, np.float64)  # chance that an unknown character ends here
    cuts[:] = 0.0
    cuts[0] = 1.0
    entropy, printed = 0.0, 0.0
    for segment in range(len(fixed)):
        start, stop = bounds[segment], bounds[segment + 1]
        if fixed[segment] >= 0:
            cuts[stop] += cuts[start]
            printed += 1.0
            continue
        for place in range(start, stop):
            if cuts[place] == 0.0:
                continue
            count = list_arcs(data, place, stop, units, rules, pieces, ends)
            for arc in range(count):
                end = ends[arc]
                log_chance = logs[pieces[arc]] + masses[end] - masses[place]
                chance = math.exp(log_chance)
                if chance == 0.0:
                    continue
                used = cuts[place] * chance
                cuts[end] += used
                entropy -= used * log_chance
                if pieces[arc] >= 0:
                    printed += used
                elif as_bytes:
                    printed += used * (end - place)
                else:
                    printed += used - unknown[place] * chance
                    unknown[end] += used
    return entropy, printed


@kernel(
    "int64(uint8[::1], int64[::1], int32[::1], int64[::1], float64[::1], int64[::1], "
    "float64[::1], float64[::1], int32[::1], int32[::1], int32[::1], float64[::1])"
)
def list_marginals(
    data: Bytes8,
    bounds: Ids64,
    fixed: Ids32,
    units: Ids64,
    logs: Vector64,
    rules: Ids64,
    masses: Vector64,
    cuts: Vector64,
    pieces: Ids32,
    starts: Ids32,
    ends: Ids32,
    chances: Vector64,
) -> int:
    """Write every arc with the chance that a path uses it; return how many there are.

    Nothing is written beyond the length of `pieces`: the caller then calls again with more room.
    """
    found = np.empty(rules[2] + 2, np.int32)
    stops = np.empty(rules[2] + 2, np.int64)
    size = 0
    for segment in range(len(fixed)):
        start, stop = bounds[segment], bounds[segment + 1]
        if fixed[segment] >= 0:
            if size < len(pieces):
                pieces[size], starts[size], ends[size] = fixed[segment], start, stop
                chances[size] = cuts[start]
            size += 1
            continue
        for place in range(start, stop):
            if masses[place] == -math.inf:
                continue
            count = list_arcs(data, place, stop, units, rules, found, stops)
            for arc in range(count):
                if size < len(pieces):
                    pieces[size], starts[size], ends[size] = found[arc], place, stops[arc]
                    log_chance = logs[found[arc]] + masses[stops[arc]] - masses[place]
                    chances[size] = cuts[place] * math.exp(log_chance)
                size += 1
    return size


@kernel(
    "float64(uint8[::1], int64[::1], int32[::1], int64[::1], float64[::1], int64[::1], int64[::1])"
)
def score_cuts(
    data: Bytes8,
    bounds: Ids64,
    fixed: Ids32,
    units: Ids64,
    logs: Vector64,
    rules: Ids64,
    cuts: Ids64,
) -> float:
    """Return Σ α l of the path with these ends of pieces, -inf where it is none.

    A cut at each end of a segment must be among them; all rise.
    """
    found = np.empty(rules[2] + 2, np.int32)
    stops = np.empty(rules[2] + 2, np.int64)
    total = 0.0
    place, number = 0, 0
    for segment in range(len(fixed)):
        stop = bounds[segment + 1]
        while place < stop:
            if number >= len(cuts) or cuts[number] > stop:
                return -math.inf
            end = cuts[number]
            number += 1
            if fixed[segment] >= 0:
                if end != stop:
                    return -math.inf
                place = end
                continue
            count = list_arcs(data, place, stop, units, rules, found, stops)
            arc = 0
            while arc < count and stops[arc] != end:
                arc += 1
            if arc == count:
                return -math.inf
            total += logs[found[arc]]
            place = end
    return total if number == len(cuts) else -math.inf
