"""Sums of a handful of points by hand, and the traps that they are written around."""

from __future__ import annotations

import numpy as np
import pytest

from service.numerics.moments import Moments, measure_moments, merge_moments

# mean (3, 4), offsets (±2, 0) and (0, ±1)
CROSS = np.array([[5, 4], [1, 4], [3, 5], [3, 3]], dtype=np.float32)


def test_four_points_by_hand() -> None:
    found = measure_moments(CROSS)
    assert found.samples == 4
    assert found.dimensions == 2
    assert np.array_equal(found.mean, [3, 4])
    assert np.array_equal(found.scatter, [[8, 0], [0, 2]])
    assert np.array_equal(found.covariance, [[2, 0], [0, 0.5]])
    assert np.array_equal(found.third, [0, 0])
    assert found.fourth == 2**4 + 2**4 + 1 + 1


def test_a_lopsided_point_moves_the_third_moment() -> None:
    # offsets -1, -1, 2: Σ|z|²z = -1 - 1 + 8, Σ|z|⁴ = 1 + 1 + 16
    found = measure_moments(np.array([[0], [0], [3]], dtype=np.float32))
    assert found.mean[0] == pytest.approx(1)
    assert found.third[0] == pytest.approx(6)
    assert found.fourth == pytest.approx(18)


def test_parts_give_what_the_whole_gives() -> None:
    for cut in (1, 2, 3):
        merged = merge_moments(measure_moments(CROSS[:cut]), measure_moments(CROSS[cut:]))
        assert_alike(merged, measure_moments(CROSS), tolerance=1e-14)


def test_a_single_vector_has_no_scatter() -> None:
    found = measure_moments(CROSS[:1])
    assert np.array_equal(found.mean, CROSS[0])
    assert not found.scatter.any()
    assert found.fourth == 0


def test_a_large_mean_does_not_drown_a_small_spread() -> None:
    random = np.random.default_rng(3)
    vectors = (10 + 0.01 * random.standard_normal((5000, 8))).astype(np.float32)
    wide = vectors.astype(np.float64)
    exact = np.cov(wide.T, bias=True)
    found = measure_moments(vectors).covariance
    assert np.abs(found - exact).max() < 1e-12 * exact.max()
    # what must not be done, for comparison: E[xx] - μμ in float32
    mean = vectors.mean(axis=0)
    naive = vectors.T @ vectors / len(vectors) - np.outer(mean, mean)
    assert np.abs(naive - exact).max() > 0.1 * exact.max()


def test_blocks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.random.default_rng(1).standard_normal((500, 7)).astype(np.float32)
    whole = measure_moments(vectors)
    monkeypatch.setattr("service.numerics.moments._BLOCK_BYTES", 8 * 7 * 13)
    assert_alike(measure_moments(vectors), whole, tolerance=1e-13)


def test_the_largest_floats_are_summed_up() -> None:
    vectors = np.array([[3e38, -3e38], [-3e38, 3e38]], dtype=np.float32)
    found = measure_moments(vectors)
    assert np.isfinite(found.scatter).all()
    assert np.isfinite(found.fourth)
    assert found.covariance[0, 0] == pytest.approx(9e76, rel=1e-6)


def assert_alike(found: Moments, expected: Moments, *, tolerance: float) -> None:
    assert found.samples == expected.samples
    for name in ("mean", "scatter", "third", "fourth"):
        one, other = getattr(found, name), getattr(expected, name)
        scale = max(1.0, float(np.abs(other).max()))
        assert np.abs(one - other).max() <= tolerance * scale, name
