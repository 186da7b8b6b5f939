"""Bring neighbour lists up to date when rows come and go, without comparing everything again.

```
removed rows ─► lists that named them are searched again
new rows     ─► search their own neighbours, and enter the lists of rows to which they are nearer
                than the last one listed
```
"""

from __future__ import annotations

import numpy as np

from service.numerics.distances import Metric, distance
from service.numerics.dtypes import Bools, Ids32, Matrix32, Progress, Vector32
from service.numerics.kernels import kernel
from service.numerics.neighbours import Neighbours, half_squares_of, keep_nearest, silent

_TILE_ROWS = 256
_TILE_COLUMNS = 1024
# Rounding of a float32 product of unit vectors; the accurate distance decides behind it.
_MARGIN = 1e-5


@kernel("void(int32[:, ::1], boolean[::1], boolean[::1])")
def _mark_lists(indices: Ids32, gone: Bools, marked: Bools) -> None:
    for row in range(indices.shape[0]):
        for at in range(indices.shape[1]):
            if indices[row, at] >= 0 and gone[indices[row, at]]:
                marked[row] = True


def lists_naming(indices: Ids32, gone: Bools) -> Bools:
    """Return (n,) whether a row's list names a row that is gone."""
    marked = np.zeros(len(indices), np.bool_)
    _mark_lists(indices, gone, marked)
    return marked


@kernel(
    "void(float32[:, ::1], int32[::1], int32[:, ::1], boolean[::1], int64, int32[:, ::1],"
    " float32[:, ::1])"
)
def _enter(  # noqa: PLR0917 - a kernel takes arrays, by place
    vectors: Matrix32,
    added: Ids32,
    hosts: Ids32,
    open_: Bools,
    metric: int,
    indices: Ids32,
    distances: Matrix32,
) -> None:
    for at in range(added.shape[0]):
        row = added[at]
        for place in range(hosts.shape[1]):
            host = hosts[at, place]
            if host >= 0 and open_[host]:
                apart = np.float32(distance(vectors[host], vectors[row], metric))
                keep_nearest(row, apart, indices[host], distances[host])


def enter_lists(
    vectors: Matrix32,
    added: Ids32,
    hosts: Ids32,
    *,
    open_: Bools,
    metric: Metric,
    neighbours: Neighbours,
) -> None:
    """Enter new rows into the lists of some others, where they are near enough, in place.

    Args:
        vectors: (n, d) float32 from `prepare`.
        added: (m,) int32 new rows.
        hosts: (m, c) int32 rows whose lists each may enter, -1 for none.
        open_: (n,) rows whose lists may change.
        metric: angle in radians, or straight line.
        neighbours: (n, k) lists, own memory.
    """
    _enter(vectors, added, hosts, open_, metric.code, neighbours.indices, neighbours.distances)


@kernel(
    "void(float32[:, ::1], float32[:, ::1], int32[::1], int64, float32[::1], float32[::1],"
    " boolean[::1], int64, int32[:, ::1], float32[:, ::1])"
)
def _enter_any(  # noqa: PLR0917 - a kernel takes arrays, by place
    products: Matrix32,
    vectors: Matrix32,
    added: Ids32,
    first: int,
    half_squares: Vector32,
    bars: Vector32,
    open_: Bools,
    metric: int,
    indices: Ids32,
    distances: Matrix32,
) -> None:
    for local in range(products.shape[0]):
        row = added[local]
        for column in range(products.shape[1]):
            host = first + column
            if products[local, column] - half_squares[row] > bars[host] and open_[host]:
                apart = np.float32(distance(vectors[host], vectors[row], metric))
                keep_nearest(row, apart, indices[host], distances[host])


def enter_all_lists(
    vectors: Matrix32,
    added: Ids32,
    *,
    open_: Bools,
    metric: Metric,
    neighbours: Neighbours,
    progress: Progress = silent,
) -> None:
    """Enter new rows into every list where they are near enough, in place.

    A product that is too small for a list is passed over: with x the host and y the new row,
    x·y - |y|²/2 = (|x|² - |x - y|²)/2.

    Args:
        vectors: (n, d) float32 from `prepare`.
        added: (m,) int32 new rows.
        open_: (n,) rows whose lists may change.
        metric: angle in radians, or straight line.
        neighbours: (n, k) lists, own memory.
        progress: told the new rows done.
    """
    halves = half_squares_of(vectors, metric)
    bars = _bars(halves, neighbours.distances[:, -1], metric)
    buffer = np.empty(_TILE_ROWS * _TILE_COLUMNS, np.float32)
    for top in range(0, len(added), _TILE_ROWS):
        progress("update", top, len(added))
        part = added[top : top + _TILE_ROWS]
        rows = vectors[part]
        for left in range(0, len(vectors), _TILE_COLUMNS):
            columns = vectors[left : left + _TILE_COLUMNS]
            tile = buffer[: len(rows) * len(columns)].reshape(len(rows), len(columns))
            np.matmul(rows, columns.T, out=tile)
            _enter_any(
                tile, vectors, part, left, halves, bars, open_, metric.code,
                neighbours.indices, neighbours.distances,
            )  # fmt: skip


def _bars(halves: Vector32, last: Vector32, metric: Metric) -> Vector32:
    """Return the score that a new row must beat to enter each list, less the rounding of scores."""
    bars = np.full(len(last), -np.inf, np.float32)
    full = np.isfinite(last)
    if metric is Metric.ANGULAR:
        bars[full] = np.cos(last[full]) - np.float32(_MARGIN)
        return bars
    scores = halves[full] - last[full] ** 2 / np.float32(2)
    scale = np.float32(_MARGIN) * (halves.max() * np.float32(2) + np.float32(1e-30))
    bars[full] = scores - scale
    return bars
