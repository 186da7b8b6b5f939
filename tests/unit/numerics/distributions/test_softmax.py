"""Softmax and entropy in one pass, in both precisions, and the checks before it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import log_softmax as scipy_log_softmax
from scipy.special import softmax as scipy_softmax

from service.errors import InvalidInput, NotFinite
from service.numerics.distributions.logits import (
    entropies,
    require_logits,
    require_probabilities,
    shifted,
)
from service.numerics.distributions.softmax import log_softmax, softmax_and_entropy

ROWS = np.random.default_rng(0).normal(size=(7, 1000)) * 4


@pytest.mark.parametrize("temperature", [0.3, 1.0, 5.0])
@pytest.mark.parametrize(("kind", "tolerance"), [(np.float32, 2e-6), (np.float64, 1e-14)])
def test_it_agrees_with_the_long_way(
    temperature: float, kind: type[np.floating], tolerance: float
) -> None:
    rows = ROWS.astype(kind)
    p, entropy = softmax_and_entropy(rows, temperature=temperature)
    expected = scipy_softmax(rows.astype(np.float64) / temperature, axis=1)
    assert p.dtype == kind
    assert np.allclose(p, expected, rtol=2e-5 if kind is np.float32 else 1e-12, atol=0)
    assert np.abs(p.sum(axis=1, dtype=np.float64) - 1).max() < tolerance
    assert np.allclose(entropy, -(expected * np.log(expected)).sum(axis=1), atol=tolerance * 10)


def test_masks_take_no_part() -> None:
    p, entropy = softmax_and_entropy(np.array([[0.0, -np.inf, 0.0], [5.0, -np.inf, -np.inf]]))
    assert p.tolist() == [[0.5, 0, 0.5], [1, 0, 0]]
    assert entropy == pytest.approx([math.log(2), 0])


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("temperature", [1e-100, 1e-20, 1.0, 1e20, 1e100])
def test_extreme_temperatures_reach_their_limits(kind: type, temperature: float) -> None:
    rows = np.array([[3.0, 2.0, -np.inf, 3.0], [1e38, -1e38, 0.0, 1e-38]], dtype=kind)
    p, entropy = softmax_and_entropy(rows, temperature=temperature)
    assert np.isfinite(p).all()
    assert np.isfinite(entropy).all()
    assert np.allclose(p.sum(axis=1), 1)
    assert p[0, 2] == 0
    if temperature < 1e-10:
        assert p[0].tolist() == [0.5, 0, 0, 0.5]


def test_log_softmax_keeps_its_tail_and_its_masks() -> None:
    rows = np.array([[0.0, -800.0, -np.inf], [1e300, 0.0, 0.0]])
    found = log_softmax(rows)
    assert found[0].tolist() == [0, -800, -np.inf]
    assert found[1].tolist() == [0, -1e300, -1e300]
    assert np.allclose(log_softmax(ROWS), scipy_log_softmax(ROWS, axis=1), atol=1e-12)


def test_a_shift_comes_before_the_quotient() -> None:
    found = shifted(np.array([[1e300, 0.9e300, -1e308]]), scale=1e-10)
    assert found.tolist() == [[0, -np.inf, -np.inf]]


@pytest.mark.parametrize(
    ("rows", "part"),
    [
        ([[0.0, 1.0], [2.0, np.nan]], "Row 1 of the logits holds nan at position 1"),
        ([[0.0, np.inf]], "Row 0 of the logits holds inf at position 1"),
        ([[0.0, 1.0], [-np.inf, -np.inf]], "Row 1 of the logits is masked everywhere"),
        ([[np.nan, np.inf]], "holds nan at position 0"),
    ],
)
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_what_is_no_logit_is_named(rows: list[list[float]], part: str, kind: type) -> None:
    with pytest.raises(NotFinite, match=part):
        require_logits(np.array(rows, dtype=kind))


def test_what_is_no_probability_is_named() -> None:
    good = np.full((3, 4), 0.25)
    require_probabilities(good, pointer="/rows")
    require_probabilities(good + 2e-7, pointer="/rows")
    with pytest.raises(InvalidInput, match=r"Row 1 .* sums to 1\.2"):
        require_probabilities(np.array([[0.5, 0.5], [0.7, 0.5]]), pointer="/rows")
    with pytest.raises(InvalidInput, match=r"Row 0 .* holds -0\.1 at position 1"):
        require_probabilities(np.array([[1.1, -0.1]]), pointer="/rows")
    with pytest.raises(NotFinite, match="holds nan"):
        require_probabilities(np.array([[1.0, np.nan]]), pointer="/rows")


def test_the_row_that_is_named_is_counted_over_all_blocks() -> None:
    rows = np.full((9, 40_000), 1 / 40_000)
    rows[7] *= 2
    with pytest.raises(InvalidInput, match="Row 7"):
        require_probabilities(rows, pointer="/rows")


def test_entropy_of_certainty_is_zero() -> None:
    assert entropies(np.array([[0.0, 1.0, 0.0], [0.25, 0.5, 0.25]])) == pytest.approx(
        [0, 1.0397207708399179]
    )
