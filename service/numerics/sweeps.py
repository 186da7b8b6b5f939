"""Find the shortest paths from many sources at once, along one order of the rows.

```
            sources of a block ─►  one vectorised step takes an edge for all of them
rows      ┌ 0.0  0.4  0.3 … ┐
nearest   │ 0.4  0.0  0.6 … │      row ◄─ least of (neighbour + edge), until no row changes
first     └  ∞    ∞    ∞  … ┘      a row is looked at only after a neighbour of it has changed
```

Sources of a block are near each other, so the order in which one of them meets the rows is nearly
right for all, and a row is looked at three to five times. Float32 sums never fall along a path, so
there is one solution, the one that Dijkstra's search finds: lengths are equal to the bit, whatever
the blocks and the order.

Source: Bellman 1958, "On a routing problem".
"""

from __future__ import annotations

import numpy as np

from service.numerics.dtypes import Bools, Ids32, Ids64, Matrix32, Vector32
from service.numerics.graphs import Graph
from service.numerics.kernels import kernel

# Looks at a row, on average, after which a search for each source alone would be as fast.
_PATIENCE = 32
_UNKNOWN = np.int32(2**29)
_ONE = np.int32(1)


@kernel()
def _touch(offsets: Ids64, targets: Ids32, row: int, touched: Bools) -> None:
    """Note that the neighbours of a row have to be looked at."""
    for edge in range(offsets[row], offsets[row + 1]):
        touched[targets[edge]] = True


@kernel()
def _shorten(  # noqa: PLR0917 - a kernel takes arrays, by place
    offsets: Ids64,
    targets: Ids32,
    edge_lengths: Vector32,
    row: int,
    lengths: Matrix32,
    best: Vector32,
) -> bool:
    """Take the shortest way to a row from every source; return whether one is new.

    Four edges a step: the best of them is read and written once.
    """
    lanes = lengths.shape[1]
    for lane in range(lanes):
        best[lane] = lengths[row, lane]
    edge, end = offsets[row], offsets[row + 1]
    while edge + 4 <= end:
        a, b, c, d = targets[edge], targets[edge + 1], targets[edge + 2], targets[edge + 3]
        to_a, to_b = edge_lengths[edge], edge_lengths[edge + 1]
        to_c, to_d = edge_lengths[edge + 2], edge_lengths[edge + 3]
        for lane in range(lanes):
            one = np.minimum(lengths[a, lane] + to_a, lengths[b, lane] + to_b)
            other = np.minimum(lengths[c, lane] + to_c, lengths[d, lane] + to_d)
            best[lane] = np.minimum(best[lane], np.minimum(one, other))
        edge += 4
    while edge < end:
        a, to_a = targets[edge], edge_lengths[edge]
        for lane in range(lanes):
            best[lane] = np.minimum(best[lane], lengths[a, lane] + to_a)
        edge += 1
    changed = False
    for lane in range(lanes):
        changed |= best[lane] != lengths[row, lane]
        lengths[row, lane] = best[lane]
    return changed


@kernel(
    "boolean(int64[::1], int32[::1], float32[::1], int32[::1], boolean[::1], float32[:, ::1],"
    " float32[::1])"
)
def _sweep_lengths(  # noqa: PLR0917 - a kernel takes arrays, by place
    offsets: Ids64,
    targets: Ids32,
    edge_lengths: Vector32,
    order: Ids32,
    touched: Bools,
    lengths: Matrix32,
    best: Vector32,
) -> bool:
    """Shorten until nothing changes; return False where patience ended before."""
    left = _PATIENCE * order.shape[0]
    changed = True
    while changed and left > 0:
        changed = False
        for at in range(order.shape[0]):
            row = order[at]
            if touched[row]:
                touched[row] = False
                left -= 1
                if _shorten(offsets, targets, edge_lengths, row, lengths, best):
                    changed = True
                    _touch(offsets, targets, row, touched)
    return not changed


