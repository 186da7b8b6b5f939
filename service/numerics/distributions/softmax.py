"""Softmax and its entropy, row by row, in the precision that came in."""

from __future__ import annotations

import numpy as np

from service.numerics.distributions.logits import row_maxima
from service.numerics.dtypes import Logits, Matrix64, Vector64

# Temperatures that float32 does not hold are divided by in float64.
_LEAST = 1e-30


def softmax_and_entropy(logits: Logits, *, temperature: float = 1.0) -> tuple[Logits, Vector64]:
    """Return softmax(x / T) and its entropy in nats, from one pass over each row.

    With d = (x - max x) / T and s = Σ e^d:  p = e^d / s,  H = log s - Σ p d.  A row of 150,000
    logits stays in a core's cache from its first step to its last.

    Args:
        logits: (rows, n) float32 or float64, checked by `require_logits`.
        temperature: T, above 0.

    Returns:
        Probabilities (rows, n) in the precision of the logits; entropies (rows,) float64.
    """
    probabilities = np.empty_like(logits)
    found = np.empty(len(logits))
    wide = temperature < _LEAST or temperature > 1 / _LEAST
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        for row, x in enumerate(logits):
            p = probabilities[row]
            d = x - x.max()
            if wide:
                d = (d.astype(np.float64) / temperature).astype(logits.dtype)
            elif temperature != 1:
                d /= logits.dtype.type(temperature)
            np.exp(d, out=p)
            total = p.sum(dtype=logits.dtype)
            found[row] = np.log(float(total)) - _mean_distance(p, d) / float(total)
            np.divide(p, total, out=p)
    return probabilities, np.maximum(found, 0.0)


def _mean_distance(weights: Logits, distances: Logits) -> float:
    """Return Σ w d, where a masked entry (w = 0, d = -inf) adds nothing."""
    product = float(np.dot(weights, distances))
    if np.isfinite(product):
        return product
    return float(np.dot(weights, np.where(weights > 0, distances, 0)))


def softmax(logits: Logits, *, temperature: float = 1.0) -> Matrix64:
    """Return each row's probabilities e^(x / T) / Σ e^(x / T) in float64.

    Args:
        logits: (rows, n), checked by `require_logits`.
        temperature: T, above 0.
    """
    probabilities, _ = softmax_and_entropy(logits.astype(np.float64), temperature=temperature)
    return np.asarray(probabilities, dtype=np.float64)


def log_softmax(logits: Logits) -> Matrix64:
    """Return x - log Σ e^x of each row in float64; minus infinity where masked.

    Args:
        logits: (rows, n), checked by `require_logits`.
    """
    wide = logits.astype(np.float64)
    wide -= row_maxima(wide)[:, np.newaxis]
    wide -= np.log(np.exp(wide).sum(axis=1, keepdims=True))
    return wide
