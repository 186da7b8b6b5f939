"""Sparse maps against published values, an exact projection, and a bisection of their own."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
from scipy.special import softmax

from service.numerics.distributions.logits import shifted
from service.numerics.distributions.sparse import (
    entmax,
    entmax15,
    largest,
    min_p,
    nucleus,
    ranked,
    sparsemax,
    top_k,
    top_p,
)
from service.numerics.dtypes import Matrix64, Vector64

FIVE = [2.0, 1.0, 0.5, 0.0, -1.0]
THREE = [1.0, 0.8, 0.1]


def of(function: Callable[..., Matrix64], logits: object, **options: float) -> Vector64:
    rows = np.atleast_2d(np.asarray(logits, dtype=np.float64))
    return function(shifted(rows, scale=1.0), **options)[0]


def bisected(logits: Vector64, alpha: float) -> Vector64:
    """Return alpha-entmax by two hundred halvings of its threshold."""
    x = (alpha - 1) * (logits - logits.max())
    low, high = -1.0, 0.0
    for _ in range(200):
        tau = 0.5 * (low + high)
        p = np.maximum(x - tau, 0) ** (1 / (alpha - 1))
        low, high = (tau, high) if p.sum() > 1 else (low, tau)
    return np.asarray(p / p.sum())


def projected(x: Vector64) -> Vector64:
    """Return the nearest point of the simplex, by trying every support."""
    best, nearest = np.inf, x
    for size in range(1, len(x) + 1):
        for support in combinations(range(len(x)), size):
            p = np.zeros_like(x)
            chosen = list(support)
            p[chosen] = x[chosen] - (x[chosen].sum() - 1) / size
            if (p >= 0).all() and ((p - x) ** 2).sum() < best:
                best, nearest = ((p - x) ** 2).sum(), p
    return nearest


def rows() -> list[Vector64]:
    rng = np.random.default_rng(11)
    drawn = [rng.normal(size=rng.integers(1, 60)) * 10 ** rng.uniform(-2, 1) for _ in range(1000)]
    tied = [np.round(row * 2) / 2 for row in drawn[:100]]
    return [*drawn, *tied, np.zeros(1), np.zeros(40), np.array([1.0, 1.0, 0.0])]


def test_published_values() -> None:
    assert of(sparsemax, THREE) == pytest.approx([0.6, 0.4, 0], abs=1e-12)
    assert of(sparsemax, FIVE).tolist() == [1, 0, 0, 0, 0]
    assert of(entmax15, THREE) == pytest.approx([0.52924789, 0.39374904, 0.07700306], abs=1e-8)
    assert of(entmax15, FIVE) == pytest.approx([0.81464944, 0.16207011, 0.02328045, 0, 0], abs=1e-8)
    assert of(entmax, FIVE, alpha=1.25) == pytest.approx(
        [0.693867, 0.192849, 0.083579, 0.029004, 0.000700], abs=1e-6
    )


@pytest.mark.parametrize("alpha", [1.05, 1.25, 1.5, 2.0, 3.0])
def test_entmax_agrees_with_bisection(alpha: float) -> None:
    for logits in rows():
        assert np.abs(of(entmax, logits, alpha=alpha) - bisected(logits, alpha)).max() < 1e-9


def test_closed_forms_agree_with_bisection() -> None:
    for logits in rows():
        assert np.abs(of(sparsemax, logits) - bisected(logits, 2.0)).max() < 1e-9
        assert np.abs(of(entmax15, logits) - bisected(logits, 1.5)).max() < 1e-9


def test_sparsemax_is_the_projection() -> None:
    rng = np.random.default_rng(12)
    for _ in range(50):
        logits = rng.normal(size=7)
        assert np.abs(of(sparsemax, logits) - projected(logits)).max() < 1e-12


def test_entmax_reaches_softmax_at_alpha_one() -> None:
    logits = np.random.default_rng(13).normal(size=500)
    assert of(entmax, logits, alpha=1) == pytest.approx(softmax(logits), abs=1e-15)
    assert of(entmax, logits, alpha=1 + 1e-9) == pytest.approx(softmax(logits), abs=1e-8)


@pytest.mark.parametrize("alpha", [1.0, 1 + 1e-12, 1.5, 2.0, 8.0, 64.0])
@pytest.mark.parametrize(
    "logits", [[0.0] * 300, [1e300, -1e300, 1e300], [0.0, -np.inf], [1e-300, 0.0], [7.0]]
)
def test_entmax_of_extremes(alpha: float, logits: list[float]) -> None:
    p = of(entmax, logits, alpha=alpha)
    top = np.asarray(logits) == max(logits)
    assert abs(p.sum() - 1) < 1e-12
    if max(logits) - min(logits) > 1 or min(logits) == max(logits):
        assert np.allclose(p, top / top.sum(), atol=1e-12)


@pytest.mark.parametrize("function", [sparsemax, entmax15])
@pytest.mark.parametrize("logits", [[1e300, -1e300], [0.0, -np.inf], [-1e308, 1e308], [3.0]])
def test_closed_forms_of_extremes(function: Callable[..., Matrix64], logits: list[float]) -> None:
    expected = (np.asarray(logits) == max(logits)).astype(float)
    assert of(function, logits) == pytest.approx(expected)


def test_ties_go_to_the_lowest_index() -> None:
    logits = [1.0, 2.0, 2.0, 2.0, 0.0]
    assert np.flatnonzero(of(top_k, logits, k=2)).tolist() == [1, 2]
    assert np.flatnonzero(of(top_p, logits, p=0.5)).tolist() == [1, 2]
    assert largest(np.array(logits), 4).tolist() == [0, 1, 2, 3]
    assert ranked(np.array(logits), 4).tolist() == [1, 2, 3, 0]


def test_top_k_beyond_the_row_keeps_all() -> None:
    assert of(top_k, FIVE, k=99) == pytest.approx(softmax(FIVE))
    assert of(top_k, FIVE, k=1).tolist() == [1, 0, 0, 0, 0]


def test_the_nucleus_is_the_smallest_that_reaches_its_mass() -> None:
    p = np.array([0.1, 0.5, 0.15, 0.25])
    for mass, expected in {0.5: [1], 0.50001: [1, 3], 0.75: [1, 3], 0.9: [1, 2, 3]}.items():
        assert nucleus(p, mass=mass).tolist() == expected
    assert nucleus(np.array([0.5, 0.0, 0.5]), mass=1).tolist() == [0, 2]
    assert nucleus(np.full(10, 0.1), mass=1 - 1e-17).tolist() == list(range(10))


def test_min_p_keeps_a_share_of_the_likeliest() -> None:
    logits = np.log([0.5, 0.25, 0.2, 0.05])
    assert of(min_p, logits, share=0.4) == pytest.approx(np.array([50, 25, 20, 0]) / 95)
    assert np.count_nonzero(of(min_p, [1.0, 1.0, 0.0], share=1.0)) == 2
