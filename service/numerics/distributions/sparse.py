"""Turn logits into probabilities that are exactly zero for most entries.

Ties: where only some of several equal logits can stay, those of the lowest index stay.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from service.numerics.distributions.softmax import softmax
from service.numerics.dtypes import Bools, Ids64, Logits, Matrix64, Vector64

_STEPS = 120
# Of log Σ p; what is left is taken out by dividing.
_CLOSE = 1e-14


def sparsemax(scores: Matrix64) -> Matrix64:
    """Return the Euclidean projection of each row onto the probability simplex.

    p = max(x - τ, 0) with τ = (Σ_{i≤k} x_(i) - 1) / k for the largest k with
    1 + k x_(k) > Σ_{i≤k} x_(i), x_(1) ≥ x_(2) ≥ …

    Args:
        scores: (rows, n) float64, the largest of each row 0.

    Source: Martins and Astudillo 2016, arXiv:1602.02068.
    """
    # Below max - 1 nothing is supported; the bound keeps sums of 1e300 out.
    x = np.maximum(scores, -2.0)
    falling = -np.sort(-x, axis=1)
    sums = np.cumsum(falling, axis=1)
    counts = np.arange(1, x.shape[1] + 1)
    support = _last_true(1 + counts * falling > sums)
    tau = (np.take_along_axis(sums, support, axis=1) - 1) / (support + 1)
    p: Matrix64 = np.maximum(x - tau, 0.0)
    return p


def entmax15(scores: Matrix64) -> Matrix64:
    """Return the 1.5-entmax of each row in closed form.

    With h = x / 2 sorted falling, m and q the running means of h and h²,
    τ_k = m - sqrt(max(0, 1 / k - (q - m²))), and p = max(h - τ_k, 0)² for the last k with
    τ_k ≤ h_(k).

    Args:
        scores: (rows, n) float64, the largest of each row 0.

    Source: Peters, Niculae and Martins 2019, arXiv:1905.05702.
    """
    halves = np.maximum(scores / 2, -2.0)
    falling = -np.sort(-halves, axis=1)
    counts = np.arange(1, halves.shape[1] + 1)
    mean = np.cumsum(falling, axis=1) / counts
    square = np.cumsum(falling**2, axis=1) / counts
    taus = mean - np.sqrt(np.maximum(0.0, 1 / counts - (square - mean**2)))
    tau = np.take_along_axis(taus, _last_true(taus <= falling), axis=1)
    p: Matrix64 = np.maximum(halves - tau, 0.0) ** 2
    p /= p.sum(axis=1, keepdims=True)
    return p


def _last_true(marks: Bools) -> Ids64:
    """Return the position of the last mark of each row, (rows, 1)."""
    positions: Ids64 = marks.shape[1] - 1 - np.argmax(marks[:, ::-1], axis=1)
    return positions[:, np.newaxis]


def entmax(scores: Matrix64, *, alpha: float) -> Matrix64:
    """Return the α-entmax of each row; 1 is softmax, 2 is sparsemax.

    p = [(α - 1) x - τ]_+^(1 / (α - 1)) with Σ p = 1. With x shifted to a maximum of 0 the
    threshold is written τ = -e^(-(α - 1) s), 0 ≤ s ≤ log n, which gives
    log p = log1p((α - 1) x e^((α - 1) s)) / (α - 1) - s: exact down to α = 1, where s is
    log Σ e^x. s is found by Newton steps kept inside a bracket.

    Args:
        scores: (rows, n) float64, the largest of each row 0.
        alpha: at least 1.

    Source: Peters, Niculae and Martins 2019, arXiv:1905.05702. The parameter s is ours.
    """
    if alpha == 1:
        return softmax(scores)
    probabilities = np.zeros_like(scores)
    for row, x in enumerate(scores):
        # s ≥ 0, so that what lies 1 / (α - 1) below the maximum is never supported
        open_ = np.flatnonzero(x > -1 / (alpha - 1))
        p = _entmax_row(x[open_], alpha - 1)
        probabilities[row, open_] = p / p.sum()
    return probabilities


def _entmax_row(x: Vector64, power: float) -> Vector64:
    """Return (n,) probabilities whose sum is 1 to rounding; power is α - 1."""
    low, high = 0.0, float(np.log(len(x)))
    s = 0.5 * high
    p, before = x, np.inf
    for _ in range(_STEPS):
        # may reach 0 / 0 beyond the support: such entries are masked
        reach = 1 + power * x * np.exp(power * s)
        inside = reach > 0
        p = np.zeros_like(x)
        p[inside] = np.exp(np.log(reach[inside]) / power - s)
        excess = float(np.log(p.sum()))
        if abs(excess) <= _CLOSE:
            break
        low, high = (s, high) if excess > 0 else (low, s)
        newton = s + excess * float(p.sum()) / float((p[inside] / reach[inside]).sum())
        # Where the support changes, Newton steps alone can go back and forth for ever.
        trusted = low <= newton <= high and 2 * abs(excess) < before
        s, before = newton if trusted else 0.5 * (low + high), abs(excess)
    return p


def largest(x: Logits, count: int) -> Ids64:
    """Return where a row's largest entries are, (count,) rising; of equal ones the lowest stay.

    Args:
        x: (n,).
        count: 1 to n.
    """
    threshold = np.partition(x, len(x) - count)[len(x) - count]
    above = np.flatnonzero(x > threshold)
    ties = np.flatnonzero(x == threshold)[: count - len(above)]
    return np.sort(np.concatenate([above, ties])).astype(np.int64)


def ranked(x: Logits, count: int) -> Ids64:
    """Return where a row's largest entries are, (count,), the largest first, ties by index."""
    places = largest(x, count)
    return places[np.argsort(-x[places], kind="stable")]


