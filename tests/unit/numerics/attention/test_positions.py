"""Angles of rotary positions: the ends that each scheme fixes, its limits, and its refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest

from service.errors import DimensionMismatch, InvalidInput
from service.numerics.attention.positions import RopeName, RopeScheme, angles, rope_tables
from service.numerics.dtypes import Matrix64

BASE, DIM, K = 10_000.0, 64, 8.0
AT = np.arange(100)


def turned(name: RopeName, *, factor: float = K, mixing: float = 0.625) -> Matrix64:
    scheme = RopeScheme(name=name, factor=factor, mixing=mixing, window=16)
    return angles(scheme, AT, rope_dim=DIM, base=BASE)


def test_direct_angles_are_positions_times_the_published_frequencies() -> None:
    expected = [[t * BASE ** (-2 * i / DIM) for i in range(DIM // 2)] for t in AT]
    np.testing.assert_allclose(turned(RopeName.DIRECT), expected, rtol=1e-13)


def test_pi_divides_every_angle_by_the_factor() -> None:
    np.testing.assert_allclose(turned(RopeName.PI), turned(RopeName.DIRECT) / K, rtol=1e-13)


def test_old_ntk_is_a_larger_base_and_meets_direct_and_pi_at_its_ends() -> None:
    found = turned(RopeName.NTK)
    larger = BASE * K ** (DIM / (DIM - 2))
    expected = angles(RopeScheme(), AT, rope_dim=DIM, base=larger)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose(found[:, 0], turned(RopeName.DIRECT)[:, 0], rtol=1e-13)
    np.testing.assert_allclose(found[:, -1], turned(RopeName.PI)[:, -1], rtol=1e-12)


def test_fixed_ntk_is_a_number_in_base_beta_lambda_divided_once_more() -> None:
    beta, growth = BASE ** (2 / DIM), K ** (2 / DIM)
    expected = [
        [t / (growth * (beta * growth) ** (m - 1)) for m in range(1, DIM // 2 + 1)] for t in AT
    ]
    np.testing.assert_allclose(turned(RopeName.NTK_FIXED), expected, rtol=1e-12)


def test_mixed_ntk_divides_by_a_stretched_exponential() -> None:
    beta, b = BASE ** (2 / DIM), 0.625
    a = math.log(K) / (DIM / 2) ** b
    expected = [
        [t / (beta ** (m - 1) * math.exp(a * m**b)) for m in range(1, DIM // 2 + 1)] for t in AT
    ]
    np.testing.assert_allclose(turned(RopeName.NTK_MIXED), expected, rtol=1e-12)


def test_mixing_runs_from_pi_to_fixed() -> None:
    zero, one = (turned(RopeName.NTK_MIXED, mixing=b) for b in (0.0, 1.0))
    np.testing.assert_allclose(zero, turned(RopeName.PI), rtol=1e-13)
    np.testing.assert_allclose(one, turned(RopeName.NTK_FIXED), rtol=1e-13)


@pytest.mark.parametrize("name", set(RopeName) - {RopeName.NONE})
def test_a_factor_of_one_changes_nothing(name: RopeName) -> None:
    np.testing.assert_allclose(turned(name, factor=1.0), turned(RopeName.DIRECT), rtol=1e-13)


def test_no_positions_turn_nothing() -> None:
    tables = rope_tables(
        RopeScheme(name=RopeName.NONE), queries=AT, keys=AT, rope_dim=DIM, base=BASE
    )
    assert (tables.queries.cos == 1).all()
    assert (tables.keys.sin == 0).all()
    assert tables.queries.cos.dtype == np.float32


def distances(name: RopeName, *, window: int, factor: float) -> Matrix64:
    """Return the relative positions that the tables mean, read off a slow pair."""
    scheme = RopeScheme(name=name, factor=factor, window=window)
    places = np.arange(12)
    tables = rope_tables(scheme, queries=places, keys=places, rope_dim=64, base=1e6)
    assert tables.far is not None
    pair = 10  # 1e6^(-20/64) radians a position: 12 positions stay below π
    rate = 1e6 ** (-2 * pair / 64)

    def angle(table: object) -> Matrix64:
        cos, sin = table.cos[:, pair], table.sin[:, pair]  # type: ignore[attr-defined]
        found: Matrix64 = np.arctan2(sin, cos).astype(np.float64) / rate
        return found

    near = angle(tables.queries)[:, None] - angle(tables.keys)
    far = angle(tables.far.queries)[:, None] - angle(tables.far.keys)
    return np.where(tables.far.near, near, far)


def test_rerope_bounds_distances_at_the_window() -> None:
    back = np.subtract.outer(np.arange(12), np.arange(12))
    found = distances(RopeName.REROPE, window=4, factor=1.0)
    np.testing.assert_allclose(found, np.minimum(back, 4), atol=1e-4)


def test_leaky_rerope_slows_distances_beyond_the_window() -> None:
    back = np.subtract.outer(np.arange(12), np.arange(12)).astype(float)
    found = distances(RopeName.LEAKY_REROPE, window=4, factor=3.0)
    expected = np.where(back < 4, back, 4 + (back - 4) / 3)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_tables_of_far_positions_keep_float64_angles() -> None:
    far = np.array([1_000_003])
    tables = rope_tables(RopeScheme(), queries=far, keys=far, rope_dim=2, base=BASE)
    assert tables.queries.cos[0, 0] == pytest.approx(math.cos(1_000_003), abs=1e-7)


@pytest.mark.parametrize("rope_dim", [-2, 0, 1, 3, 63])
def test_a_dimension_that_cannot_pair_is_refused(rope_dim: int) -> None:
    with pytest.raises(DimensionMismatch, match=str(rope_dim)):
        angles(RopeScheme(), AT, rope_dim=rope_dim, base=BASE)


def test_old_ntk_needs_two_pairs() -> None:
    with pytest.raises(DimensionMismatch, match="at least 4"):
        angles(RopeScheme(name=RopeName.NTK, factor=2.0), AT, rope_dim=2, base=BASE)


@pytest.mark.parametrize(
    "wrong",
    [
        {"factor": 0.5},
        {"factor": math.nan},
        {"factor": math.inf},
        {"mixing": -0.1},
        {"mixing": 1.1},
        {"mixing": math.nan},
        {"name": RopeName.REROPE},
        {"name": RopeName.LEAKY_REROPE, "factor": 2.0},
        {"name": RopeName.REROPE, "window": 0},
        {"name": RopeName.REROPE, "window": -3},
    ],
)
def test_parameters_outside_their_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidInput):
        RopeScheme(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("base", [1.0, 0.0, -3.0, math.inf, math.nan])
def test_a_base_that_does_not_slow_down_is_refused(base: float) -> None:
    with pytest.raises(InvalidInput, match="base"):
        angles(RopeScheme(), AT, rope_dim=8, base=base)