@kernel()
def _take_fewer(  # noqa: PLR0917 - a kernel takes arrays, by place
    offsets: Ids64,
    targets: Ids32,
    edge_lengths: Vector32,
    row: int,
    lengths: Matrix32,
    hops: Ids32,
    best: Ids32,
) -> bool:
    """Take the shortest path of fewest edges to a row from every source; return whether new."""
    lanes = hops.shape[1]
    for lane in range(lanes):
        best[lane] = hops[row, lane]
    for edge in range(offsets[row], offsets[row + 1]):
        other, step = targets[edge], edge_lengths[edge]
        for lane in range(lanes):
            shortest = lengths[other, lane] + step == lengths[row, lane]
            further = np.int32(hops[other, lane] + (_ONE if shortest else _UNKNOWN))
            best[lane] = np.minimum(best[lane], further)
    changed = False
    for lane in range(lanes):
        changed |= best[lane] != hops[row, lane]
        hops[row, lane] = best[lane]
    return changed


@kernel(
    "boolean(int64[::1], int32[::1], float32[::1], int32[::1], boolean[::1], float32[:, ::1],"
    " int32[:, ::1], int32[::1])"
)
def _sweep_hops(  # noqa: PLR0917 - a kernel takes arrays, by place
    offsets: Ids64,
    targets: Ids32,
    edge_lengths: Vector32,
    order: Ids32,
    touched: Bools,
    lengths: Matrix32,
    hops: Ids32,
    best: Ids32,
) -> bool:
    """Count the edges of the shortest paths until nothing changes; False where patience ended."""
    left = _PATIENCE * order.shape[0]
    changed = True
    while changed and left > 0:
        changed = False
        for at in range(order.shape[0]):
            row = order[at]
            if touched[row]:
                touched[row] = False
                left -= 1
                if _take_fewer(offsets, targets, edge_lengths, row, lengths, hops, best):
                    changed = True
                    _touch(offsets, targets, row, touched)
    return not changed


def sweep_lengths(graph: Graph, order: Ids32, sources: Ids32) -> Matrix32 | None:
    """Return (n, s) float32: the length of the shortest path to each row from each source.

    Args:
        graph: of n rows.
        order: the rows that the sources reach, in an order that is roughly theirs.
        sources: (s,) int32 rows, each once.

    Returns:
        None where so many ways have to be revised that a search for each source alone is faster.
    """
    lengths = np.full((graph.count, len(sources)), np.inf, np.float32)
    lengths[sources, np.arange(len(sources))] = 0
    best = np.empty(len(sources), np.float32)
    still = _sweep_lengths(*_edges(graph), order, _neighbours(graph, sources), lengths, best)
    return lengths if still else None


def sweep_hops(graph: Graph, order: Ids32, sources: Ids32, lengths: Matrix32) -> Ids32 | None:
    """Return (n, s) int32: the edges on the shortest paths, of several the fewest; -1 for none.

    Args:
        graph: of n rows.
        order: as for `sweep_lengths`.
        sources: likewise.
        lengths: (n, s) float32, what that returned.

    Returns:
        None as there.
    """
    hops = np.full((graph.count, len(sources)), _UNKNOWN, np.int32)
    hops[sources, np.arange(len(sources))] = 0
    best = np.empty(len(sources), np.int32)
    touched = _neighbours(graph, sources)
    if not _sweep_hops(*_edges(graph), order, touched, lengths, hops, best):
        return None
    hops[np.isinf(lengths)] = -1
    return hops


def _edges(graph: Graph) -> tuple[Ids64, Ids32, Vector32]:
    return graph.offsets, graph.targets, graph.lengths


def _neighbours(graph: Graph, rows: Ids32) -> Bools:
    """Return (n,) whether a row is a neighbour of one of some rows."""
    found = np.zeros(graph.count, np.bool_)
    for row in rows:
        found[graph.targets[graph.offsets[row] : graph.offsets[row + 1]]] = True
    return found
