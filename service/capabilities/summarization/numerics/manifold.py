"""Measure along the graph of near sentences instead of straight across.

```
vectors ─► k nearest by angle ─► graph ─┬► mean geodesic of each statement
                                        └► all statements within a radius of one
```

No centre is put into this graph. The mean vector is among the nearest of nearly every sentence, so
each would get an edge to it; angles obey the triangle inequality, so no detour is shorter than that
edge, and the ranking would be that of the cosine to the centroid. A test shows it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from service.numerics.distances import Metric, cross_distances
from service.numerics.dtypes import Ids32, Ids64, Matrix32, Progress, Vector64
from service.numerics.graphs import Graph, neighbour_graph
from service.numerics.neighbours import (
    Neighbours,
    choose_nearest,
    nearest_neighbours,
    nearest_rows,
    silent,
)
from service.numerics.paths import distances_from, nearest_by_path

# Where no path leads, the largest angle stands for the distance.
_NO_PATH = np.float32(np.pi)
# Up to here means are exact; beyond, they are taken over landmarks.
EXACT_MEANS = 1000
LANDMARKS = 256
_STEP = 32


class Distance(StrEnum):
    """Say how two statements are compared."""

    GEODESIC = "geodesic"
    COSINE = "cosine"


@dataclass(frozen=True, slots=True)
class Manifold:
    """Hold the graph of near statements.

    Attributes:
        vectors: (n, d) float32 of length 1.
        neighbours: (n, k) of them, by angle.
        graph: an edge where one of two names the other.
        edge: median length of an edge, in radians; 0 without edges.
    """

    vectors: Matrix32
    neighbours: Neighbours
    graph: Graph
    edge: float


def build_manifold(vectors: Matrix32, *, k: int, progress: Progress = silent) -> Manifold:
    """Return the graph of the k nearest of every vector.

    Args:
        vectors: (n, d) float32 of length 1, n ≥ 1.
        k: neighbours of each; all others where there are fewer.
        progress: told the rows done.
    """
    near = nearest_neighbours(vectors, k=k, metric=Metric.ANGULAR, progress=progress)
    return join(vectors, near)


def join(vectors: Matrix32, near: Neighbours) -> Manifold:
    """Return the graph of neighbours that are known."""
    graph = neighbour_graph(near)
    edge = float(np.median(graph.lengths)) if graph.edges else 0.0
    return Manifold(vectors, near, graph, edge)


def grow_neighbours(
    near: Neighbours, vectors: Matrix32, *, kept: Ids64, added: Ids64, k: int
) -> Neighbours:
    """Return the neighbours of a changed set of vectors: what `nearest_neighbours` would return.

    Only rows that are new, that lost a neighbour, or that a new row comes close to, are searched.

    Args:
        near: (m, k) of the set before.
        vectors: (n, d) float32 of length 1, of the set now.
        kept: (m,) int64: where each row of before stands now, rising, -1 for one that is gone.
        added: rows that are new, rising.
        k: neighbours of each.
    """
    count = len(vectors)
    width = min(k, count - 1)
    if near.indices.shape[1] < width:  # a handful grew: its lists are short
        return nearest_neighbours(vectors, k=k, metric=Metric.ANGULAR)
    stay = np.flatnonzero(kept >= 0)
    indices = np.full((count, width), -1, np.int32)
    distances = np.zeros((count, width), np.float32)
    old = kept[near.indices[stay][:, :width]]
    indices[kept[stay]] = old
    distances[kept[stay]] = near.distances[stay][:, :width]
    _offer(indices, distances, vectors, added)
    broken = np.flatnonzero((indices < 0).any(axis=1))
    _search(indices, distances, vectors, broken)
    return Neighbours(indices, distances)


def _offer(indices: Ids32, distances: Matrix32, vectors: Matrix32, added: Ids64) -> None:
    """Let rows that lack nothing take new rows that are nearer than their last neighbour."""
    if not len(added) or not indices.shape[1]:
        return
    nearest = (vectors @ vectors[added].T).max(axis=1)
    # The bar is lowered by more than a product's rounding; the accurate distance then decides.
    bar = np.cos(distances[:, -1]) - np.float32(1e-5)
    whole = (indices >= 0).all(axis=1)
    rows = np.flatnonzero(whole & (nearest >= bar))
    candidates = np.hstack(
        [indices[rows], np.broadcast_to(added.astype(np.int32), (len(rows), len(added)))]
    )
    found = choose_nearest(
        np.ascontiguousarray(vectors[rows]),
        vectors,
        np.ascontiguousarray(candidates),
        k=indices.shape[1],
        metric=Metric.ANGULAR,
    )
    indices[rows], distances[rows] = found.indices, found.distances


def _search(indices: Ids32, distances: Matrix32, vectors: Matrix32, rows: Ids64) -> None:
    """Search the neighbours of some rows anew; a row is not its own neighbour."""
    if not len(rows):
        return
    width = indices.shape[1]
    found = nearest_rows(
        np.ascontiguousarray(vectors[rows]), vectors, k=width + 1, metric=Metric.ANGULAR
    )
    other = found.indices != rows[:, np.newaxis]
    # Among many equal vectors a row may not find itself; then the last one found is left out.
    other[:, -1] &= ~other.all(axis=1)
    indices[rows] = found.indices[other].reshape(-1, width)
    distances[rows] = found.distances[other].reshape(-1, width)


def landmarks_of(count: int) -> int:
    """Return how many statements, the first in order, a mean over all is taken over.

    Up to 1,000 all of them, beyond 256. The order is that of a digest of the text, so they are a
    random sample that a new review seldom changes.
    """
    return count if count <= EXACT_MEANS else LANDMARKS


def distance_table(
    manifold: Manifold, *, distance: Distance, progress: Progress = silent
) -> Matrix32:
    """Return (landmarks, n) float32 radians; infinite where no path leads."""
    count = len(manifold.vectors)
    landmarks = landmarks_of(count)
    table = np.empty((landmarks, count), np.float32)
    for first in range(0, landmarks, _STEP):
        progress("distances", first, landmarks)
        rows = np.arange(first, min(first + _STEP, landmarks), dtype=np.int32)
        table[rows] = distances_of(manifold, rows, distance=distance)
    return table


def mean_distances(table: Matrix32, weights: Ids64) -> Vector64:
    """Return the mean distance of each statement to the landmarks, each counted as often as said.

    Args:
        table: (landmarks, n) float32 of `distance_table`.
        weights: (n,) times each is said.

    Returns:
        (n,) float64 radians; π stands for a distance without a path.
    """
    shares = weights[: len(table)] / weights[: len(table)].sum()
    means: Vector64 = shares @ np.minimum(table, _NO_PATH)
    return means


def distances_of(manifold: Manifold, rows: Ids32, *, distance: Distance) -> Matrix32:
    """Return (len(rows), n) float32 radians; infinite where no path leads."""
    if distance is Distance.COSINE:
        return cross_distances(
            np.ascontiguousarray(manifold.vectors[rows]), manifold.vectors, metric=Metric.ANGULAR
        )
    return distances_from(manifold.graph, rows)


def within(manifold: Manifold, row: int, *, radius: float) -> Ids32:
    """Return the statements whose geodesic from `row` is at most `radius`, `row` among them."""
    reached = nearest_by_path(
        manifold.graph,
        np.array([row], np.int32),
        seed_lengths=np.zeros(1, np.float32),
        max_distance=radius,
    )
    return reached.rows
