"""Merge pairs of symbols, best first: byte-pair encoding, with dropout where asked.

At each step the pair of neighbours with the best rank is joined, the leftmost of equals. With
dropout p a pair that comes up is passed over with probability p and comes up again only when one of
its neighbours changes: p = 0 is plain BPE, p = 1 leaves the symbols alone.

Source: Sennrich et al. 2016 (BPE); Provilkov et al. 2020 (dropout).
"""

# A kernel takes arrays by position, is one loop, and knows the bytes of UTF-8.
# ruff: noqa: PLR0915, PLR0917
from __future__ import annotations

import numpy as np

from service.numerics.dtypes import Ids32, Ids64, Vector64
from service.numerics.kernels import kernel
from service.numerics.lattice.philox import philox, unit

FROZEN = -2  # a symbol that joins no other
_PAIR = 1 << 32


@kernel()
def _find_pair(left: int, right: int, pairs: Ids64) -> int:
    """Return the place of a pair in the sorted table, or -1."""
    wanted = left * _PAIR + right
    place = np.searchsorted(pairs, wanted)
    return int(place) if place < len(pairs) and pairs[place] == wanted else -1


@kernel()
def _before(left: int, right: int, ranks: Vector64, places: Ids32) -> bool:
    """Return whether one candidate comes before another: lower rank, then further left."""
    if ranks[left] != ranks[right]:
        return bool(ranks[left] < ranks[right])
    return bool(places[left] < places[right])


@kernel()
def _push(heap: Ids32, size: int, item: int, ranks: Vector64, places: Ids32) -> int:
    place = size
    while place > 0:
        above = (place - 1) // 2
        if not _before(item, heap[above], ranks, places):
            break
        heap[place] = heap[above]
        place = above
    heap[place] = item
    return size + 1


@kernel()
def _pop(heap: Ids32, size: int, ranks: Vector64, places: Ids32) -> int:
    """Take the first item off and return the size after it."""
    size -= 1
    item = heap[size]
    place = 0
    while 2 * place + 1 < size:
        below = 2 * place + 1
        if below + 1 < size and _before(heap[below + 1], heap[below], ranks, places):
            below += 1
        if not _before(heap[below], item, ranks, places):
            break
        heap[place] = heap[below]
        place = below
    heap[place] = item
    return size


@kernel(
    "int64(int32[::1], int32[::1], int64[::1], float64[::1], int32[::1], float64, uint64[::1], "
    "uint64, uint64, uint64)"
)
def merge_symbols(  # noqa: C901 - one loop over the queue
    symbols: Ids32,
    ends: Ids32,
    pairs: Ids64,
    ranks: Vector64,
    joined: Ids32,
    dropout: float,
    key: Ids64,
    name: np.uint64,
    sample: np.uint64,
    word: np.uint64,
) -> int:
    """Merge one word in place and return how many symbols are left.

    Args:
        symbols: in and out, ids from left to right.
        ends: in and out, where each ends.
        pairs: sorted, left * 2^32 + right of each merge.
        ranks: of each merge, lower first.
        joined: id that each merge makes.
        dropout: probability of passing over a merge.
        key: of the random streams.
        name: which stream.
        sample: which sample of it.
        word: which word of it.
    """
    size = len(symbols)
    before = np.arange(-1, size - 1).astype(np.int32)
    after = np.arange(1, size + 1).astype(np.int32)
    # At most one candidate a neighbouring pair, and two more a merge.
    capacity = 3 * size + 2
    lefts = np.empty(capacity, np.int32)
    rights = np.empty(capacity, np.int32)
    merges = np.empty(capacity, np.int32)
    left_ids = np.empty(capacity, np.int32)
    right_ids = np.empty(capacity, np.int32)
    costs = np.empty(capacity, np.float64)
    heap = np.empty(capacity, np.int32)
    used, waiting, draws = 0, 0, 0
    fresh = np.empty((2, 2), np.int64)
    for start in range(size - 1):
        merge = _find_pair(symbols[start], symbols[start + 1], pairs)
        if merge >= 0:
            lefts[used], rights[used], merges[used] = start, start + 1, merge
            left_ids[used], right_ids[used] = symbols[start], symbols[start + 1]
            costs[used] = ranks[merge]
            waiting = _push(heap, waiting, used, costs, lefts)
            used += 1
    while waiting > 0:
        top = heap[0]
        waiting = _pop(heap, waiting, costs, lefts)
        left, right = lefts[top], rights[top]
        if symbols[left] != left_ids[top] or symbols[right] != right_ids[top]:
            continue
        if after[left] != right:
            continue
        if dropout > 0.0:
            words = philox(np.uint64(draws), sample, name, word, key[0], key[1])
            draws += 1
            if unit(words[0]) < dropout:
                continue
        symbols[left] = joined[merges[top]]
        ends[left] = ends[right]
        symbols[right] = FROZEN
        after[left] = after[right]
        if after[right] < size:
            before[after[right]] = left
        fresh[0, 0], fresh[0, 1] = before[left], left
        fresh[1, 0], fresh[1, 1] = left, after[left]
        for number in range(2):
            first, second = fresh[number, 0], fresh[number, 1]
            if first < 0 or second >= size:
                continue
            merge = _find_pair(symbols[first], symbols[second], pairs)
            if merge >= 0:
                lefts[used], rights[used], merges[used] = first, second, merge
                left_ids[used], right_ids[used] = symbols[first], symbols[second]
                costs[used] = ranks[merge]
                waiting = _push(heap, waiting, used, costs, lefts)
                used += 1
    kept = 0
    place = 0
    while place < size:
        symbols[kept], ends[kept] = symbols[place], ends[place]
        kept += 1
        place = after[place]
    return kept
