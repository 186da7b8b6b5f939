"""Angles and straight lines, on vectors small enough to check by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from service.errors import DimensionMismatch, InvalidInput
from service.numerics.distances import Metric, cross_distances, pair_distances, prepare
from service.numerics.dtypes import Matrix32


def rows(*values: list[float]) -> Matrix32:
    return np.array(values, dtype=np.float32)


def test_angles_of_known_directions() -> None:
    vectors = prepare(rows([1, 0], [3, 3], [0, 2], [-5, 0]), Metric.ANGULAR)
    found = cross_distances(vectors, vectors, metric=Metric.ANGULAR)
    eighth = math.pi / 4
    expected = eighth * np.array([[0, 1, 2, 4], [1, 0, 1, 3], [2, 1, 0, 2], [4, 3, 2, 0]])
    assert found.dtype == np.float32
    assert np.allclose(found, expected, atol=5e-7)
    assert np.array_equal(found, found.T)


def test_three_four_five() -> None:
    vectors = prepare(rows([0, 0], [3, 4], [3, 0]), Metric.EUCLIDEAN)
    found = cross_distances(vectors, vectors, metric=Metric.EUCLIDEAN)
    assert found.tolist() == [[0, 5, 3], [5, 0, 4], [3, 4, 0]]


@pytest.mark.parametrize("angle", [1e-6, 1e-4, 0.01, 1.0, math.pi - 0.01, math.pi - 1e-4])
def test_small_and_opposite_angles_keep_their_digits(angle: float) -> None:
    vectors = prepare(rows([1, 0, 0], [math.cos(angle), math.sin(angle), 0]), Metric.ANGULAR)
    pair = pair_distances(
        vectors, np.array([0], np.int32), np.array([1], np.int32), metric=Metric.ANGULAR
    )
    # 1.2e-7 is the rounding of the components themselves; an arc cosine is off by 3e-4 here.
    assert pair[0] == pytest.approx(angle, rel=1e-6, abs=1.2e-7)
    assert cross_distances(vectors, vectors, metric=Metric.ANGULAR)[0, 1] == pair[0] or angle == 1


def test_a_vector_without_direction_is_refused() -> None:
    with pytest.raises(InvalidInput, match="Vector 1 is all zeros"):
        prepare(rows([1, 0], [0, 0]), Metric.ANGULAR)
    assert prepare(rows([1, 0], [0, 0]), Metric.EUCLIDEAN).tolist() == [[1, 0], [0, 0]]


def test_a_vector_whose_square_does_not_fit_is_named() -> None:
    with pytest.raises(InvalidInput, match=r"Vector 1 has length 2e\+15"):
        prepare(rows([1, 0], [2e15, 0]), Metric.EUCLIDEAN)


def test_vectors_of_unlike_length_are_refused() -> None:
    with pytest.raises(DimensionMismatch, match="2 and of 3"):
        cross_distances(rows([1, 0]), rows([1, 0, 0]), metric=Metric.EUCLIDEAN)


def test_prepared_rows_are_a_copy() -> None:
    given = rows([1, 2])
    given.setflags(write=False)
    prepared = prepare(given, Metric.EUCLIDEAN)
    prepared[0, 0] = 9
    assert given[0, 0] == 1
