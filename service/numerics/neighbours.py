"""Find the exact nearest neighbours of every vector.

```
vectors ─► tiles of products ──────► candidate lists ──────► accurate distances ─► k nearest
           one matrix product into   insertion; each product float64, ordered by
           one buffer, upper         serves its row and its  (distance, index)
           triangle only             column
```

A product tells the order of distances up to its rounding. So a few more candidates than k are kept,
and the accurate distance has the last word: the result is that of comparing all pairs accurately,
except where more than these few tie at the edge of a list; of those the first in order are kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from service.errors import DimensionMismatch
from service.numerics.distances import Metric, distance
from service.numerics.dtypes import Bools, Ids32, Matrix32, Progress, Vector32
from service.numerics.kernels import kernel

# Products of near neighbours may stand in the wrong order by their rounding.
_SPARE = 4
# Half a MiB of products: still in the cache when they are read.
_TILE_ROWS = 128
_TILE_COLUMNS = 1024
_CHUNK = 32


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Hold the nearest rows of each row, nearest first, ties by index.

    Attributes:
        indices: (n, k) int32.
        distances: (n, k) float32.
    """

    indices: Ids32
    distances: Matrix32


def silent(stage: str, done: int, total: int) -> None:
    """Take a step of progress and tell nobody."""


@kernel("void(float32, int64, float32[::1], int32[::1])")
def _insert(score: float, candidate: int, scores: Vector32, indices: Ids32) -> None:
    """Put a candidate at its place in a list of falling scores; the last one falls out."""
    place = scores.shape[0] - 1
    while place > 0 and scores[place - 1] < score:
        scores[place] = scores[place - 1]
        indices[place] = indices[place - 1]
        place -= 1
    scores[place] = score
    indices[place] = candidate


@kernel(
    "void(float32[:, ::1], int64, int64, float32[::1], float32[::1], float32[:, ::1],"
    " int32[:, ::1])"
)
def _offer_both_ways(  # noqa: PLR0917 - a kernel takes arrays, by place
    products: Matrix32,
    first_row: int,
    first_column: int,
    half_squares: Vector32,
    worst: Vector32,
    scores: Matrix32,
    indices: Ids32,
) -> None:
    """Offer the products right of the diagonal to the lists of their rows and of their columns.

    A score is x·y - |y|²/2 seen from x: it falls as |x - y| grows. Whole chunks are passed over by
    one vectorised comparison, since almost no product enters a list.
    """
    height, width = products.shape
    last = scores.shape[1] - 1
    for local in range(height):
        row = first_row + local
        own = half_squares[row]
        for start in range(max(0, row + 1 - first_column), width, _CHUNK):
            stop = min(start + _CHUNK, width)
            bar = worst[row]
            found = False
            for column in range(start, stop):
                product = products[local, column]
                other = first_column + column
                found |= (product - half_squares[other] > bar) | (product - own > worst[other])
            if not found:
                continue
            for column in range(start, stop):
                product = products[local, column]
                other = first_column + column
                score = product - half_squares[other]
                if score > worst[row]:
                    _insert(score, other, scores[row], indices[row])
                    worst[row] = scores[row, last]
                score = product - own
                if score > worst[other]:
                    _insert(score, row, scores[other], indices[other])
                    worst[other] = scores[other, last]


@kernel("void(float32[:, ::1], int64, float32[::1], float32[:, ::1], int32[:, ::1])")
def _offer_to_rows(
    products: Matrix32,
    first_column: int,
    half_squares: Vector32,
    scores: Matrix32,
    indices: Ids32,
) -> None:
    """Offer products to the lists of their rows."""
    height, width = products.shape
    last = scores.shape[1] - 1
    for row in range(height):
        for start in range(0, width, _CHUNK):
            stop = min(start + _CHUNK, width)
            bar = scores[row, last]
            found = False
            for column in range(start, stop):
                found |= products[row, column] - half_squares[first_column + column] > bar
            if not found:
                continue
            for column in range(start, stop):
                score = products[row, column] - half_squares[first_column + column]
                if score > scores[row, last]:
                    _insert(score, first_column + column, scores[row], indices[row])