def _softmax_at(scores: Matrix64, chosen: Sequence[Ids64]) -> Matrix64:
    """Return softmax over the chosen entries of each row, 0 elsewhere."""
    probabilities = np.zeros_like(scores)
    for x, p, places in zip(scores, probabilities, chosen, strict=True):
        p[places] = softmax(x[np.newaxis, places])[0]
    return probabilities


def top_k(scores: Matrix64, *, k: int) -> Matrix64:
    """Return softmax over the k largest entries of each row.

    Args:
        scores: (rows, n) float64.
        k: at least 1; where a row has fewer entries, all stay.
    """
    return _softmax_at(scores, [largest(x, min(k, len(x))) for x in scores])


def nucleus(probabilities: Vector64, *, mass: float) -> Ids64:
    """Return where the fewest largest entries are whose sum reaches `mass`, rising.

    Args:
        probabilities: (n,) of sum 1.
        mass: above 0, at most 1; 1 takes every entry that is not 0.
    """
    if mass >= 1:
        return np.flatnonzero(probabilities)
    falling = -np.sort(-probabilities)
    # rounding may leave the whole sum short of a mass near 1
    count = min(1 + int((np.cumsum(falling) < mass).sum()), int(np.count_nonzero(falling)))
    return largest(probabilities, count)


def top_p(scores: Matrix64, *, p: float) -> Matrix64:
    """Return softmax over the smallest set of largest entries whose probability reaches p.

    Args:
        scores: (rows, n) float64.
        p: above 0, at most 1.

    Source: Holtzman et al. 2019, arXiv:1904.09751 (nucleus sampling).
    """
    return _softmax_at(scores, [nucleus(row, mass=p) for row in softmax(scores)])


def min_p(scores: Matrix64, *, share: float) -> Matrix64:
    """Return softmax over the entries at least `share` times as probable as the likeliest.

    Args:
        scores: (rows, n) float64, the largest of each row 0.
        share: above 0, at most 1.

    Source: Nguyen et al. 2024, arXiv:2407.01082.
    """
    return _softmax_at(scores, [np.flatnonzero(x >= np.log(share)) for x in scores])
