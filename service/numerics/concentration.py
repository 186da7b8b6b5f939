"""Measure how concentrated rows are: sparsity, entropy, and what log-sum-exp allows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from service.numerics.distributions.logits import (
    require_logits,
    require_probabilities,
    row_blocks,
)
from service.numerics.dtypes import Logits, Matrix64, Progress, Vector64

Metrics = Mapping[str, Vector64]
# A Rényi order so close to 1 is Shannon's: the quotient would only lose digits.
_NEAR_ONE = 1e-8


class RowKind(StrEnum):
    """Say what a row holds."""

    VECTOR = "vector"
    PROBABILITIES = "probabilities"
    LOGITS = "logits"


@dataclass(frozen=True, slots=True)
class Measures:
    """Choose the parameters of the metrics.

    Attributes:
        orders: pairs (q, p), p > q > 0, of the norm ratios.
        renyi: orders a ≥ 0 beside 2 and infinity.
        top: how many largest entries `top_mass` sums.
        mass: which share `covering_count` must reach, in (0, 1].
        epsilon: entries below this share of the largest count as near zero.
    """

    orders: tuple[tuple[float, float], ...] = ((1.0, 2.0),)
    renyi: tuple[float, ...] = ()
    top: int = 10
    mass: float = 0.9
    epsilon: float = 1e-3


def concentration(
    rows: Logits, *, kind: RowKind, measures: Measures, progress: Progress
) -> dict[str, Vector64]:
    """Return each metric as one number a row; NaN where a metric is not defined.

    Args:
        rows: (rows, n) float32 or float64, finite; minus infinity is allowed in logits.
        kind: vector: `magnitudes`; probabilities: also `spread`; logits: also `log_sum_exp_bounds`.
        measures: parameters.
        progress: told after every block of rows.

    Raises:
        NotFinite: a number is not finite, or a row of logits is masked everywhere.
        InvalidInput: a row of probabilities has a negative number or a sum other than 1.
    """
    if kind is RowKind.LOGITS:
        require_logits(rows, pointer="/rows")
    elif kind is RowKind.PROBABILITIES:
        require_probabilities(rows, pointer="/rows")
    parts: list[Metrics] = []
    for block in row_blocks(rows):
        parts.append(_block_metrics(rows[block].astype(np.float64), kind, measures))
        progress("measure", min(block.stop, len(rows)), len(rows))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _block_metrics(rows: Matrix64, kind: RowKind, measures: Measures) -> Metrics:
    if kind is RowKind.VECTOR:
        return magnitudes(rows, measures)
    if kind is RowKind.PROBABILITIES:
        with np.errstate(divide="ignore"):
            logs = np.log(rows)
        sizes = np.full(len(rows), float(rows.shape[1]))
        return {**spread(rows, logs, sizes, measures), **magnitudes(rows, measures)}
    highest = rows.max(axis=1, keepdims=True)
    with np.errstate(over="ignore"):
        logs = rows - highest
    totals = np.log(np.exp(logs).sum(axis=1, keepdims=True))
    logs -= totals
    p = np.exp(logs)
    sizes = np.isfinite(rows).sum(axis=1).astype(np.float64)
    return {
        **spread(p, logs, sizes, measures),
        **magnitudes(p, measures),
        **log_sum_exp_bounds(rows, (highest + totals)[:, 0], sizes),
    }


def magnitudes(rows: Matrix64, measures: Measures) -> Metrics:
    """Return metrics of |x|, each row divided by its largest first; NaN for a row of zeros.

    - `s_q_p` = n^(1/p - 1/q) ‖x‖_q / ‖x‖_p, in [n^(1/p - 1/q), 1], small where few entries count.
      For (1, 2) it is the cosine of |x| with a constant vector, 1 / sqrt(1 + var|x| / mean|x|²).
    - `s_0` = mean |x| / max |x|.
    - `hoyer` = (√n - ‖x‖₁ / ‖x‖₂) / (√n - 1), NaN for n = 1.
    - `gini` = 1 - 2 Σ_k c_(k) (n - k + 1/2) / (n Σ c), c = |x| rising.
    - `near_zero_share` of entries below epsilon · max |x|.

    Source: Hurley and Rickard 2009, arXiv:0811.4706, for the axioms that they satisfy.
    """
    x = np.abs(rows)
    n = x.shape[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        x /= x.max(axis=1, keepdims=True)
        found = {
            f"s_{q:g}_{p:g}": np.exp(
                (1 / p - 1 / q) * np.log(n) + _log_norm(x, q) - _log_norm(x, p)
            )
            for q, p in measures.orders
        }
        found["s_0"] = x.mean(axis=1)
        ratio = x.sum(axis=1) / np.sqrt((x * x).sum(axis=1))
        found["hoyer"] = (np.sqrt(n) - ratio) / (np.sqrt(n) - 1)
        weights = (n - np.arange(1, n + 1) + 0.5) / n
        # no product of matrices: its last bit depends on how many rows there are
        found["gini"] = 1 - 2 * (np.sort(x, axis=1) * weights).sum(axis=1) / x.sum(axis=1)
    near_zero = (x < measures.epsilon).mean(axis=1)
    found["near_zero_share"] = np.where(np.isnan(found["s_0"]), np.nan, near_zero)
    return found


def _log_norm(x: Matrix64, order: float) -> Vector64:
    """Return log ‖x‖ of an order; entries are at most 1, so that no power overflows."""
    norms: Vector64 = np.log((x**order).sum(axis=1)) / order
    return norms


def spread(p: Matrix64, logs: Matrix64, sizes: Vector64, measures: Measures) -> Metrics:
    """Return metrics of probability rows, in nats.

    - `entropy` H = -Σ p log p, `perplexity` e^H, `normalized_entropy` H / log n (NaN for n = 1).
    - `renyi_a` = log Σ p^a / (1 - a); `renyi_2`, `renyi_inf` = -log max p.
    - `n_eff` = 1 / Σ p², `tsallis_2` = 1 - Σ p², half the L1 norm of softmax's Jacobian.
    - `top_mass`: sum of the largest entries; `covering_count`: fewest that reach a mass.

    Args:
        p: (rows, n) probabilities.
        logs: (rows, n) their logarithms, minus infinity for 0.
        sizes: (rows,) n; for logits the entries that are not masked.
        measures: parameters.
    """
    finite = np.where(p > 0, logs, 0.0)
    entropy = np.maximum(-(p * finite).sum(axis=1), 0.0)
    squares = (p * p).sum(axis=1)
    falling = -np.sort(-p, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        normalized = np.where(sizes > 1, entropy / np.log(sizes), np.nan)
    short = np.cumsum(falling, axis=1) < measures.mass
    found = {
        "entropy": entropy,
        "perplexity": np.exp(entropy),
        "normalized_entropy": normalized,
        "renyi_2": -np.log(squares),
        "renyi_inf": -np.log(falling[:, 0]),
        "n_eff": 1 / squares,
        "tsallis_2": 1 - squares,
        "top_mass": falling[:, : measures.top].sum(axis=1),
        "covering_count": np.minimum(short.sum(axis=1) + 1.0, (p > 0).sum(axis=1)),
    }
    for order in measures.renyi:
        found[f"renyi_{order:g}"] = _renyi(finite, p > 0, order, entropy)
    # Rounding can leave a -0 or a little less where a row holds all of its mass in one entry.
    return {name: np.maximum(values, 0.0) for name, values in found.items()}


def _renyi(
    logs: Matrix64,
    support: np.ndarray[tuple[int, ...], np.dtype[np.bool_]],
    order: float,
    entropy: Vector64,
) -> Vector64:
    if abs(order - 1) < _NEAR_ONE:
        return entropy
    powers = np.where(support, order * logs, -np.inf)
    highest = powers.max(axis=1)
    sums = np.exp(powers - highest[:, np.newaxis]).sum(axis=1)
    found: Vector64 = (highest + np.log(sums)) / (1 - order)
    return found


def log_sum_exp_bounds(rows: Matrix64, log_sum_exp: Vector64, sizes: Vector64) -> Metrics:
    """Return log Σ e^x, what bounds it, and how far scores of this range can lower the entropy.

    max ≤ LSE ≤ max + log n;  mean + log n ≤ LSE ≤ mean + log n + range² / 8 (Hoeffding's lemma).

    Scores that span R nats lower the entropy below log n by at most w - log(1 + w) with
    w = R / (1 - e^-R) - 1, reached by scores that take only their two ends. Cosines span 2 and
    lower it by 0.4745 at most: they need a temperature.

    Args:
        rows: (rows, n) logits, minus infinity where masked.
        log_sum_exp: (rows,).
        sizes: (rows,) entries that are not masked.
    """
    open_ = np.isfinite(rows)
    highest = rows.max(axis=1)
    lowest = np.where(open_, rows, np.inf).min(axis=1)
    # Divided before it is summed: logits near 1e308 overflow otherwise.
    mean = np.where(open_, rows / sizes[:, np.newaxis], 0.0).sum(axis=1)
    with np.errstate(over="ignore"):
        width = highest - lowest
        hoeffding = mean + np.log(sizes) + width * width / 8
    return {
        "log_sum_exp": log_sum_exp,
        "lse_lower_max": highest,
        "lse_lower_mean": mean + np.log(sizes),
        "lse_upper_max": highest + np.log(sizes),
        "lse_upper_hoeffding": np.where(np.isfinite(hoeffding), hoeffding, np.nan),
        "range": np.where(np.isfinite(width), width, np.nan),
        "max_entropy_reduction": np.minimum(max_entropy_reduction(width), np.log(sizes)),
    }


def max_entropy_reduction(width: Vector64) -> Vector64:
    """Return by how many nats scores within an interval can lower the entropy below log n.

    Args:
        width: (rows,) lengths of the interval, at least 0.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        w = np.where(width > 0, width / -np.expm1(-width), 1.0) - 1
        return np.where(np.isinf(w), np.inf, w - np.log1p(w))


def noise_sensitivity(probabilities: Logits, values: Logits, *, noise: float) -> Vector64:
    """Return the expected squared error of attention outputs under noise on the logits.

    For logit noise N(0, s²) on each key, o = Σ p v moves by
    E|õ - o|² ≈ (e^(s²) - 1) Σ_i p_i² |v_i - o|².

    Args:
        probabilities: (queries, keys), rows of sum 1.
        values: (keys, d).
        noise: s, in nats.

    Returns:
        (queries,) float64 in squared units of the values.
    """
    p = probabilities.astype(np.float64)
    # Centred, so that the three terms below do not cancel where the values share an offset.
    v = values.astype(np.float64) - values.astype(np.float64).mean(axis=0)
    outputs = p @ v
    squares = p * p
    distances = (
        squares @ np.einsum("kd,kd->k", v, v)
        - 2 * np.einsum("qd,qd->q", squares @ v, outputs)
        + squares.sum(axis=1) * np.einsum("qd,qd->q", outputs, outputs)
    )
    expected: Vector64 = np.expm1(noise**2) * np.maximum(distances, 0.0)
    return expected
