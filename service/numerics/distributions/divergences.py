"""Compare distributions, and read the scores of multi-label heads."""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from service.errors import Fault, InvalidInput
from service.numerics.distributions.logits import row_blocks
from service.numerics.distributions.softmax import softmax
from service.numerics.dtypes import Bools, Ids64, Logits, Matrix32, Matrix64, Vector64
from service.numerics.vectors import unit_rows

LINKS = {"softmax": softmax, "sigmoid": expit}


def symmetric_kl_terms(s: Logits, t: Logits, *, link: str) -> Matrix64:
    """Return the terms (f(s) - f(t)) · (s - t) of the symmetric KL divergence, entry by entry.

    With f = softmax their sum is KL(p‖q) + KL(q‖p). With f = sigmoid each entry is a yes or no of
    its own, and the sum is that of the binary symmetric divergences: the right one for multi-label
    and span scores. An entry that is masked in both rows adds nothing.

    Args:
        s: (rows, n) logits, checked.
        t: (rows, n) logits, checked.
        link: softmax or sigmoid.

    Returns:
        (rows, n) float64 in nats.

    Raises:
        InvalidInput: an entry is masked on one side only, which makes the divergence infinite.
    """
    terms = np.empty(s.shape)
    for block in row_blocks(s):
        left, right = s[block].astype(np.float64), t[block].astype(np.float64)
        masked = np.isneginf(left)
        _require_equal_masks(masked, np.isneginf(right), block.start)
        with np.errstate(invalid="ignore", over="ignore"):
            gaps = np.where(masked, 0.0, left - right)
            terms[block] = (LINKS[link](left) - LINKS[link](right)) * gaps
    # two logits 1e308 apart: 0 · inf where both have the same probability
    return np.nan_to_num(terms, copy=False, posinf=np.finfo(np.float64).max)


def symmetric_kl(terms: Matrix64) -> Vector64:
    """Return the sum of each row's terms, held below infinity, which JSON cannot say."""
    with np.errstate(over="ignore"):
        sums: Vector64 = terms.sum(axis=1)
    return np.minimum(sums, np.finfo(np.float64).max)


def _require_equal_masks(left: Bools, right: Bools, first: int) -> None:
    if np.array_equal(left, right):
        return
    row, column = (int(place) for place in np.argwhere(left != right)[0])
    raise InvalidInput(
        f"Row {first + row} is masked at position {column} on one side only, so that the "
        "divergence is infinite. Mask the same entries in s and t.",
        faults=(Fault(f"/s/{first + row}/{column}", "is masked in one of s and t"),),
    )


def semantic_transport(
    probabilities: Matrix64, targets: Matrix64, embeddings: Matrix32
) -> Vector64:
    """Return Σ_i Σ_j p_i q_j (1 - cos(e_i, e_j)), the cost of moving p to q independently.

    For a target that is one token this is the exact transport cost (there is one way to move p
    onto one place); for a target spread over several it is an upper bound of it.

    Args:
        probabilities: (rows, n), each of sum 1.
        targets: (rows, n), each of sum 1.
        embeddings: (n, d) float32, one vector a token, none of length 0.

    Source: Ren et al. 2023, arXiv:2310.04691 (EMO).
    """
    units = unit_rows(embeddings).astype(np.float64)
    costs: Vector64 = 1 - np.einsum("rd,rd->r", probabilities @ units, targets @ units)
    return np.maximum(costs, 0.0)


def one_hot(indices: Ids64, *, n: int) -> Matrix64:
    """Return rows that hold 1 at their index, (rows, n)."""
    rows = np.zeros((len(indices), n))
    rows[np.arange(len(indices)), indices] = 1
    return rows


def multi_label_probabilities(scores: Logits) -> Matrix64:
    """Return sigmoid(2 s), the probability of each label; a label holds where s > 0.

    The loss log(1 + Σ t e^-s) + log(1 + Σ (1 - t) e^s) is smallest where t = sigmoid(2 s).

    Args:
        scores: (rows, n) scores of a head trained with that loss.

    Source: Su Jianlin, 2022, spaces.ac.cn/archives/9064.
    """
    doubled: Matrix64 = expit(2 * scores.astype(np.float64))
    return doubled
