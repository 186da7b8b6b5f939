"""Nearest rows, on points on a line and against a comparison of all pairs."""

from __future__ import annotations

import numpy as np
import pytest

from service.errors import DimensionMismatch
from service.numerics import neighbours as module
from service.numerics.distances import Metric, cross_distances, prepare
from service.numerics.dtypes import Matrix32
from service.numerics.neighbours import nearest_neighbours, nearest_rows


def line(*positions: float) -> Matrix32:
    return np.array([[x, 0] for x in positions], dtype=np.float32)


def test_points_on_a_line() -> None:
    found = nearest_neighbours(line(0, 1, 3, 7), k=2, metric=Metric.EUCLIDEAN)
    assert found.indices.tolist() == [[1, 2], [0, 2], [1, 0], [2, 1]]
    assert found.distances.tolist() == [[1, 3], [1, 2], [2, 3], [4, 6]]
    assert found.indices.dtype == np.int32
    assert found.distances.dtype == np.float32


def test_ties_are_ordered_by_index() -> None:
    found = nearest_neighbours(line(0, -1, 1, -1, 1), k=4, metric=Metric.EUCLIDEAN)
    assert found.indices[0].tolist() == [1, 2, 3, 4]
    assert found.indices[4].tolist() == [2, 0, 1, 3]


def test_k_is_cut_to_the_others_there_are() -> None:
    assert nearest_neighbours(line(5), k=3, metric=Metric.EUCLIDEAN).indices.shape == (1, 0)
    assert nearest_neighbours(line(5, 6), k=3, metric=Metric.EUCLIDEAN).indices.tolist() == [
        [1],
        [0],
    ]
    assert nearest_rows(line(1), line(5, 6), k=3, metric=Metric.EUCLIDEAN).indices.tolist() == [
        [0, 1]
    ]


def test_equal_rows_are_neighbours_at_distance_0() -> None:
    found = nearest_neighbours(
        prepare(np.ones((40, 5), np.float32), Metric.ANGULAR), k=3, metric=Metric.ANGULAR
    )
    assert (found.distances == 0).all()
    assert (found.indices != np.arange(40)[:, None]).all()
    assert all(len(set(row)) == 3 for row in found.indices.tolist())


@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize("count", [2, 33, 300, 1500])
def test_all_pairs_compared_say_the_same(metric: Metric, count: int) -> None:
    draw = np.random.default_rng(count)
    vectors = prepare(draw.normal(size=(count, 24)).astype(np.float32), metric)
    found = nearest_neighbours(vectors, k=9, metric=metric)
    all_distances = cross_distances(vectors, vectors, metric=metric).astype(np.float64)
    np.fill_diagonal(all_distances, np.inf)
    expected = np.argsort(all_distances, axis=1, kind="stable")[:, :9]
    assert np.array_equal(np.sort(found.indices), np.sort(expected[:, : found.indices.shape[1]]))
    taken = np.take_along_axis(all_distances, found.indices.astype(np.int64), axis=1)
    assert np.allclose(found.distances, taken, atol=1e-6)
    assert (np.diff(found.distances, axis=1) >= 0).all()


@pytest.mark.parametrize("metric", list(Metric))
def test_queries_find_the_nearest_rows(metric: Metric) -> None:
    draw = np.random.default_rng(3)
    vectors = prepare(draw.normal(size=(1300, 10)).astype(np.float32), metric)
    queries = prepare(draw.normal(size=(300, 10)).astype(np.float32), metric)
    found = nearest_rows(queries, vectors, k=5, metric=metric)
    expected = np.argsort(cross_distances(queries, vectors, metric=metric), axis=1)[:, :5]
    assert np.array_equal(np.sort(found.indices), np.sort(expected))
    itself = nearest_rows(vectors[:7], vectors, k=1, metric=metric)
    assert itself.indices[:, 0].tolist() == list(range(7))
    assert (itself.distances == 0).all()


def test_a_query_of_another_length_is_refused() -> None:
    with pytest.raises(DimensionMismatch, match="2 numbers and the vectors have 3"):
        nearest_rows(
            np.ones((1, 2), np.float32), np.ones((4, 3), np.float32), k=1, metric=Metric.ANGULAR
        )


def test_nobody_waits_any_more() -> None:
    def leave(stage: str, done: int, total: int) -> None:
        assert (stage, total) == ("neighbours", 1000)
        if done:
            raise TimeoutError

    vectors = np.ones((1000, 2), np.float32)
    with pytest.raises(TimeoutError):
        nearest_neighbours(vectors, k=1, metric=Metric.EUCLIDEAN, progress=leave)


def test_tiles_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    vectors = prepare(draw.normal(size=(200, 8)).astype(np.float32), Metric.ANGULAR)
    whole = nearest_neighbours(vectors, k=6, metric=Metric.ANGULAR)
    monkeypatch.setattr(module, "_TILE_ROWS", 7)
    monkeypatch.setattr(module, "_TILE_COLUMNS", 33)
    parts = nearest_neighbours(vectors, k=6, metric=Metric.ANGULAR)
    assert np.array_equal(whole.indices, parts.indices)
    assert np.array_equal(whole.distances, parts.distances)
