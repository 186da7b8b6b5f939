"""Log-likelihood, entropy and divergence of rows, against their definitions in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.numerics.likelihoods import (
    negative_log_likelihoods,
    normalise_rows,
    row_divergences,
    row_entropies,
)


def test_a_worked_example() -> None:
    rows = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]], dtype=np.float32)) + 7
    found = normalise_rows(rows.copy())
    other = normalise_rows(np.zeros((2, 3), dtype=np.float32))
    np.testing.assert_allclose(np.exp(found), [[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]], rtol=1e-6)
    nll = negative_log_likelihoods(found, np.array([0, 2]))
    np.testing.assert_allclose(nll, [np.log(2), -np.log(0.8)], rtol=1e-6)
    np.testing.assert_allclose(row_entropies(found)[0], 1.5 * np.log(2), rtol=1e-6)
    # against the uniform distribution, the divergence is what the entropy lacks
    np.testing.assert_allclose(
        row_divergences(found, other), np.log(3) - row_entropies(found), atol=1e-6
    )


@given(
    st.integers(0, 5),
    st.sampled_from([1, 2, 300, 70_000]),
    st.sampled_from([0.0, 1.0, 30.0]),
    st.integers(0, 99),
)
def test_it_is_the_definition(rows: int, n: int, spread: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits = (rng.normal(size=(rows, n)) * spread + 50).astype(np.float32)
    others = (rng.normal(size=(rows, n)) * spread).astype(np.float32)
    targets = rng.integers(0, n, rows)
    p, q = (x - np.log(np.exp(x - x.max(1, keepdims=True)).sum(1, keepdims=True))
            - x.max(1, keepdims=True) if rows else x
            for x in (logits.astype(np.float64), others.astype(np.float64)))  # fmt: skip
    found, other = normalise_rows(logits), normalise_rows(others)
    close = {"rtol": 1e-4, "atol": 2e-4}
    np.testing.assert_allclose(
        negative_log_likelihoods(found, targets), -p[np.arange(rows), targets], **close
    )
    np.testing.assert_allclose(row_entropies(found), -(np.exp(p) * p).sum(1), **close)
    divergences = row_divergences(found, other)
    np.testing.assert_allclose(divergences, (np.exp(p) * (p - q)).sum(1), **close)
    assert (divergences >= 0).all()
    assert (row_divergences(found, found) == 0).all()


def test_rows_are_written_over() -> None:
    logits = np.zeros((2, 4), dtype=np.float32)
    assert normalise_rows(logits) is logits
    np.testing.assert_allclose(logits, -np.log(4))


@pytest.mark.parametrize("gap", [1e4, 1e38])
def test_logits_far_apart_stay_finite(gap: float) -> None:
    logits = np.array([[0.0, -gap, gap]], dtype=np.float32)
    found = normalise_rows(logits)
    assert np.isfinite(found).all()
    assert row_entropies(found)[0] == 0