@kernel()
def keep_nearest(candidate: int, apart: np.float32, indices: Ids32, distances: Vector32) -> bool:
    """Put a candidate into a list that rises by (distance, index); return whether it went in.

    A list that is not full has -1 behind its last one, at an infinite distance. A candidate that
    stands there already does not come in again.
    """
    place = indices.shape[0]
    while place > 0 and (
        distances[place - 1] > apart
        or (distances[place - 1] == apart and indices[place - 1] > candidate)
    ):
        place -= 1
    if place == indices.shape[0] or (place > 0 and indices[place - 1] == candidate):
        return False
    for later in range(indices.shape[0] - 1, place, -1):
        indices[later] = indices[later - 1]
        distances[later] = distances[later - 1]
    indices[place] = candidate
    distances[place] = apart
    return True


@kernel(
    "void(float32[:, ::1], float32[:, ::1], int32[:, ::1], int32[::1], int64, int32[:, ::1],"
    " float32[:, ::1])"
)
def _choose(  # noqa: PLR0917 - a kernel takes arrays, by place
    queries: Matrix32,
    vectors: Matrix32,
    candidates: Ids32,
    own: Ids32,
    metric: int,
    indices: Ids32,
    distances: Matrix32,
) -> None:
    """Keep the nearest candidates of each query by accurate distance, ties by index."""
    for row in range(queries.shape[0]):
        for at in range(candidates.shape[1]):
            candidate = candidates[row, at]
            if candidate >= 0 and candidate != own[row]:
                apart = np.float32(distance(queries[row], vectors[candidate], metric))
                keep_nearest(candidate, apart, indices[row], distances[row])


def nearest_neighbours(
    vectors: Matrix32, *, k: int, metric: Metric, progress: Progress = silent
) -> Neighbours:
    """Return the k nearest other rows of every row.

    Args:
        vectors: (n, d) float32 from `prepare`.
        k: neighbours wanted; where there are fewer other rows, all of them are returned.
        metric: angle in radians, or straight line.
        progress: told the rows done.

    Returns:
        (n, min(k, n - 1)) indices and distances; equal rows are neighbours at distance 0.
    """
    count = len(vectors)
    others = max(0, count - 1)
    k, kept = min(k, others), min(k + _SPARE, others)
    if k == 0:
        return Neighbours(np.empty((count, 0), np.int32), np.empty((count, 0), np.float32))
    half_squares = half_squares_of(vectors, metric)
    scores = np.full((count, kept), -np.inf, np.float32)
    candidates = np.zeros((count, kept), np.int32)
    worst = np.full(count, -np.inf, np.float32)
    buffer = np.empty(_TILE_ROWS * _TILE_COLUMNS, np.float32)
    for top in range(0, count, _TILE_ROWS):
        progress("neighbours", top, count)
        rows = vectors[top : top + _TILE_ROWS]
        for left in range(top, count, _TILE_COLUMNS):
            columns = vectors[left : left + _TILE_COLUMNS]
            tile = buffer[: len(rows) * len(columns)].reshape(len(rows), len(columns))
            np.matmul(rows, columns.T, out=tile)
            _offer_both_ways(tile, top, left, half_squares, worst, scores, candidates)
    _drop_hopeless(vectors, half_squares, k, scores, candidates)
    found = choose_nearest(vectors, vectors, candidates, k=k, metric=metric)
    progress("neighbours", count, count)
    return found


def _drop_hopeless(
    vectors: Matrix32, half_squares: Vector32, k: int, scores: Matrix32, candidates: Ids32
) -> None:
    """Put -1 for candidates that rounding cannot bring among the k nearest, and keep a twin.

    A float32 sum of d products is off by at most d · 2⁻²⁴ · |x| |y|; a score is that and half a
    square, and two scores are compared. Source: Higham 2002, "Accuracy and Stability of Numerical
    Algorithms", section 3.1.
    """
    selves = np.einsum("nd,nd->n", vectors, vectors)
    rounding = np.float32(4 * (vectors.shape[1] + 2) * 2.0**-24) * selves.max()
    candidates[scores < scores[:, k - 1 : k] - rounding] = -1
    _keep_a_twin(vectors, candidates, scores[:, 0] >= selves - half_squares - rounding)


