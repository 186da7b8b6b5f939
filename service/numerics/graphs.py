"""Make the graph of near neighbours, find what hangs together in it, and bridge what does not.

```
neighbours of each row        union                     mutual
  0: 1, 2                     0 ─ 1, 0 ─ 2, 1 ─ 2       an edge needs both
  1: 0, 2                     an edge needs one         of its ends to
  2: 1, 0                     of its ends to name it    name the other
```
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from service.numerics.distances import Metric, pair_distances
from service.numerics.dtypes import Ids32, Ids64, Matrix32, Progress, Vector32
from service.numerics.kernels import kernel
from service.numerics.neighbours import Neighbours, half_squares_of, silent

_TILE_ROWS = 256
_TILE_COLUMNS = 1024
_UNION, _MUTUAL = 0, 1


class EdgeRule(StrEnum):
    """Say when two near rows are joined."""

    UNION = "union"
    MUTUAL = "mutual"

    @property
    def code(self) -> int:
        """The number that kernels know it by."""
        return _UNION if self is EdgeRule.UNION else _MUTUAL


@dataclass(frozen=True, slots=True)
class Graph:
    """Hold an undirected graph in compressed rows: each edge stands at both of its ends.

    Attributes:
        offsets: (n + 1,) int64; the edges of row i are offsets[i] to offsets[i + 1].
        targets: (2 · edges,) int32, rising within a row.
        lengths: (2 · edges,) float32, in the unit of the metric; 0 between equal rows.
    """

    offsets: Ids64
    targets: Ids32
    lengths: Vector32

    @property
    def count(self) -> int:
        """Return the number of rows."""
        return len(self.offsets) - 1

    @property
    def edges(self) -> int:
        """Return the number of edges, each counted once."""
        return len(self.targets) // 2


@kernel()
def _names(indices: Ids32, row: int, other: int) -> bool:
    """Return whether `other` stands among the neighbours of `row`."""
    found = False
    for at in range(indices.shape[1]):
        found |= indices[row, at] == other
    return found


@kernel(
    "int64(int32[:, ::1], float32[:, ::1], int64, float32, int32[::1], int32[::1], float32[::1])"
)
def _list_edges(  # noqa: PLR0917 - a kernel takes arrays, by place
    indices: Ids32,
    distances: Matrix32,
    rule: int,
    longest: np.float32,
    left: Ids32,
    right: Ids32,
    lengths: Vector32,
) -> int:
    """Write every edge once and return how many there are; rows list fewer where an index is -1."""
    found = 0
    for row in range(indices.shape[0]):
        for at in range(indices.shape[1]):
            other = indices[row, at]
            if other < 0 or distances[row, at] > longest:
                continue
            both = _names(indices, other, row)
            # An edge that both ends name is written by the lower one.
            if (both and row < other) or (not both and rule == _UNION):
                left[found], right[found], lengths[found] = row, other, distances[row, at]
                found += 1
    return found


@kernel("void(int32[::1], int32[::1], float32[::1], int64[::1], int32[::1], float32[::1])")
def _fill(  # noqa: PLR0917 - a kernel takes arrays, by place
    left: Ids32, right: Ids32, each: Vector32, offsets: Ids64, targets: Ids32, lengths: Vector32
) -> None:
    """Write each edge into the rows of both of its ends, rising by target."""
    count = offsets.shape[0] - 1
    for edge in range(left.shape[0]):
        offsets[left[edge] + 1] += 1
        offsets[right[edge] + 1] += 1
    for row in range(count):
        offsets[row + 1] += offsets[row]
    free = offsets[:count].copy()
    for edge in range(left.shape[0]):
        for end in range(2):
            row, target = (left[edge], right[edge]) if end == 0 else (right[edge], left[edge])
            place = free[row]
            while place > offsets[row] and targets[place - 1] > target:
                targets[place] = targets[place - 1]
                lengths[place] = lengths[place - 1]
                place -= 1
            targets[place], lengths[place] = target, each[edge]
            free[row] += 1


def neighbour_graph(
    neighbours: Neighbours, *, rule: EdgeRule = EdgeRule.UNION, max_edge: float | None = None
) -> Graph:
    """Return the graph whose edges join near neighbours.

    Args:
        neighbours: (n, k); an index of -1 stands for no neighbour.
        rule: whether one end or both must name the other.
        max_edge: the longest edge allowed, in the unit of the metric; None allows all.
    """
    indices, distances = neighbours.indices, neighbours.distances
    left, right = np.empty(indices.size, np.int32), np.empty(indices.size, np.int32)
    lengths = np.empty(indices.size, np.float32)
    longest = np.float32(np.inf if max_edge is None else max_edge)
    found = _list_edges(indices, distances, rule.code, longest, left, right, lengths)
    return graph_of_edges(len(indices), left[:found], right[:found], lengths[:found])


def graph_of_edges(count: int, left: Ids32, right: Ids32, lengths: Vector32) -> Graph:
    """Return the graph of some edges, each given once.

    Args:
        count: rows.
        left: (edges,) int32, one end.
        right: (edges,) int32, the other end.
        lengths: (edges,) float32, at least 0.
    """
    offsets = np.zeros(count + 1, np.int64)
    targets = np.empty(2 * len(left), np.int32)
    both = np.empty(2 * len(left), np.float32)
    _fill(left, right, lengths, offsets, targets, both)
    return Graph(offsets, targets, both)


@kernel("int64(int64[::1], int32[::1], int32[::1], int32[::1])")
def _label(offsets: Ids64, targets: Ids32, labels: Ids32, stack: Ids32) -> int:
    found = 0
    for start in range(labels.shape[0]):
        if labels[start] >= 0:
            continue
        labels[start] = found
        stack[0] = start
        height = 1
        while height > 0:
            height -= 1
            row = stack[height]
            for edge in range(offsets[row], offsets[row + 1]):
                target = targets[edge]
                if labels[target] < 0:
                    labels[target] = found
                    stack[height] = target
                    height += 1
        found += 1
    return found


def components(graph: Graph) -> tuple[int, Ids32]:
    """Return how many components there are and (n,) int32 labels, in order of their first row."""
    labels = np.full(graph.count, -1, np.int32)
    found = _label(graph.offsets, graph.targets, labels, np.empty(graph.count, np.int32))
    return int(found), labels


@kernel("void(float32[:, ::1], int64, int64, int32[::1], float32[::1], float32[::1], int32[::1])")
def _offer_outside(  # noqa: PLR0917 - a kernel takes arrays, by place
    products: Matrix32,
    first_row: int,
    first_column: int,
    labels: Ids32,
    half_squares: Vector32,
    scores: Vector32,
    nearest: Ids32,
) -> None:
    """Keep for each row the best-scoring row of another component."""
    for local in range(products.shape[0]):
        row = first_row + local
        for column in range(products.shape[1]):
            score = products[local, column] - half_squares[first_column + column]
            if score > scores[row] and labels[first_column + column] != labels[row]:
                scores[row] = score
                nearest[row] = first_column + column


def _nearest_outside(
    vectors: Matrix32, labels: Ids32, metric: Metric, check: Callable[[int], None]
) -> Ids32:
    """Return (n,) int32: the nearest row in another component of every row."""
    count = len(vectors)
    halves = half_squares_of(vectors, metric)
    scores = np.full(count, -np.inf, np.float32)
    nearest = np.full(count, -1, np.int32)
    buffer = np.empty(_TILE_ROWS * _TILE_COLUMNS, np.float32)
    for top in range(0, count, _TILE_ROWS):
        check(top)
        rows = vectors[top : top + _TILE_ROWS]
        for first in range(0, count, _TILE_COLUMNS):
            columns = vectors[first : first + _TILE_COLUMNS]
            tile = buffer[: len(rows) * len(columns)].reshape(len(rows), len(columns))
            np.matmul(rows, columns.T, out=tile)
            _offer_outside(tile, top, first, labels, halves, scores, nearest)
    return nearest


def bridge_components(
    graph: Graph, vectors: Matrix32, *, metric: Metric, progress: Progress = silent
) -> Graph:
    """Return the graph with a minimum spanning tree of edges between its components.

    Each round joins every component to the one nearest to it by the distance of the vectors, until
    one is left; a round halves their number at least. Source: Borůvka 1926.

    Args:
        graph: of n rows.
        vectors: (n, d) float32 from `prepare`.
        metric: of the vectors and of the edges.
        progress: told the components joined.
    """
    at_first, labels = components(graph)
    left_over = at_first
    while left_over > 1:

        def check(_: int, joined: int = at_first - left_over) -> None:
            progress("bridge", joined, at_first)

        left = np.arange(graph.count, dtype=np.int32)
        right = _nearest_outside(vectors, labels, metric, check)
        lengths = pair_distances(vectors, left, right, metric=metric)
        chosen = _shortest_of_each(left, right, lengths, labels, left_over)
        graph = _with_edges(graph, left[chosen], right[chosen], lengths[chosen])
        left_over, labels = components(graph)
    return graph


def _shortest_of_each(
    left: Ids32, right: Ids32, lengths: Vector32, labels: Ids32, count: int
) -> Ids64:
    """Return the shortest bridge of each component, without those that would close a circle."""
    low, high = np.minimum(left, right), np.maximum(left, right)
    order = np.lexsort((high, low, lengths))
    _, first = np.unique(labels[order], return_index=True)
    parents = np.arange(count)

    def root(label: int) -> int:
        while parents[label] != label:
            label = parents[label]
        return label

    chosen = []
    for edge in order[np.sort(first)]:
        one, other = root(labels[left[edge]]), root(labels[right[edge]])
        if one != other:
            parents[one] = other
            chosen.append(edge)
    return np.array(chosen, dtype=np.int64)


def _with_edges(graph: Graph, left: Ids32, right: Ids32, lengths: Vector32) -> Graph:
    """Return the graph with further edges between rows that were not joined."""
    rows = np.repeat(np.arange(graph.count, dtype=np.int32), np.diff(graph.offsets))
    once = rows < graph.targets
    return graph_of_edges(
        graph.count,
        np.concatenate([rows[once], left]),
        np.concatenate([graph.targets[once], right]),
        np.concatenate([graph.lengths[once], lengths]),
    )
