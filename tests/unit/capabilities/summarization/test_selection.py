"""Choosing within a budget, without repetition, and by coverage."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from service.capabilities.summarization.numerics.manifold import (
    Distance,
    build_manifold,
    distance_table,
)
from service.capabilities.summarization.numerics.selection import Coverage, Relevance, choose
from service.numerics.distances import Metric, prepare

VECTORS = prepare(np.array([[1, 0, 0], [1, 0.1, 0], [0, 1, 0], [0, 0, 1]], np.float32),
                  Metric.ANGULAR)  # fmt: skip
RELEVANCE = np.array([0.9, 0.8, 0.5, 0.1])
ONES = np.ones(4, np.int64)
ALL = np.ones(4, np.bool_)


def rows(redundancy: float, **changes: object) -> list[int]:
    options = {"allowed": ALL, "costs": ONES, "budget": 2, "accept": lambda _: True} | changes
    worth = Relevance(RELEVANCE, VECTORS, redundancy=redundancy)
    return [row for row, _ in choose(worth, **options)]  # type: ignore[arg-type]


def test_likeness_to_what_is_chosen_costs() -> None:
    assert rows(0.0) == [0, 1]
    assert rows(0.5) == [0, 2]


def test_likeness_is_counted_from_the_usual_cosine() -> None:
    worth = Relevance(np.zeros(4), VECTORS, redundancy=1.0)
    worth.take(0)
    mean = VECTORS.mean(axis=0, dtype=np.float64)
    usual = mean @ mean
    expected = np.maximum(0, (VECTORS @ VECTORS[0] - usual) / (1 - usual))
    assert -worth.scores() == pytest.approx(expected, abs=1e-6)


def test_the_budget_is_filled_by_what_still_fits() -> None:
    costs = np.array([5, 9, 4, 1])
    assert rows(0.0, costs=costs, budget=10) == [0, 2, 3]
    assert rows(0.0, costs=costs, budget=9) == [0, 2]
    assert rows(0.0, costs=costs, budget=0) == []


def test_a_refused_statement_is_not_asked_about_again() -> None:
    asked: list[int] = []

    def accept(row: int) -> bool:
        asked.append(row)
        return row == 3

    assert rows(0.0, accept=accept, budget=4) == [3]
    assert asked == [0, 1, 2, 3]


def test_ties_go_by_order() -> None:
    worth = Relevance(np.full(4, 0.5), np.eye(4, dtype=np.float32), redundancy=0.4)
    chosen = choose(worth, allowed=ALL, costs=ONES, budget=4, accept=lambda _: True)
    assert [row for row, _ in chosen] == [0, 1, 2, 3]


@pytest.mark.parametrize("distance", list(Distance))
def test_coverage_is_facility_location(distance: Distance) -> None:
    drawn = np.random.default_rng(5).normal(size=(12, 4)).astype(np.float32)
    manifold = build_manifold(prepare(drawn, Metric.ANGULAR), k=3)
    weights = np.arange(1, 13)
    apart = distance_table(manifold, distance=distance).astype(np.float64)
    kernel = np.exp(-(apart**2) / (2 * manifold.edge**2))

    def value(chosen: tuple[int, ...]) -> float:
        return float(kernel[list(chosen)].max(axis=0) @ weights / weights.sum())

    worth = Coverage(manifold, weights, np.arange(12), distance=distance)
    allowed = np.ones(12, np.bool_)
    chosen = choose(worth, allowed=allowed, costs=np.ones(12, np.int64), budget=3,
                    accept=lambda _: True)  # fmt: skip
    gains = [gain for _, gain in chosen]
    assert sum(gains) == pytest.approx(value(tuple(row for row, _ in chosen)), rel=1e-5)
    best = max(map(value, combinations(range(12), 3)))
    assert sum(gains) >= (1 - 1 / np.e) * best
    assert gains == sorted(gains, reverse=True)


def test_coverage_takes_candidates_only() -> None:
    manifold = build_manifold(VECTORS, k=2)
    worth = Coverage(manifold, ONES, np.array([1, 3]), distance=Distance.GEODESIC)
    chosen = choose(worth, allowed=ALL, costs=ONES, budget=4, accept=lambda _: True)
    assert {row for row, _ in chosen} == {1, 3}
