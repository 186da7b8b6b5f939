"""Lengths and cosines, on numbers small enough to check by hand."""

from __future__ import annotations

import numpy as np
import pytest

from service.errors import DimensionMismatch, InvalidInput, NotFinite
from service.numerics.dtypes import Matrix32
from service.numerics.vectors import (
    cosine_matrix,
    first_dimensions,
    pair_cosines,
    require_finite,
    unit_rows,
)


def rows(*values: list[float]) -> Matrix32:
    return np.array(values, dtype=np.float32)


def test_three_four_five() -> None:
    found = unit_rows(rows([3, 4], [0, -2]))
    assert found.dtype == np.float32
    assert np.allclose(found, rows([0.6, 0.8], [0, -1]), atol=1e-7)


@pytest.mark.parametrize("scale", [1e-38, 1e-20, 1e20, 1e38])
def test_squares_that_no_float32_holds(scale: float) -> None:
    assert np.allclose(unit_rows(rows([3 * scale / 4, scale])), [[0.6, 0.8]], atol=1e-6)


def test_a_row_of_zeros_has_no_direction() -> None:
    with pytest.raises(InvalidInput, match="Vector 1 is all zeros"):
        unit_rows(rows([1, 0], [0, 0]))
    with pytest.raises(InvalidInput):
        pair_cosines(rows([1, 0]), rows([0, 0]))


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_the_number_that_is_not_finite_is_named(wrong: float) -> None:
    require_finite(rows([1, 2], [3, 4]))
    with pytest.raises(NotFinite, match=f"Vector 1 holds {wrong} at position 0"):
        require_finite(rows([1, 2], [wrong, wrong]))


def test_cosines_of_known_angles() -> None:
    left = rows([1, 0], [1, 0], [1, 0], [1, 1])
    right = rows([2, 0], [0, 5], [-3, 0], [1, 0])
    found = pair_cosines(left, right)
    assert found.dtype == np.float32
    assert np.allclose(found, [1, 0, -1, np.sqrt(0.5)], atol=1e-7)


def test_the_matrix_of_cosines() -> None:
    found = cosine_matrix(rows([1, 0], [1, 1], [0, 2]))
    half = np.sqrt(0.5)
    assert np.allclose(found, [[1, half, 0], [half, 1, half], [0, half, 1]], atol=1e-7)
    assert np.array_equal(cosine_matrix(rows([7, 8, 9])), [[1]])


def test_the_first_dimensions_get_length_1_again() -> None:
    vectors = rows([0.48, 0.64, 0.6])
    assert np.allclose(first_dimensions(vectors, k=2, normalize=True), [[0.6, 0.8]], atol=1e-6)
    assert np.allclose(first_dimensions(vectors, k=2, normalize=False), [[0.48, 0.64]])
    assert first_dimensions(vectors, k=3, normalize=True) is vectors
    with pytest.raises(DimensionMismatch, match=r"4 dimensions .* have 3"):
        first_dimensions(vectors, k=4, normalize=True)
