"""Score texts by rows of logits: log-likelihood, entropy, divergence.

Rows of a language model are wide (49,152 float32 are 200 kB), so every step goes block by block
and stays in a core's own cache. Sums of a row are float32, sums over rows float64.
"""

from __future__ import annotations

import numpy as np

from service.numerics.distributions.logits import row_blocks
from service.numerics.dtypes import Ids64, Matrix32, Vector64


def normalise_rows(logits: Matrix32) -> Matrix32:
    """Return x - log Σ e^x of each row, written over the logits.

    Args:
        logits: (rows, n) float32, finite; overwritten.

    Returns:
        The same array, natural logarithms of probabilities.
    """
    for block in row_blocks(logits):
        x = logits[block]
        x -= x.max(axis=1, keepdims=True)
        x -= np.log(np.exp(x).sum(axis=1, keepdims=True))
    return logits


def negative_log_likelihoods(log_probs: Matrix32, targets: Ids64) -> Vector64:
    """Return -log p(target) of each row, in nats.

    Args:
        log_probs: (rows, n) float32.
        targets: (rows,) ids that came next.
    """
    picked: Vector64 = -log_probs[np.arange(len(targets)), targets].astype(np.float64)
    return picked + 0.0  # -0.0 is no likelihood anybody wants to read


def row_entropies(log_probs: Matrix32) -> Vector64:
    """Return -Σ p log p of each row, in nats.

    Args:
        log_probs: (rows, n) float32.
    """
    found = np.empty(len(log_probs))
    for block in row_blocks(log_probs):
        x = log_probs[block]
        found[block] = -np.einsum("rn,rn->r", np.exp(x), x)
    return np.maximum(found, 0.0)


def row_divergences(reference: Matrix32, log_probs: Matrix32) -> Vector64:
    """Return KL(reference ‖ other) = Σ p (log p - log q) of each row, in nats.

    Args:
        reference: (rows, n) float32, log p.
        log_probs: (rows, n) float32, log q.
    """
    found = np.empty(len(reference))
    for block in row_blocks(reference):
        x = reference[block]
        found[block] = np.einsum("rn,rn->r", np.exp(x), x - log_probs[block])
    return np.maximum(found, 0.0)
