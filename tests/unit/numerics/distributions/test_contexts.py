"""Context merging: the worked example, the naive-Bayes identity, cuts and masks."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax

from service.errors import InvalidInput
from service.numerics.distributions.contexts import Pooling, merge_contexts

CONTEXTS = np.log([[0.4, 0.3, 0.2, 0.1], [0.85, 0.05, 0.05, 0.05], [0.25] * 4])
BACKGROUND = np.log([0.5, 0.2, 0.2, 0.1])


def test_the_worked_example() -> None:
    merged = merge_contexts(CONTEXTS, BACKGROUND, mass=1)
    assert merged.chosen == 1
    assert np.exp(merged.log_probabilities) == pytest.approx(
        [0.89591817, 0.03263564, 0.03263564, 0.03881054], abs=1e-8
    )
    assert merged.entropies == pytest.approx([1.2798542, 0.5875009, 1.3862944], abs=1e-7)


def test_mean_pooling_is_naive_bayes() -> None:
    rng = np.random.default_rng(1)
    contexts, background = rng.normal(size=(4, 30)), rng.normal(size=30)
    merged = merge_contexts(contexts, background, beta=3, mass=1, pooling=Pooling.MEAN)
    product = log_softmax(contexts, axis=1).sum(axis=0) - 3 * log_softmax(background)
    assert np.exp(merged.log_probabilities) == pytest.approx(
        np.exp(log_softmax(product)), abs=1e-12
    )
    assert merged.chosen is None


def test_logits_need_not_be_normalised() -> None:
    shift = np.array([[5.0], [-700.0], [1e5]])
    moved = merge_contexts(CONTEXTS + shift, BACKGROUND + 3, mass=1)
    still = merge_contexts(CONTEXTS, BACKGROUND, mass=1)
    assert moved.log_probabilities == pytest.approx(still.log_probabilities, abs=1e-9)


def test_the_previous_context_is_preferred_by_eta() -> None:
    near = np.log([[0.6, 0.4], [0.61, 0.39]])
    flat = np.log([0.5, 0.5])
    assert merge_contexts(near, flat, mass=1, eta=0.1).chosen == 1
    assert merge_contexts(near, flat, mass=1, eta=0.1, previous=0).chosen == 0
    assert merge_contexts(near, flat, mass=1, eta=0.0, previous=0).chosen == 1


def test_equal_entropies_go_to_the_first() -> None:
    assert merge_contexts(CONTEXTS[[2, 2]], BACKGROUND).chosen == 0


def test_a_masked_background_leaves_the_context_alone() -> None:
    background = np.array([0.0, -np.inf, 0.0, -np.inf])
    merged = merge_contexts(CONTEXTS, background, beta=0.5, mass=1)
    assert np.isfinite(merged.log_probabilities).all()
    ratio = merged.log_probabilities[1] - merged.log_probabilities[3]
    assert ratio == pytest.approx(CONTEXTS[1, 1] - CONTEXTS[1, 3])


@pytest.mark.parametrize("pooling", Pooling)
@pytest.mark.parametrize("beta", [-1.0, 0.0, 0.25, 1e6])
def test_masks_and_cuts_never_give_nan(pooling: Pooling, beta: float) -> None:
    rng = np.random.default_rng(2)
    contexts = np.where(rng.random((3, 50)) < 0.3, -np.inf, rng.normal(size=(3, 50)) * 3)
    contexts[:, 7] = 9.0
    background = np.where(rng.random(50) < 0.5, -np.inf, rng.normal(size=50))
    merged = merge_contexts(contexts, background, beta=beta, mass=0.9, pooling=pooling)
    assert not np.isnan(merged.log_probabilities).any()
    assert np.exp(merged.log_probabilities).sum() == pytest.approx(1, abs=1e-12)


def test_beta_minus_one_is_the_background_within_the_cut() -> None:
    merged = merge_contexts(CONTEXTS, BACKGROUND, beta=-1, mass=1)
    assert np.exp(merged.log_probabilities) == pytest.approx(np.exp(BACKGROUND))


def test_the_cut_takes_what_is_outside_the_nucleus() -> None:
    merged = merge_contexts(CONTEXTS, BACKGROUND)
    assert merged.entropies[1] == pytest.approx(
        -sum(p * np.log(p) for p in np.array([17, 1, 1]) / 19)
    )
    assert np.isneginf(merged.log_probabilities[3])


def test_no_common_token_is_refused() -> None:
    apart = np.array([[9.0, 0.0], [0.0, 9.0]])
    with pytest.raises(InvalidInput, match="No token has mass in all 2 contexts"):
        merge_contexts(apart, np.zeros(2), mass=0.5, pooling=Pooling.MEAN)