def _keep_a_twin(vectors: Matrix32, candidates: Ids32, close: Bools) -> None:
    """Make sure that equal rows are chained by their candidates, each to the next one.

    In a crowd nearer together than products can tell, a list may be full before an equal row comes.
    Of its candidates the last one, which is the least likely, gives way.

    Args:
        vectors: (n, d) float32.
        candidates: (n, c) rows, best first; changed in place.
        close: (n,) rows that may have an equal one.
    """
    some = np.flatnonzero(close)
    rows = np.ascontiguousarray(vectors[some]).view(f"V{vectors.shape[1] * vectors.itemsize}")[:, 0]
    order = np.argsort(rows, kind="stable")
    equal = np.flatnonzero(rows[order[1:]] == rows[order[:-1]])
    left, twin = some[order[equal]], some[order[equal + 1]]
    lost = (candidates[left] != twin[:, np.newaxis]).all(axis=1)
    candidates[left[lost], -1] = twin[lost]


def nearest_rows(
    queries: Matrix32,
    vectors: Matrix32,
    *,
    k: int,
    metric: Metric,
    own: Ids32 | None = None,
    alive: Bools | None = None,
    progress: Progress = silent,
) -> Neighbours:
    """Return the k nearest rows of `vectors` to every query.

    Args:
        queries: (m, d) float32 from `prepare`.
        vectors: (n, d) float32 from `prepare`.
        k: neighbours wanted; where there are fewer rows, all of them are returned.
        metric: angle in radians, or straight line.
        own: (m,) int32 row of each query, which is no neighbour of itself; None for other queries.
        alive: (n,) rows that may be found; None for all.
        progress: told the queries done.

    Returns:
        (m, min(k, n)) indices into `vectors` and distances; where `own` and `alive` leave fewer
        rows, -1 at an infinite distance.

    Raises:
        DimensionMismatch: queries and vectors have different lengths of rows.
    """
    if queries.shape[1] != vectors.shape[1]:
        raise DimensionMismatch(
            f"The query has {queries.shape[1]} numbers and the vectors have {vectors.shape[1]}."
        )
    kept = min(k + 1 + _SPARE, len(vectors))
    half_squares = half_squares_of(vectors, metric)
    if alive is not None:
        half_squares[~alive] = np.inf  # its score is -inf, which enters no list
    candidates = np.full((len(queries), kept), -1, np.int32)
    scores = np.full((len(queries), kept), -np.inf, np.float32)
    buffer = np.empty(_TILE_ROWS * _TILE_COLUMNS, np.float32)
    for top in range(0, len(queries), _TILE_ROWS):
        progress("neighbours", top, len(queries))
        rows = queries[top : top + _TILE_ROWS]
        part = slice(top, top + len(rows))
        for left in range(0, len(vectors), _TILE_COLUMNS):
            columns = vectors[left : left + _TILE_COLUMNS]
            tile = buffer[: len(rows) * len(columns)].reshape(len(rows), len(columns))
            np.matmul(rows, columns.T, out=tile)
            _offer_to_rows(tile, left, half_squares, scores[part], candidates[part])
    k = min(k, len(vectors))
    return choose_nearest(queries, vectors, candidates, k=k, metric=metric, own=own)


def choose_nearest(
    queries: Matrix32,
    vectors: Matrix32,
    candidates: Ids32,
    *,
    k: int,
    metric: Metric,
    own: Ids32 | None = None,
) -> Neighbours:
    """Return the k nearest of some candidates for every query.

    Args:
        queries: (m, d) float32 from `prepare`.
        vectors: (n, d) float32 from `prepare`.
        candidates: (m, c) int32 rows of `vectors`; one may recur, and -1 stands for none.
        k: how many to keep.
        metric: angle in radians, or straight line.
        own: (m,) int32 row of each query, which is no neighbour of itself; None for other queries.

    Returns:
        (m, k) indices and distances; where there are fewer candidates, -1 at an infinite distance.
    """
    indices = np.full((len(queries), k), -1, np.int32)
    distances = np.full((len(queries), k), np.inf, np.float32)
    if own is None:
        own = np.full(len(queries), -1, np.int32)
    own = np.ascontiguousarray(own)
    _choose(queries, vectors, candidates, own, metric.code, indices, distances)
    return Neighbours(indices, distances)


def half_squares_of(vectors: Matrix32, metric: Metric) -> Vector32:
    """Return |x|²/2 of each row, or 0 for angles: unit vectors are ordered by the product alone."""
    if metric is Metric.ANGULAR:
        return np.zeros(len(vectors), np.float32)
    halves: Vector32 = np.einsum("nd,nd->n", vectors, vectors) / np.float32(2)
    return halves
