"""Probabilities from noise: closed forms for two logits, published values, order, extremes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import ndtr, softmax

from service.numerics.distributions.choice import MapName, ProbabilityMap, map_logits
from service.numerics.distributions.logits import shifted
from service.numerics.distributions.maps import NOISES, Mapped, matched_scale, noise_map
from service.numerics.dtypes import Vector64

FIVE = [2.0, 1.0, 0.5, 0.0, -1.0]
# Each within 8e-4 of two million Monte Carlo draws.
PUBLISHED = {
    "gumbel": [0.5630212, 0.2071239, 0.1256270, 0.0761966, 0.0280312],
    "gaussian": [0.6687637, 0.1964860, 0.0919953, 0.0383223, 0.0044327],
    "logistic": [0.4846118, 0.2286212, 0.1508399, 0.0973464, 0.0385807],
    "exponential": [0.6733275, 0.1603537, 0.0923638, 0.0544439, 0.0195112],
    "uniform": [1.0, 0.0, 0.0, 0.0, 0.0],
}


def mapped(logits: object, noise: str, nodes: int | None = None) -> Mapped:
    rows = np.atleast_2d(np.asarray(logits, dtype=np.float64))
    return noise_map(shifted(rows, scale=1.0), noise=noise, nodes=nodes)


def first(logits: object, noise: str) -> Vector64:
    return mapped(logits, noise).probabilities[0]


def logistic_pair(gap: float) -> float:
    a = math.exp(gap)
    return a * (a - 1 - gap) / (a - 1) ** 2


PAIRS = {
    "gumbel": lambda d: 1 / (1 + math.exp(-d)),
    "gaussian": lambda d: float(ndtr(d / math.sqrt(2))),
    "logistic": logistic_pair,
    "exponential": lambda d: 1 - math.exp(-d) / 2,
    "uniform": lambda d: 1 - (1 - min(d, 1.0)) ** 2 / 2,
}


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("gap", [0.1, 0.5, 1.0, 3.0, 9.0])
def test_two_logits_have_their_closed_form(noise: str, gap: float) -> None:
    found = mapped([gap, 0.0], noise)
    assert found.probabilities[0, 0] == pytest.approx(PAIRS[noise](gap), abs=1e-10)
    assert abs(found.mass_defect[0]) <= 1e-8


@pytest.mark.parametrize("noise", NOISES)
def test_five_logits_have_the_published_probabilities(noise: str) -> None:
    assert first(FIVE, noise) == pytest.approx(PUBLISHED[noise], abs=1e-7)


@pytest.mark.parametrize("nodes", [5, 32, 256])
def test_gumbel_noise_is_softmax_at_any_number_of_nodes(nodes: int) -> None:
    found = mapped(FIVE, "gumbel", nodes).probabilities[0]
    assert np.allclose(found, softmax(FIVE), rtol=0, atol=1e-15)


@pytest.mark.parametrize("noise", NOISES)
def test_a_shift_changes_nothing(noise: str) -> None:
    logits = np.random.default_rng(3).normal(size=200)
    assert np.abs(first(logits, noise) - first(logits + 1000, noise)).max() < 1e-12


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("n", [1, 2, 7, 50, 3000])
def test_equal_logits_share_equally(noise: str, n: int) -> None:
    assert np.abs(first(np.full(n, 5.0), noise) - 1 / n).max() <= 1e-12


@pytest.mark.parametrize("noise", ["gaussian", "logistic", "exponential"])
@pytest.mark.parametrize("nodes", [4, 64])
def test_unbounded_noise_keeps_the_order_of_distinct_logits(noise: str, nodes: int) -> None:
    logits = np.sort(np.random.default_rng(4).normal(size=300) * 2)
    p = mapped(logits, noise, nodes).probabilities[0]
    assert (np.diff(p[p > 1e-300]) > 0).all()


def test_uniform_noise_never_lifts_an_entry_by_more_than_one() -> None:
    p = first([0.0, -0.5, -0.999, -1.0, -1.001], "uniform")
    assert (p > 0).tolist() == [True, True, True, False, False]
    assert (np.diff(p) <= 0).all()


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize(
    "logits",
    [
        [1e300, -1e300, 1e-300],
        [0.0, *[-1e300] * 100],
        [0.0, -np.inf, -np.inf],
        [1e-300, 0.0],
        [1.7e308, -1.7e308],
    ],
)
def test_extreme_logits_stay_probabilities(noise: str, logits: list[float]) -> None:
    found = mapped(logits, noise)
    p = found.probabilities[0]
    assert np.isfinite(p).all()
    assert (p >= 0).all()
    assert abs(p.sum() - 1) <= 1e-12
    assert (p[np.isneginf(logits)] == 0).all()
    assert abs(found.mass_defect[0]) <= 1e-8


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("spread", [0.0, 0.01, 1.0, 4.0])
def test_many_logits_lose_no_mass(noise: str, spread: float) -> None:
    logits = np.random.default_rng(5).normal(size=5000) * spread
    found = mapped(logits, noise)
    assert abs(found.mass_defect[0]) <= 1e-8
    assert abs(found.probabilities[0].sum() - 1) <= 1e-12


@pytest.mark.parametrize("noise", ["exponential", "uniform"])
def test_polynomial_integrals_agree_with_far_more_nodes(noise: str) -> None:
    logits = np.random.default_rng(6).uniform(size=700)
    fine = mapped(logits, noise, 400).probabilities
    assert np.abs(mapped(logits, noise).probabilities - fine).max() < 1e-13


def test_matched_noise_has_the_spread_of_gumbel_noise() -> None:
    assert matched_scale("gumbel") == 1
    assert matched_scale("gaussian") == pytest.approx(1.2825498)
    assert matched_scale("logistic") == pytest.approx(math.sqrt(0.5))
    chosen = ProbabilityMap(MapName.GAUSSIAN, scale=2.0, temperature=3.0, match_variance=True)
    assert chosen.divisor == pytest.approx(6 * 1.2825498)
    assert ProbabilityMap(MapName.SOFTMAX, scale=2.0, temperature=3.0).divisor == 3


def test_rows_do_not_depend_on_each_other() -> None:
    rows = np.random.default_rng(8).normal(size=(40, 3000))
    chosen = ProbabilityMap(MapName.GAUSSIAN)
    whole = map_logits(rows, chosen, progress=lambda *_: None)
    alone = map_logits(rows[17:18], chosen, progress=lambda *_: None)
    assert np.array_equal(whole.probabilities[17], alone.probabilities[0])
    assert whole.mass_defect is not None


@pytest.mark.parametrize("name", MapName)
def test_every_map_gives_probabilities_with_their_entropy_and_support(name: MapName) -> None:
    rows = np.array([FIVE, [1.0, 1.0, -np.inf, 1.0, 0.9], [0.0] * 5])
    steps: list[tuple[str, int, int]] = []
    found = map_logits(rows, ProbabilityMap(name), progress=lambda *step: steps.append(step))
    p = found.probabilities
    assert np.allclose(p.sum(axis=1), 1, rtol=0, atol=1e-12)
    assert p[1, 2] == 0
    logs = np.log(p, out=np.zeros_like(p), where=p > 0)
    assert np.allclose(found.entropies, -(p * logs).sum(axis=1), atol=1e-12)
    assert np.array_equal(found.support, (p > 0).sum(axis=1))
    assert steps[-1] == ("map", 3, 3)
