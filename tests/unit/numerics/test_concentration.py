"""Concentration metrics: published values, errata, extremes, and attention noise by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import softmax

from service.errors import InvalidInput, NotFinite
from service.numerics.concentration import (
    Measures,
    RowKind,
    concentration,
    max_entropy_reduction,
    noise_sensitivity,
)
from service.numerics.dtypes import Vector64

P = [0.7, 0.2, 0.05, 0.05]
SILENT = lambda *_: None  # noqa: E731


def measure(
    rows: object, kind: RowKind = RowKind.VECTOR, measures: Measures | None = None
) -> dict[str, Vector64]:
    array = np.atleast_2d(np.asarray(rows, dtype=np.float64))
    return concentration(
        array, kind=kind, measures=measures or Measures(), progress=lambda *_: None
    )


def test_published_values_of_a_probability_row() -> None:
    found = measure(P, RowKind.PROBABILITIES, Measures(top=2, mass=0.9, renyi=(0.0, 0.5, 1.0)))
    expected = {
        "entropy": 0.8711332706,
        "renyi_2": 0.6254885321,
        "renyi_inf": 0.3566749439,
        "s_1_2": 0.6835859270,
        "hoyer": 0.6328281459,
        "gini": 0.525,
        "tsallis_2": 0.465,
        "perplexity": math.exp(0.8711332706),
        "n_eff": 1 / 0.535,
        "top_mass": 0.9,
        "renyi_0": math.log(4),
        "renyi_1": 0.8711332706,
        "renyi_0.5": 2 * math.log(sum(math.sqrt(p) for p in P)),
        "normalized_entropy": 0.8711332706 / math.log(4),
    }
    for name, value in expected.items():
        assert found[name][0] == pytest.approx(value, abs=1e-9), name
    assert found["covering_count"][0] in {2, 3}  # .7 + .2 is .9 but for rounding


def test_the_square_root_that_is_missing_in_print() -> None:
    found = measure([3.0, -1.0, 0.0, 2.0])["s_1_2"][0]
    assert found == pytest.approx(0.8017837257, abs=1e-9)
    assert found != pytest.approx(0.642857, abs=1e-3)


def test_long_vectors_reach_the_constants_of_their_law() -> None:
    rng = np.random.default_rng(0)
    assert measure(rng.normal(size=400_000))["s_1_2"][0] == pytest.approx(
        math.sqrt(2 / math.pi), abs=2e-3
    )
    assert measure(rng.laplace(size=400_000))["s_1_2"][0] == pytest.approx(
        1 / math.sqrt(2), abs=2e-3
    )


def test_general_orders_keep_their_range() -> None:
    orders = ((0.5, 1.0), (1.0, 3.0), (2.0, 1000.0), (0.001, 0.002))
    one_hot, flat = np.eye(16)[3], np.full(16, -2.5)
    found = measure([one_hot, flat], measures=Measures(orders=orders))
    for q, p in orders:
        low, high = found[f"s_{q:g}_{p:g}"]
        assert low == pytest.approx(16 ** (1 / p - 1 / q), rel=1e-9, abs=1e-300)
        assert high == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("size", [1e-300, 5e-324, 1.0, 1e300, 1.7e308])
def test_metrics_do_not_depend_on_the_size(size: float) -> None:
    found = measure([[size, -size, 0.0, size], [size, 0.0, 0.0, 0.0]])
    plain = measure([[1.0, -1.0, 0.0, 1.0], [1.0, 0.0, 0.0, 0.0]])
    for name, values in found.items():
        assert values == pytest.approx(plain[name]), name
    assert found["hoyer"][1] == 1


def test_what_is_not_defined_is_nan() -> None:
    zeros = measure([[0.0, 0.0], [1.0, 1.0]])
    assert all(np.isnan(values[0]) and np.isfinite(values[1]) for values in zeros.values())
    single = measure([[5.0]])
    assert np.isnan(single["hoyer"][0])
    assert single["s_1_2"][0] == 1
    certain = measure([[1.0]], RowKind.PROBABILITIES)
    assert np.isnan(certain["normalized_entropy"][0])
    assert certain["entropy"][0] == 0


def test_logits_agree_with_their_probabilities() -> None:
    logits = np.random.default_rng(1).normal(size=(5, 60)) * 3
    logits[2, 10:] = -np.inf
    measures = Measures(renyi=(0.0, 0.3, 7.0), orders=((1.0, 2.0), (0.5, 4.0)))
    found = measure(logits, RowKind.LOGITS, measures)
    plain = measure(softmax(logits, axis=1), RowKind.PROBABILITIES, measures)
    for name, values in plain.items():
        if name != "normalized_entropy":
            assert found[name] == pytest.approx(values, abs=1e-9), name
    assert found["normalized_entropy"][2] == pytest.approx(found["entropy"][2] / math.log(10))
    assert found["renyi_0"][2] == pytest.approx(math.log(10))


def test_the_link_between_sparsity_and_renyi_entropy() -> None:
    found = measure(
        np.random.default_rng(2).dirichlet(np.full(30, 0.3), size=20), RowKind.PROBABILITIES
    )
    assert found["s_1_2"] == pytest.approx(np.exp((found["renyi_2"] - math.log(30)) / 2))


def test_cosines_can_lower_entropy_by_less_than_half_a_nat() -> None:
    assert max_entropy_reduction(np.array([2.0]))[0] == pytest.approx(0.47447464, abs=1e-8)
    assert max_entropy_reduction(np.array([0.0]))[0] == 0
    assert max_entropy_reduction(np.array([1e-3]))[0] == pytest.approx(1e-6 / 8, rel=1e-3)
    # the best that scores at the two ends of an interval do
    n = 100_000
    shares = np.arange(1, n) / n
    top = np.exp(2.0)
    p_top = shares * top / (shares * top + 1 - shares)
    reduction = 2 * p_top - np.log(shares * top + 1 - shares)
    assert reduction.max() == pytest.approx(0.47447464, abs=1e-8)


@pytest.mark.parametrize(
    "row",
    [
        [1e300, -1e300],
        [1.7e308, -1.7e308, -np.inf],
        [0.0, -np.inf],
        [5.0],
        [1e-300, 0.0],
        [0.0] * 9,
    ],
)
def test_extreme_logits_have_numbers_or_nan(row: list[float]) -> None:
    found = measure([row], RowKind.LOGITS)
    for name, values in found.items():
        assert not np.isinf(values).any(), name
    assert found["entropy"][0] >= 0
    assert found["lse_lower_max"][0] <= found["log_sum_exp"][0] <= found["lse_upper_max"][0]


def test_the_reduction_is_at_most_log_n() -> None:
    found = measure([[0.0, 1000.0]], RowKind.LOGITS)
    assert found["max_entropy_reduction"][0] == pytest.approx(math.log(2))


def test_refusals_name_row_and_value() -> None:
    with pytest.raises(InvalidInput, match=r"Row 0 .* sums to 0\.9"):
        measure([0.5, 0.4], RowKind.PROBABILITIES)
    with pytest.raises(NotFinite, match=r"Row 1 .* masked everywhere"):
        measure([[0.0, 1.0], [-np.inf, -np.inf]], RowKind.LOGITS)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(4).normal(size=(50, 20))
    whole = measure(rows, RowKind.LOGITS)
    monkeypatch.setattr("service.numerics.distributions.logits._BLOCK", 60)
    for name, values in measure(rows, RowKind.LOGITS).items():
        assert np.array_equal(values, whole[name]), name


@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("spread", [0.2, 1.5])
def test_noise_sensitivity_agrees_with_simulation(offset: float, spread: float) -> None:
    rng = np.random.default_rng(5)
    logits, values = rng.normal(size=512) * spread, rng.normal(size=(512, 8)) + offset
    p = softmax(logits)[np.newaxis]
    expected = noise_sensitivity(p, values, noise=0.5)[0]
    noisy = softmax(logits + 0.5 * rng.normal(size=(4000, 512)), axis=1)
    moved = ((noisy - p) @ (values - offset)) ** 2
    assert moved.sum(axis=1).mean() == pytest.approx(expected, rel=0.15)
