"""Divergences: identities with their definitions, transport, masks and overflow."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog
from scipy.special import expit, log_softmax, softmax

from service.errors import InvalidInput
from service.numerics.distributions.divergences import (
    multi_label_probabilities,
    one_hot,
    semantic_transport,
    symmetric_kl,
    symmetric_kl_terms,
)

RNG = np.random.default_rng(0)
S, T = RNG.normal(size=(2, 6, 9)) * 2


def test_softmax_divergence_is_kl_both_ways() -> None:
    p, q = softmax(S, axis=1), softmax(T, axis=1)
    logs = log_softmax(S, axis=1) - log_softmax(T, axis=1)
    found = symmetric_kl(symmetric_kl_terms(S, T, link="softmax"))
    assert found == pytest.approx(((p - q) * logs).sum(axis=1), abs=1e-12)


def test_sigmoid_divergence_is_the_sum_of_binary_ones() -> None:
    p, q = expit(S), expit(T)
    binary = (p - q) * (np.log(p / q)) + ((1 - p) - (1 - q)) * np.log((1 - p) / (1 - q))
    found = symmetric_kl(symmetric_kl_terms(S, T, link="sigmoid"))
    assert found == pytest.approx(binary.sum(axis=1), abs=1e-12)


@pytest.mark.parametrize("link", ["softmax", "sigmoid"])
def test_equal_rows_are_not_apart_and_order_does_not_matter(link: str) -> None:
    assert symmetric_kl_terms(S, S, link=link).max() == 0
    forth, back = (symmetric_kl_terms(*pair, link=link) for pair in ((S, T), (T, S)))
    assert np.array_equal(forth, back)
    if link == "sigmoid":
        assert (forth >= 0).all()


def test_masks_must_agree() -> None:
    left, right = np.array([[0.0, -np.inf, 1.0]]), np.array([[1.0, -np.inf, 0.0]])
    terms = symmetric_kl_terms(left, right, link="softmax")
    assert terms[0, 1] == 0
    assert np.isfinite(terms).all()
    with pytest.raises(InvalidInput, match="Row 0 is masked at position 1 on one side only"):
        symmetric_kl_terms(left, np.zeros((1, 3)), link="softmax")


@pytest.mark.parametrize("link", ["softmax", "sigmoid"])
def test_huge_scores_give_a_finite_value(link: str) -> None:
    left, right = np.array([[1.7e308, -1.7e308, 0.0]]), np.array([[-1.7e308, 1.7e308, 0.0]])
    value = symmetric_kl(symmetric_kl_terms(left, right, link=link))
    assert np.isfinite(value).all()
    assert value[0] > 1e308


def transported(p: np.ndarray, q: np.ndarray, costs: np.ndarray) -> float:
    """Return the exact transport cost by linear programming."""
    n = len(p)
    rows = np.kron(np.eye(n), np.ones(n))
    columns = np.kron(np.ones(n), np.eye(n))
    solved = linprog(costs.ravel(), A_eq=np.vstack([rows, columns]), b_eq=np.concatenate([p, q]))
    return float(solved.fun)


def test_transport_to_one_token_is_exact_and_to_several_a_bound() -> None:
    vectors = RNG.normal(size=(6, 4)).astype(np.float32)
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    costs = 1 - units @ units.T
    p = softmax(RNG.normal(size=(1, 6)), axis=1)
    single = one_hot(np.array([3]), n=6)
    assert semantic_transport(p, single, vectors)[0] == pytest.approx(
        transported(p[0], single[0], costs), abs=1e-6
    )
    spread = softmax(RNG.normal(size=(1, 6)), axis=1)
    bound = semantic_transport(p, spread, vectors)[0]
    assert bound == pytest.approx(p[0] @ costs @ spread[0], abs=1e-6)
    assert bound > transported(p[0], spread[0], costs) + 0.01


def test_certainty_of_the_target_costs_nothing() -> None:
    vectors = np.eye(3, dtype=np.float32)
    assert semantic_transport(np.eye(3), np.eye(3), vectors).tolist() == [0, 0, 0]


def test_multi_label_probability_is_the_optimum_of_its_loss() -> None:
    scores = np.array([[-3.0, 0.0, 0.4, 800.0]])
    t = multi_label_probabilities(scores)[0]
    assert t == pytest.approx(expit(2 * scores[0]))

    def slope(s: float, target: float) -> float:
        """Return the derivative of log(1 + t e^-s) + log(1 + (1 - t) e^s)."""
        low, high = target * np.exp(-s), (1 - target) * np.exp(s)
        return float(-low / (1 + low) + high / (1 + high))

    for s, target in zip(scores[0, :3], t[:3], strict=True):
        assert slope(s, target) == pytest.approx(0, abs=1e-12)
