"""Find shortest paths in a graph: from a few rows with an early stop, or between all rows.

The heap has four children a node and holds (length, row) as one number: one comparison orders
entries by length, and ties by row. An entry that a shorter path made stale stays in the heap and is
passed over. Of equally short paths the one of fewest edges counts, and of those the one with the
lower row before the end. Between all rows, sources go in blocks (`sweeps`).

Source: Dijkstra 1959, "A note on two problems in connexion with graphs".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from service.errors import InvalidInput
from service.numerics.dtypes import Ids32, Ids64, Matrix32, Progress, Vector32
from service.numerics.graphs import Graph
from service.numerics.kernels import kernel
from service.numerics.neighbours import silent
from service.numerics.sweeps import sweep_hops, sweep_lengths

NOBODY = -1
Entries: TypeAlias = npt.NDArray[np.uint64]
_LANES = 64  # sources of a block (decision 0030)
_FEW = 4  # sources for which a search each is faster


@dataclass(frozen=True, slots=True)
class Reached:
    """Hold what a search reached, by rising length, ties by row.

    Attributes:
        rows: (m,) int32.
        lengths: (m,) float32 of the shortest path.
        hops: (m,) int32 edges on it; 0 for a seed.
        predecessors: (n,) int32, the row before each settled row on its path, -1 before a seed;
            what it holds of other rows has no meaning.
    """

    rows: Ids32
    lengths: Vector32
    hops: Ids32
    predecessors: Ids32


@dataclass(frozen=True, slots=True)
class AllPairs:
    """Hold the shortest paths between all rows.

    Attributes:
        lengths: (n, n) float32, symmetric; infinite where there is no path.
        hops: (n, n) int32 edges on the path from row to column, -1 where there is none.
    """

    lengths: Matrix32
    hops: Ids32


@kernel()
def _entry(length: np.floating, row: int | np.signedinteger) -> np.uint64:
    """Return length and row as one whole number, in the order of (length, row).

    Floats that are not negative are ordered as their bits are.
    """
    bits = np.float32(length).view(np.uint32)
    return np.uint64((np.uint64(bits) << np.uint64(32)) | np.uint64(row))


@kernel()
def _length(entry: np.uint64) -> np.float32:
    return np.float32(np.uint32(entry >> np.uint64(32)).view(np.float32))


@kernel()
def _row(entry: np.uint64) -> int:
    return int(entry & np.uint64(0xFFFFFFFF))


@kernel()
def _push(heap: Entries, size: int, entry: np.uint64) -> int:
    """Add an entry and return the new size."""
    place = size
    while place > 0:
        parent = (place - 1) >> 2
        if heap[parent] <= entry:
            break
        heap[place] = heap[parent]
        place = parent
    heap[place] = entry
    return size + 1


@kernel()
def _pop(heap: Entries, size: int) -> int:
    """Remove the least entry, which stands at 0, and return the new size."""
    size -= 1
    entry = heap[size]
    place = 0
    least = 1
    while least < size:
        for child in range(least + 1, min(least + 4, size)):
            if heap[child] < heap[least]:
                least = child
        if entry <= heap[least]:
            break
        heap[place] = heap[least]
        place = least
        least = 4 * place + 1
    heap[place] = entry
    return size


@kernel()
def _sow(  # noqa: PLR0917 - a kernel takes arrays, by place
    heap: Entries,
    seeds: Ids32,
    seed_lengths: Vector32,
    lengths: Vector32,
    hops: Ids32,
    predecessors: Ids32,
) -> int:
    """Put the seeds into an empty heap and return its size."""
    size = 0
    for at in range(seeds.shape[0]):
        row = seeds[at]
        if seed_lengths[at] < lengths[row]:
            lengths[row], hops[row], predecessors[row] = seed_lengths[at], 0, NOBODY
            size = _push(heap, size, _entry(seed_lengths[at], row))
    return size


@kernel()
def _settle(settled: Ids32, done: int, row: int, lengths: Vector32) -> int:
    """Add a row behind those of shorter paths, and of equal ones lower rows; return the count."""
    place = done  # an edge of length 0 may lead to a lower row after a higher one
    while place > 0 and settled[place - 1] > row and lengths[settled[place - 1]] == lengths[row]:
        settled[place] = settled[place - 1]
        place -= 1
    settled[place] = row
    return done + 1


@kernel()
def _take_fewest(  # noqa: PLR0917 - a kernel takes arrays, by place
    offsets: Ids64,
    targets: Ids32,
    edge_lengths: Vector32,
    lengths: Vector32,
    hops: Ids32,
    predecessors: Ids32,
    settled: Ids32,
) -> None:
    """Choose among equally short paths those of fewest edges, then of the lowest row before."""
    changed = True
    while changed:
        changed = False
        for at in range(settled.shape[0]):
            row = settled[at]
            for edge in range(offsets[row], offsets[row + 1]):
                before = targets[edge]
                if lengths[before] + edge_lengths[edge] == lengths[row] and (
                    hops[before] + 1 < hops[row]
                    or (hops[before] + 1 == hops[row] and before < predecessors[row])
                ):
                    hops[row], predecessors[row] = hops[before] + 1, before
                    changed = True


@kernel(
    "int64(int64[::1], int32[::1], float32[::1], int32[::1], float32[::1], int64, int64, float32,"
    " float32[::1], int32[::1], int32[::1], int32[::1])"
)
def _search(  # noqa: PLR0917 - a kernel takes arrays, by place
    offsets: Ids64,
    targets: Ids32,
    edge_lengths: Vector32,
    seeds: Ids32,
    seed_lengths: Vector32,
    top: int,
    until: int,
    most: np.float32,
    lengths: Vector32,
    hops: Ids32,
    predecessors: Ids32,
    settled: Ids32,
) -> int:
    """Settle rows by rising length and return how many.

    It stops beyond `most`, or when `top` rows or the row `until` are settled and the next path is
    longer than theirs.
    `lengths` comes filled with infinity; what the other arrays hold of a row that was never seen
    has no meaning, and need not be written.
    """
    # Each edge enters at most once from each end. The system lends only the pages that are touched.
    heap = np.empty(seeds.shape[0] + targets.shape[0], np.uint64)
    size = _sow(heap, seeds, seed_lengths, lengths, hops, predecessors)
    done = 0
    ties = 0
    while size > 0 and _length(heap[0]) <= most:
        length, row = _length(heap[0]), _row(heap[0])
        size = _pop(heap, size)
        if length > lengths[row]:
            continue
        done = _settle(settled, done, row, lengths)
        if done == top or row == until:
            most = length
        for edge in range(offsets[row], offsets[row + 1]):
            target = targets[edge]
            reach = length + edge_lengths[edge]
            if reach < lengths[target]:
                lengths[target], hops[target], predecessors[target] = reach, hops[row] + 1, row
                size = _push(heap, size, _entry(reach, target))
            else:
                ties += reach == lengths[target]
    if ties > 0:
        _take_fewest(offsets, targets, edge_lengths, lengths, hops, predecessors, settled[:done])
    return done


def nearest_by_path(
    graph: Graph,
    seeds: Ids32,
    *,
    seed_lengths: Vector32,
    top: int | None = None,
    until: int = NOBODY,
    max_distance: float | None = None,
) -> Reached:
    """Return the rows nearest to the seeds along the graph.

    It stops as soon as the answer is known: a few near rows cost little in a graph of any size.

    Args:
        graph: of n rows.
        seeds: (s,) int32 rows where paths begin.
        seed_lengths: (s,) float32, the length that each path begins with: 0, or the distance from
            a query that is no row.
        top: most rows wanted; None for all that can be reached.
        until: a row behind which nothing is wanted, -1 for none.
        max_distance: longest path wanted.
    """
    count = graph.count
    wanted = count if top is None else min(top, count)
    most = np.float32(np.inf if max_distance is None else max_distance)
    lengths = np.full(count, np.inf, np.float32)
    hops, predecessors = np.empty(count, np.int32), np.empty(count, np.int32)
    settled = np.empty(count, np.int32)
    done = _search(
        graph.offsets,
        graph.targets,
        graph.lengths,
        np.ascontiguousarray(seeds, np.int32),
        np.ascontiguousarray(seed_lengths, np.float32),
        wanted,
        until,
        most,
        lengths,
        hops,
        predecessors,
        settled,
    )
    # Ties at the last length were all settled: the lowest rows among them are the answer.
    rows = settled[: min(done, wanted)].copy()
    return Reached(rows, lengths[rows], hops[rows], predecessors)


def all_pairs(graph: Graph, *, progress: Progress = silent) -> AllPairs:
    """Return the shortest paths between all rows; it takes 8 n² bytes.

    A path and its way back add the same edges in another order. The lengths of the two are made
    one, so that the matrix is symmetric to the bit.

    Args:
        graph: of n rows.
        progress: told the sources done.
    """
    lengths = np.empty((graph.count, graph.count), np.float32)
    hops = np.empty((graph.count, graph.count), np.int32)
    everybody = np.arange(graph.count, dtype=np.int32)
    for sources, order in _blocks(graph, everybody, progress):
        lengths[sources], hops[sources] = _paths_from(graph, order, sources)
    np.minimum(lengths, lengths.T, out=lengths)
    return AllPairs(lengths, hops)


def distances_from(graph: Graph, sources: Ids32, *, progress: Progress = silent) -> Matrix32:
    """Return (s, n) float32: the length of the shortest path from each source; infinite for none.

    Args:
        graph: of n rows.
        sources: (s,) int32 rows.
        progress: told the sources done.
    """
    lengths = np.empty((len(sources), graph.count), np.float32)
    places = np.empty(graph.count, np.int64)
    for block, order in _blocks(graph, np.unique(sources), progress):
        places[:] = NOBODY
        places[block] = np.arange(len(block))
        found = places[sources]
        lengths[found >= 0] = _lengths_from(graph, order, block)[found[found >= 0]]
    return lengths


def _blocks(graph: Graph, sources: Ids32, progress: Progress) -> Iterator[tuple[Ids32, Ids32]]:
    """Yield sources that are near each other, and all rows as the first of them meets them."""
    left = np.zeros(graph.count, np.bool_)
    left[sources] = True
    done = 0
    for source in sources:
        if not left[source]:
            continue
        progress("paths", done, len(sources))
        order = _search_from(graph, source).rows
        block = order[left[order]][:_LANES]
        left[block] = False
        done += len(block)
        yield block, order
    progress("paths", done, len(sources))


def _lengths_from(graph: Graph, order: Ids32, sources: Ids32) -> Matrix32:
    swept = sweep_lengths(graph, order, sources) if len(sources) >= _FEW else None
    return _search_each(graph, sources)[0] if swept is None else swept.T


def _paths_from(graph: Graph, order: Ids32, sources: Ids32) -> tuple[Matrix32, Ids32]:
    if len(sources) >= _FEW:
        lengths = sweep_lengths(graph, order, sources)
        hops = None if lengths is None else sweep_hops(graph, order, sources, lengths)
        if lengths is not None and hops is not None:
            return lengths.T, hops.T
    return _search_each(graph, sources)


def _search_each(graph: Graph, sources: Ids32) -> tuple[Matrix32, Ids32]:
    """Return (s, n) lengths and hops, one search a source."""
    lengths = np.full((len(sources), graph.count), np.inf, np.float32)
    hops = np.full((len(sources), graph.count), NOBODY, np.int32)
    for at, source in enumerate(sources):
        found = _search_from(graph, source)
        lengths[at, found.rows], hops[at, found.rows] = found.lengths, found.hops
    return lengths, hops


def _search_from(graph: Graph, source: int) -> Reached:
    return nearest_by_path(
        graph, np.array([source], np.int32), seed_lengths=np.zeros(1, np.float32)
    )


def path_to(predecessors: Ids32, row: int) -> list[int]:
    """Return the rows on the path that ends at `row`, its beginning first.

    Args:
        predecessors: (n,) int32, of one search.
        row: a row that the search settled.
    """
    path = [int(row)]
    while (before := int(predecessors[path[-1]])) != NOBODY:
        path.append(before)
        if len(path) > len(predecessors):
            raise InvalidInput(f"Row {row} was not reached by this search.")
    return path[::-1]
