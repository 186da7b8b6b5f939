"""Mend shortest paths after a graph has changed a little, instead of searching them anew.

```
an edge is gone        its ends may have lost their way: those without another way as short, and
                       whoever came through them, are forgotten and reached again
an edge is new         whoever gets nearer by it tells its neighbours
```

The result is that of a search from nothing, to the bit: lengths satisfy d(v) = min over u of
d(u) + w(u, v), summed from the source outward, and no other numbers do.

Source: Ramalingam & Reps 1996, "An incremental algorithm for a generalization of the shortest-path
problem".
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush

import numpy as np

from service.capabilities.summarization.numerics.manifold import Manifold
from service.numerics.dtypes import Ids32, Ids64, Matrix32, Vector32
from service.numerics.graphs import Graph
from service.numerics.kernels import kernel
from service.numerics.paths import distances_from


@kernel("int64(int64[::1], int32[::1], float32[::1], int64, float32[::1], int64[::1], int64[::1])")
def _forget(  # noqa: PLR0917 - a kernel takes arrays, by place
    offsets: Ids64,
    targets: Ids32,
    lengths: Vector32,
    source: int,
    row: Vector32,
    suspects: Ids64,
    forgotten: Ids64,
) -> int:
    """Set to infinity what has no path of its length any more; list it and return how many.

    A row is supported by a neighbour that is nearer by exactly the edge. Rows are judged by rising
    length, so that whoever could support one has been judged before it.
    """
    heap = [(row[at], at) for at in suspects if at != source]
    heapify(heap)
    count = 0
    while len(heap) > 0:
        was, at = heappop(heap)
        if row[at] == np.inf:
            continue
        supported = False
        for edge in range(offsets[at], offsets[at + 1]):
            near = row[targets[edge]]
            supported |= near < was and np.float32(near + lengths[edge]) == was
        if supported:
            continue
        row[at] = np.inf
        forgotten[count] = at
        count += 1
        for edge in range(offsets[at], offsets[at + 1]):
            other = np.int64(targets[edge])
            if other != source and np.float32(was + lengths[edge]) == row[other]:
                heappush(heap, (row[other], other))
    return count


@kernel("void(int64[::1], int32[::1], float32[::1], float32[::1], int64[::1])")
def _reach_again(
    offsets: Ids64, targets: Ids32, lengths: Vector32, row: Vector32, changed: Ids64
) -> None:
    """Let the changed rows take the nearest way that a neighbour offers, and tell the others."""
    heap = [(row[0], np.int64(0)) for _ in range(0)]
    for at in changed:
        for edge in range(offsets[at], offsets[at + 1]):
            row[at] = min(row[at], np.float32(row[targets[edge]] + lengths[edge]))
        if row[at] < np.inf:
            heappush(heap, (row[at], at))
    while len(heap) > 0:
        length, at = heappop(heap)
        if length > row[at]:
            continue
        for edge in range(offsets[at], offsets[at + 1]):
            other = np.int64(targets[edge])
            reach = np.float32(length + lengths[edge])
            if reach < row[other]:
                row[other] = reach
                heappush(heap, (reach, other))


def mend_table(
    table: Matrix32, before: Manifold, now: Manifold, *, kept: Ids64, landmarks: int
) -> Matrix32:
    """Return the distances from the first `landmarks` rows to all rows of a changed graph.

    Args:
        table: (l, m) float32 of the graph before; infinite where no path led.
        before: of m rows.
        now: of n rows.
        kept: (m,) int64: where each row of before stands now, rising, -1 for one that is gone.
        landmarks: how many rows of the result.
    """
    count = now.graph.count
    result = np.full((landmarks, count), np.inf, np.float32)
    stay = np.flatnonzero(kept >= 0)
    suspects, fresh = _changes(before.graph, now.graph, kept)
    known = np.zeros(landmarks, np.bool_)
    forgotten = np.empty(count, np.int64)
    for old in stay[stay < len(table)]:
        place = int(kept[old])
        if place >= landmarks:
            break
        row = result[place]
        row[kept[stay]] = table[old, stay]
        arrays = now.graph.offsets, now.graph.targets, now.graph.lengths
        lost = _forget(*arrays, place, row, suspects, forgotten)
        _reach_again(*arrays, row, np.concatenate([forgotten[:lost], fresh]))
        known[place] = True
    new = np.flatnonzero(~known).astype(np.int32)
    result[new] = distances_from(now.graph, new)
    return result


def _changes(before: Graph, now: Graph, kept: Ids64) -> tuple[Ids64, Ids64]:
    """Return the rows of now at which an edge is gone, and those at which one is new."""
    count = now.count
    old_left, old_right = _ends(before)
    left, right = kept[old_left], kept[old_right]
    both = (left >= 0) & (right >= 0)
    was = left[both] * count + right[both]
    new_left, new_right = _ends(now)
    is_now = new_left * count + new_right
    gone = was[~np.isin(was, is_now)] // count
    # Each edge stands at both ends: where the other end is gone, this one stays behind.
    bereft = left[(left >= 0) & (right < 0)]
    come = is_now[~np.isin(is_now, was)] // count
    return np.unique(np.concatenate([gone, bereft])), np.unique(come)


def _ends(graph: Graph) -> tuple[Ids64, Ids64]:
    """Return both ends of every edge, in both directions."""
    left = np.repeat(np.arange(graph.count, dtype=np.int64), np.diff(graph.offsets))
    return left, graph.targets.astype(np.int64)
