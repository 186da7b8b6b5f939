"""Draw distinct segmentations: the K paths with the largest Gumbel-perturbed log-probabilities.

Each path i gets G[i] = log p[i] + Gumbel noise; the K largest are a sample without replacement.
They are found without listing the paths: a partial path carries the largest G of all paths through
it, and its children get noise conditioned on having that largest value between them. The most
promising partial path is extended first, so the paths come out in falling G. The (K + 1)-th value,
κ, gives each path the chance to have been included, given the rest: 1 - exp(-exp(log p[i] - κ)).

Source: Kool et al. 2019, "Stochastic beams and where to find them"; the order of search is that of
A* sampling (Maddison et al. 2014).
"""

# A kernel takes arrays by position, is one loop, and knows the bytes of UTF-8.
# ruff: noqa: PLR0917
from __future__ import annotations

import math

import numpy as np

from service.numerics.dtypes import Bytes8, Ids32, Ids64, Vector64
from service.numerics.kernels import kernel
from service.numerics.lattice.linear import emit
from service.numerics.lattice.logspace import list_arcs
from service.numerics.lattice.philox import philox, unit


@kernel()
def _gumbel(block: int, name: np.uint64, key: Ids64) -> float:
    """Return draw number `block` of a stream; U is never 0 nor 1."""
    words = philox(np.uint64(block), np.uint64(0), name, np.uint64(1), key[0], key[1])
    return float(-math.log(-math.log(unit(words[0]) + 2.0**-54)))


@kernel()
def _sift_up(heap: Ids64, place: int, keys: Vector64) -> None:
    item = heap[place]
    while place > 0:
        above = (place - 1) // 2
        if keys[heap[above]] >= keys[item]:
            break
        heap[place] = heap[above]
        place = above
    heap[place] = item


@kernel()
def _sift_down(heap: Ids64, size: int, keys: Vector64) -> None:
    item = heap[0]
    place = 0
    while 2 * place + 1 < size:
        below = 2 * place + 1
        if below + 1 < size and keys[heap[below + 1]] > keys[heap[below]]:
            below += 1
        if keys[item] >= keys[heap[below]]:
            break
        heap[place] = heap[below]
        place = below
    heap[place] = item


@kernel()
def _condition(noisy: Vector64, count: int, target: float) -> None:
    """Shift perturbed values so that their largest is `target`, as if drawn so.

    With Z the largest, v = T - G + log(1 - exp(G - Z)) gives T - max(0, v) - log(1 + exp(-|v|)).
    """
    top = -math.inf
    for place in range(count):
        top = max(top, noisy[place])
    for place in range(count):
        gap = noisy[place] - top
        if gap == 0.0:
            noisy[place] = target
        else:
            shifted = target - noisy[place] + math.log1p(-math.exp(gap))
            noisy[place] = target - max(0.0, shifted) - math.log1p(math.exp(-abs(shifted)))


@kernel()
def _longer(numbers: np.ndarray) -> np.ndarray:
    """Return the array at twice its length."""
    longer = np.empty(2 * len(numbers), numbers.dtype)
    longer[: len(numbers)] = numbers
    return longer


@kernel(
    "int64(uint8[::1], int64[::1], int32[::1], int64[::1], float64[::1], int64[::1], "
    "int32[::1], float64[::1], uint64[::1], uint64, int64, int32[::1], int32[::1], int64[::1], "
    "float64[::1], float64[::1])"
)
def draw_distinct(  # noqa: C901, PLR0912, PLR0915 - one search; its parts share the whole state
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
    most: int,
    ids: Ids32,
    ends: Ids32,
    counts: Ids64,
    log_probs: Vector64,
    noises: Vector64,
) -> int:
    """Draw up to `most` distinct paths of one text from its log masses, by falling noise.

    Args:
        data: normalised bytes.
        bounds: of segments.
        fixed: ids of segments that are one piece.
        units: of the trie.
        logs: (v + 1,) α l.
        rules: of the vocabulary.
        byte_ids: of single bytes.
        masses: (n + 1,) L.
        key: of the random streams.
        name: which stream.
        most: K.
        ids: out.
        ends: out.
        counts: out, (K,), -1 where there are fewer paths.
        log_probs: out, (K,).
        noises: out, (K + 1,) perturbed log-probability of each path, then κ (-inf: none left).

    Returns:
        Number of ids written.
    """
    size = len(data)
    stop_at = np.empty(size + 1, np.int64)
    fixed_at = np.empty(size + 1, np.int32)
    for segment in range(len(fixed)):
        for place in range(bounds[segment], bounds[segment + 1]):
            stop_at[place], fixed_at[place] = bounds[segment + 1], fixed[segment]
    capacity = 1024 + rules[2]  # one more doubling then always holds the arcs of a place
    places = np.empty(capacity, np.int64)
    parents = np.empty(capacity, np.int64)
    pieces = np.empty(capacity, np.int32)
    log_chances = np.empty(capacity, np.float64)
    noisy = np.empty(capacity, np.float64)
    heap = np.empty(capacity, np.int64)
    arcs = np.empty(rules[2] + 2, np.int32)
    stops = np.empty(rules[2] + 2, np.int64)
    fresh = np.empty(rules[2] + 2, np.float64)
    trail = np.empty(size + 1, np.int64)
    draws = 1
    places[0], parents[0], pieces[0], log_chances[0] = 0, -1, -1, 0.0
    noisy[0] = _gumbel(0, name, key)
    heap[0] = 0
    used, waiting = 1, 1
    written, found = 0, 0
    counts[:] = -1
    noises[:] = -math.inf
    while waiting > 0:
        node = heap[0]
        place = places[node]
        if place == size:
            noises[found] = noisy[node]
            if found == most:
                break
            log_probs[found] = log_chances[node]
            length = 0
            step = node
            while parents[step] >= 0:
                trail[length] = step
                length += 1
                step = parents[step]
            begin = written
            after_unknown = False
            for back in range(length - 1, -1, -1):
                step = trail[back]
                origin = places[parents[step]]
                written = emit(
                    pieces[step],
                    origin,
                    places[step],
                    data,
                    0,
                    rules,
                    byte_ids,
                    ids,
                    ends,
                    written,
                    after_unknown,
                )
                after_unknown = pieces[step] < 0
            counts[found] = written - begin
            found += 1
        waiting -= 1
        heap[0] = heap[waiting]
        if waiting > 0:
            _sift_down(heap, waiting, noisy)
        if place == size:
            continue
        if fixed_at[place] >= 0:
            count = 1
            arcs[0], stops[0] = fixed_at[place], stop_at[place]
        else:
            count = list_arcs(data, place, stop_at[place], units, rules, arcs, stops)
        if used + count > capacity:
            capacity *= 2
            places = _longer(places)
            parents = _longer(parents)
            pieces = _longer(pieces)
            log_chances = _longer(log_chances)
            noisy = _longer(noisy)
            heap = _longer(heap)
        kept = 0
        for arc in range(count):
            step = 0.0 if fixed_at[place] >= 0 else logs[arcs[arc]]
            log_chance = log_chances[node] + step + masses[stops[arc]] - masses[place]
            if log_chance > -math.inf:
                places[used + kept], parents[used + kept] = stops[arc], node
                pieces[used + kept] = arcs[arc]
                log_chances[used + kept] = log_chance
                fresh[kept] = log_chance + _gumbel(draws, name, key)
                draws += 1
                kept += 1
        _condition(fresh, kept, noisy[node])
        for child in range(kept):
            noisy[used] = fresh[child]
            heap[waiting] = used
            _sift_up(heap, waiting, noisy)
            used += 1
            waiting += 1
    return written
