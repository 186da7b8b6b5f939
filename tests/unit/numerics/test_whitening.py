"""Whitening of four points by hand, shrinkage against its formulas, and what cannot be whitened."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf, oas

from service.errors import DimensionMismatch, InvalidInput
from service.numerics.dtypes import Matrix32
from service.numerics.moments import Moments, measure_moments
from service.numerics.vectors import cosine_matrix
from service.numerics.whitening import (
    EIGENVALUE_FLOOR,
    Shrinkage,
    find_axes,
    make_kernel,
    narrow_kernel,
    project,
    require_dimensions,
    shrinkage_intensity,
    sum_up,
    whiten,
)

# mean (3, 4), covariance diag(2, 1/2)
CROSS = np.array([[5, 4], [1, 4], [3, 5], [3, 3]], dtype=np.float32)
NONE = Shrinkage.NONE


def slanted(samples: int, dimensions: int, *, seed: int = 0) -> Matrix32:
    random = np.random.default_rng(seed)
    mixing = random.standard_normal((dimensions, dimensions))
    found = random.standard_normal((samples, dimensions)) @ mixing + random.standard_normal()
    return found.astype(np.float32)


def test_four_points_by_hand() -> None:
    axes = find_axes(measure_moments(CROSS), beta=1, shrinkage=NONE)
    assert np.allclose(axes.eigenvalues, [2, 0.5])
    assert np.allclose(axes.directions, np.eye(2))
    assert (axes.floored, axes.intensity) == (0, 0)
    found = project(CROSS, make_kernel(axes, gamma=1, dimensions=2))
    root = np.sqrt(2)
    assert np.allclose(found, [[root, 0], [-root, 0], [0, root], [0, -root]])
    half = project(CROSS, make_kernel(axes, gamma=0.5, dimensions=1))
    assert np.allclose(half, [[2 / 2**0.25], [-2 / 2**0.25], [0], [0]])


def test_the_second_moment_is_about_beta_times_the_mean() -> None:
    # C + μμᵀ = [[2 + 9, 12], [12, 1/2 + 16]]: trace 27.5, determinant 37.5
    axes = find_axes(measure_moments(CROSS), beta=0, shrinkage=NONE)
    assert axes.eigenvalues.sum() == pytest.approx(27.5)
    assert axes.eigenvalues.prod() == pytest.approx(37.5)
    assert np.array_equal(axes.centre, [0, 0])
    # C + μμᵀ/4 at β = 1/2
    axes = find_axes(measure_moments(CROSS), beta=0.5, shrinkage=NONE)
    assert axes.eigenvalues.sum() == pytest.approx(2.5 + 25 / 4)
    assert np.array_equal(axes.centre, [1.5, 2])


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_the_second_moment_about_the_centre_becomes_the_identity(beta: float) -> None:
    vectors = slanted(300, 12)
    axes = find_axes(measure_moments(vectors), beta=beta, shrinkage=NONE)
    found = project(vectors.astype(np.float64), make_kernel(axes, gamma=1, dimensions=12))
    assert np.abs(found.T @ found / len(found) - np.eye(12)).max() < 1e-6


def test_beta_and_gamma_0_change_no_cosine() -> None:
    vectors = slanted(40, 16)
    axes = find_axes(measure_moments(vectors), beta=0, shrinkage=Shrinkage.LEDOIT_WOLF)
    kernel = narrow_kernel(make_kernel(axes, gamma=0, dimensions=16))
    difference = cosine_matrix(whiten(vectors, kernel)) - cosine_matrix(vectors)
    assert np.abs(difference).max() < 1e-6


def test_the_largest_entry_of_each_axis_is_positive() -> None:
    directions = find_axes(measure_moments(slanted(90, 9)), beta=1, shrinkage=NONE).directions
    peaks = np.abs(directions).argmax(axis=0)
    assert (directions[peaks, np.arange(9)] > 0).all()


def test_directions_without_variance_are_floored_and_counted() -> None:
    vectors = slanted(200, 6)
    vectors[:, 4] = 7  # never varies
    vectors[:, 5] = vectors[:, 0]  # says nothing new
    axes = find_axes(measure_moments(vectors), beta=1, shrinkage=NONE)
    assert axes.floored == 2
    assert axes.eigenvalues[-1] == pytest.approx(EIGENVALUE_FLOOR * axes.eigenvalues[0])
    found = project(vectors, make_kernel(axes, gamma=1, dimensions=6))
    assert np.allclose(found[:, :4].var(axis=0), 1, atol=1e-3)
    assert found[:, 4:].var(axis=0).max() < 1e-3


class TestShrinkage:
    def test_by_hand(self) -> None:
        # S = diag(2, 1/2): tr S² = 17/4, tr² S / 2 = 25/8, so 9/8 is to be shrunk away
        moments = measure_moments(np.tile(CROSS, (25, 1)))
        assert shrinkage_intensity(moments, NONE) == 0
        assert shrinkage_intensity(moments, Shrinkage.OAS) == pytest.approx(6.25 / (100 * 1.125))
        mean_fourth = (16 + 16 + 1 + 1) / 4
        wolf = shrinkage_intensity(moments, Shrinkage.LEDOIT_WOLF)
        assert wolf == pytest.approx((mean_fourth - 4.25) / (100 * 1.125))

    @pytest.mark.parametrize("samples", [5, 20, 60, 1000])
    def test_against_scikit_learn(self, samples: int) -> None:
        vectors = slanted(samples, 30)
        moments = measure_moments(vectors)
        wide = vectors.astype(np.float64)
        wolf = shrinkage_intensity(moments, Shrinkage.LEDOIT_WOLF)
        assert wolf == pytest.approx(ledoit_wolf(wide)[1], abs=1e-10)
        # theirs leaves out the terms in 2/p of the article
        assert shrinkage_intensity(moments, Shrinkage.OAS) == pytest.approx(oas(wide)[1], rel=0.01)

    def test_it_draws_the_covariance_towards_its_mean(self) -> None:
        vectors = slanted(25, 30)
        moments = measure_moments(vectors)
        axes = find_axes(moments, beta=1, shrinkage=Shrinkage.LEDOIT_WOLF)
        expected, intensity = ledoit_wolf(vectors.astype(np.float64))
        assert axes.intensity == pytest.approx(intensity)
        assert np.allclose(axes.eigenvalues, np.linalg.eigvalsh(expected)[::-1])
        assert axes.floored == 0

    def test_what_is_round_already_is_left_alone(self) -> None:
        corners = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]], dtype=np.float32)
        for shrinkage in Shrinkage:
            assert shrinkage_intensity(measure_moments(corners), shrinkage) == 0


class TestRefusals:
    def test_one_vector(self) -> None:
        with pytest.raises(InvalidInput, match="1 vector came"):
            find_axes(measure_moments(CROSS[:1]), beta=1, shrinkage=NONE)

    @pytest.mark.parametrize("value", [0.1, 3e38, 1e-40, 12345.678])
    def test_equal_vectors(self, value: float) -> None:
        vectors = np.full((7, 3), value, dtype=np.float32)
        with pytest.raises(InvalidInput, match="All 7 vectors are the same"):
            find_axes(measure_moments(vectors), beta=0, shrinkage=Shrinkage.OAS)

    def test_vectors_that_differ_by_rounding_alone(self) -> None:
        vectors = np.full((8, 3), 0.7, dtype=np.float32)
        vectors[::2, 1] = np.nextafter(np.float32(0.7), np.float32(1))
        with pytest.raises(InvalidInput, match="All 8 vectors are the same"):
            find_axes(measure_moments(vectors), beta=1, shrinkage=NONE)

    def test_more_dimensions_than_there_are(self) -> None:
        moments = measure_moments(slanted(10, 4))
        with pytest.raises(DimensionMismatch, match=r"5 dimensions .* have 4"):
            require_dimensions(5, width=moments.dimensions, samples=10, intensity=0.5)

    def test_more_dimensions_than_samples_span(self) -> None:
        require_dimensions(12, width=12, samples=10, intensity=0.5)
        require_dimensions(9, width=12, samples=10, intensity=0)
        with pytest.raises(DimensionMismatch, match="10 samples span only 9"):
            require_dimensions(10, width=12, samples=10, intensity=0)

    def test_a_vector_at_the_centre_has_no_direction(self) -> None:
        kernel = make_kernel(
            find_axes(measure_moments(CROSS), beta=1, shrinkage=NONE), gamma=1, dimensions=2
        )
        beside = np.array([[0, 0], [3, 4]], dtype=np.float32)
        for each in (kernel, narrow_kernel(kernel)):
            with pytest.raises(InvalidInput, match="Vector 1 is all zeros after the transform"):
                whiten(beside, each)
        with pytest.raises(InvalidInput, match="Vector 1025 is all zeros"):
            whiten(np.vstack([np.zeros((1025, 2)), beside[1:]]).astype(np.float32), kernel)

    def test_an_image_that_float32_cannot_hold(self) -> None:
        axes = find_axes(measure_moments(CROSS), beta=0, shrinkage=NONE)
        kernel = narrow_kernel(make_kernel(axes, gamma=0, dimensions=2))
        with pytest.raises(InvalidInput, match="Vector 0 is so long"):
            project(np.full((1, 2), 3e38, dtype=np.float32), kernel)


@pytest.mark.parametrize("scale", [1e-38, 1e-30, 1e30, 1e37])
def test_vectors_of_any_scale_are_whitened_alike(scale: float) -> None:
    vectors = slanted(50, 4)
    expected = whitened(measure_moments(vectors), vectors)
    scaled = (vectors.astype(np.float64) * scale).astype(np.float32)
    assert np.abs(whitened(measure_moments(scaled), scaled) - expected).max() < 1e-4


def whitened(moments: Moments, vectors: Matrix32) -> Matrix32:
    axes = find_axes(moments, beta=1, shrinkage=NONE)
    return whiten(vectors, narrow_kernel(make_kernel(axes, gamma=1, dimensions=4)))


def test_float32_is_used_where_it_holds_the_digits() -> None:
    axes = find_axes(measure_moments(CROSS), beta=1, shrinkage=NONE)
    assert narrow_kernel(make_kernel(axes, gamma=1, dimensions=2)).weights.dtype == np.float32
    tiny = find_axes(measure_moments(CROSS * np.float32(1e-35)), beta=1, shrinkage=NONE)
    assert narrow_kernel(make_kernel(tiny, gamma=1, dimensions=2)).weights.dtype == np.float64


def test_the_figures_of_a_spectrum() -> None:
    axes = find_axes(measure_moments(CROSS), beta=1, shrinkage=NONE)
    found = sum_up(axes, dimensions=1)
    assert (found.largest, found.smallest) == (pytest.approx(2), pytest.approx(0.5))
    assert found.kept_share == pytest.approx(0.8)
    # shares .8 and .2: entropy .5004024, sum of squares .68
    assert found.effective_rank == pytest.approx(np.exp(0.5004024235))
    assert found.isoscore == pytest.approx(1 / 0.68 - 1)
