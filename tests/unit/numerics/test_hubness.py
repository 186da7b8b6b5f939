"""Neighbours of points on a circle by hand, and everything else against brute force."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import norm, skew

from service.errors import DimensionMismatch, InvalidInput
from service.numerics import hubness
from service.numerics.dtypes import Ids64, Matrix32, Matrix64
from service.numerics.hubness import (
    Metric,
    centre_cosines,
    find_hubs,
    occurrences,
    pair_similarities,
    similarity_matrix,
    sum_up_hubness,
)
from service.numerics.vectors import wide_unit_rows


def quiet(*_: Any) -> None:
    """Take progress and do nothing."""


def at_degrees(*angles: float) -> Matrix32:
    turns = np.radians(angles)
    return np.stack([np.cos(turns), np.sin(turns)], axis=1).astype(np.float32)


def cloud(count: int, dimensions: int, seed: int = 0) -> Matrix32:
    random = np.random.default_rng(seed)
    return (random.standard_normal((count, dimensions)) + 0.4).astype(np.float32)


def brute_scores(vectors: Matrix32, k: int, metric: Metric) -> Matrix64:
    """Return all similarities straight from their formulas, with the diagonal at -∞."""
    wide = vectors.astype(np.float64)
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    cosines = wide @ wide.T
    others = cosines.copy()
    np.fill_diagonal(others, np.nan)
    best = -np.sort(-others, axis=1)[:, :k]
    mean, deviation = np.nanmean(others, axis=1), np.nanstd(others, axis=1)
    scale = np.sqrt(2 - 2 * best[:, -1])
    near = best.mean(axis=1)
    scores = {
        Metric.COSINE: cosines,
        Metric.CSLS: 2 * cosines - near[:, None] - near,
        Metric.MUTUAL_PROXIMITY: norm.cdf((cosines - mean[:, None]) / deviation[:, None])
        * norm.cdf((cosines - mean) / deviation),
        Metric.LOCAL_SCALING: np.exp(-(2 - 2 * cosines) / (scale[:, None] * scale)),
    }[metric].copy()
    np.fill_diagonal(scores, -np.inf)
    return scores


def brute_counts(vectors: Matrix32, k: int, metric: Metric) -> Ids64:
    nearest = np.argsort(-brute_scores(vectors, k, metric), axis=1, kind="stable")[:, :k]
    return np.bincount(nearest.ravel(), minlength=len(vectors))


def test_neighbours_on_a_circle() -> None:
    # 10° is as near to 0° as to 20°: the lower index wins
    found = occurrences(wide_unit_rows(at_degrees(0, 10, 20, 90)), k=1, metrics=[], progress=quiet)
    assert found[Metric.COSINE].tolist() == [1, 2, 1, 0]


def test_the_figures_by_hand() -> None:
    counts = np.array([1, 2, 1, 0])
    found = sum_up_hubness(counts, k=1, centre_cosines=np.array([0.5, 0.9, 0.5, 0.1]))
    assert found.skewness == 0
    assert found.robin_hood == 0.25
    assert found.gini == pytest.approx(6 / 16)
    assert (found.antihub_share, found.hub_share, found.max_occurrence) == (0.25, 0.25, 2)
    assert found.centre_correlation == pytest.approx(1)
    assert find_hubs(counts, most=5, k=1).tolist() == [1]


def test_skewness_is_that_of_the_population() -> None:
    counts = np.array([0, 0, 1, 1, 2, 8])
    found = sum_up_hubness(counts, k=2, centre_cosines=np.arange(6.0))
    assert found.skewness == pytest.approx(skew(counts))
    assert find_hubs(counts, most=5, k=2).tolist() == [5]
    even = sum_up_hubness(np.full(6, 2), k=2, centre_cosines=np.arange(6.0))
    assert (even.skewness, even.robin_hood, even.gini) == (0, 0, 0)
    assert even.centre_correlation is None


@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize(("count", "k"), [(2, 1), (11, 10), (150, 7)])
def test_counts_are_those_of_brute_force(
    metric: Metric, count: int, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hubness, "_BLOCK_NUMBERS", 37 * count)
    vectors = cloud(count, 12)
    told: list[tuple[int, int]] = []
    found = occurrences(
        wide_unit_rows(vectors),
        k=k,
        metrics=[metric],
        progress=lambda _, done, total: told.append((done, total)),
    )
    assert found[metric].sum() == k * count
    if count > 2:  # among 2 there is no deviation
        assert np.array_equal(found[metric], brute_counts(vectors, k, metric))
    assert told[-1][0] == told[-1][1]
    assert told == sorted(told)


def test_copies_of_a_vector_are_equally_near_whatever_the_block() -> None:
    vectors = np.tile(cloud(1, 50), (40, 1))
    found = occurrences(wide_unit_rows(vectors), k=3, metrics=list(Metric), progress=quiet)
    # all are as near as each other: everyone's list holds the first three others
    for counts in found.values():
        assert counts.tolist() == [39, 39, 39, 3, *[0] * 36]


def test_cosines_that_differ_by_rounding_alone_are_equal() -> None:
    random = np.random.default_rng(1)
    beside = 1 + 0.3 * random.standard_normal(50)
    # all as near to the first as each other, but for the order in which the products are added
    vectors = np.stack([np.ones(50), *(random.permutation(beside) for _ in range(9))])
    found = occurrences(wide_unit_rows(vectors.astype(np.float32)), k=1, metrics=[], progress=quiet)
    assert found[Metric.COSINE].tolist() == [9, 1, *[0] * 8]


@pytest.mark.parametrize("metric", list(Metric)[1:])
def test_similarities_are_the_formulas(metric: Metric) -> None:
    vectors = cloud(30, 8)
    expected = brute_scores(vectors, 10, metric)
    off = ~np.eye(30, dtype=bool)
    found = similarity_matrix(vectors, metric=metric, k=None)
    assert found.dtype == np.float32
    assert np.allclose(found[off], expected[off], atol=1e-6)
    assert np.array_equal(found, found.T)
    first, second = np.array([0, 3, 7]), np.array([1, 2, 29])
    pairs = pair_similarities(vectors, first, second, metric=metric, k=None)
    assert np.allclose(pairs, expected[first, second], atol=1e-6)
    other = similarity_matrix(vectors, metric=metric, k=3)
    assert np.allclose(other, found) == (metric is Metric.MUTUAL_PROXIMITY)


def test_csls_of_three_by_hand() -> None:
    # nearest others, k = 1: cos 10°, cos 10°, cos 80°
    found = similarity_matrix(at_degrees(0, 10, 90), metric=Metric.CSLS, k=1)
    near, far = np.cos(np.radians([10, 80]))
    assert found[0, 1] == pytest.approx(0, abs=1e-6)
    assert found[1, 2] == pytest.approx(2 * far - near - far, abs=1e-6)


def test_what_has_no_neighbours_is_refused() -> None:
    with pytest.raises(InvalidInput, match="single vector"):
        similarity_matrix(cloud(1, 3), metric=Metric.CSLS, k=None)
    with pytest.raises(DimensionMismatch, match=r"4 neighbours .* 4 vectors has 3"):
        occurrences(wide_unit_rows(cloud(4, 3)), k=4, metrics=[], progress=quiet)
    with pytest.raises(DimensionMismatch):
        similarity_matrix(cloud(4, 3), metric=Metric.CSLS, k=4)
    with pytest.raises(InvalidInput, match="Vector 2 is all zeros"):
        occurrences(
            wide_unit_rows(np.eye(4, 3, dtype=np.float32)[[0, 1, 3]]),
            k=1,
            metrics=[],
            progress=quiet,
        )


def test_what_calls_off_the_work_gets_through() -> None:
    def leave(*_: Any) -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        occurrences(wide_unit_rows(cloud(50, 3)), k=2, metrics=[], progress=leave)


def test_the_centre_of_opposite_vectors() -> None:
    assert centre_cosines(wide_unit_rows(at_degrees(0, 180))).tolist() == [0, 0]
    assert centre_cosines(wide_unit_rows(at_degrees(-30, 30))) == pytest.approx([np.sqrt(0.75)] * 2)
