"""Neighbours chosen among the nearest, so that a dense spot does not catch what lies around it."""

from __future__ import annotations

import numpy as np
import pytest

from service.numerics.distances import Metric, prepare
from service.numerics.neighbours import Neighbours, nearest_neighbours
from service.numerics.shortlists import Hubness, choose_neighbours, shortlist_size

# Two points close together, and two others that are somewhat nearer to them than to each other.
SPOT = np.array([[0, 0], [0.1, 0], [2, 0], [2, 2.1]], np.float32)


def chosen(nearest: Neighbours, k: int, metric: Metric = Metric.EUCLIDEAN) -> Neighbours:
    return choose_neighbours(nearest, k=k, metric=metric, hubness=Hubness.CSLS)


def test_a_dense_spot_is_passed_over() -> None:
    k = shortlist_size(1, Hubness.CSLS)
    nearest = nearest_neighbours(SPOT, k=k, metric=Metric.EUCLIDEAN)
    assert nearest.indices[:, 0].tolist() == [1, 0, 1, 2]
    found = chosen(nearest, 1)
    # for row 2: -3.8 + 1.9 + 0.1 of row 1 is less than -4.2 + 1.9 + 2.1 of row 3
    assert found.indices[:, 0].tolist() == [1, 0, 3, 2]
    assert found.distances[:, 0] == pytest.approx([0.1, 0.1, 2.1, 2.1])


def test_without_it_the_nearest_stay() -> None:
    nearest = nearest_neighbours(SPOT, k=2, metric=Metric.EUCLIDEAN)
    assert shortlist_size(2, Hubness.NONE) == 2
    same = choose_neighbours(nearest, k=2, metric=Metric.EUCLIDEAN, hubness=Hubness.NONE)
    assert same is nearest


@pytest.mark.parametrize("metric", list(Metric))
def test_the_definition_says_the_same(metric: Metric) -> None:
    draw = np.random.default_rng(1)
    vectors = prepare(draw.normal(size=(60, 4)).astype(np.float32), metric)
    nearest = nearest_neighbours(vectors, k=12, metric=metric)
    alike = -nearest.distances if metric is Metric.EUCLIDEAN else np.cos(nearest.distances)
    usual = alike[:, :4].astype(np.float64).mean(axis=1)
    found = chosen(nearest, 4, metric)
    for row in range(60):
        others = nearest.indices[row]
        score = 2 * alike[row].astype(np.float64) - usual[row] - usual[others]
        best = np.sort(np.argsort(-score)[:4])
        assert found.indices[row].tolist() == others[best].tolist()
        assert found.distances[row].tolist() == nearest.distances[row, best].tolist()


def test_lists_with_free_places_keep_what_is_there() -> None:
    indices = np.array([[1, 2, -1], [0, -1, -1], [-1, -1, -1]], np.int32)
    distances = np.array([[1, 2, np.inf], [1, np.inf, np.inf], [np.inf] * 3], np.float32)
    found = chosen(Neighbours(indices, distances), 2)
    assert found.indices.tolist() == [[1, 2], [0, -1], [-1, -1]]
    assert np.array_equal(found.distances, distances[:, :2])
