"""Measure attention weights: how spread their rows are, and how many of them are independent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import entr

from service.numerics.concentration import Measures, RowKind, concentration, noise_sensitivity
from service.numerics.dtypes import Ids64, Logits, Vector64

# float32 weights are wrong by so much, relative to the largest of them.
_STEP32 = 2.0**-23


def row_entropy(weights: Logits) -> Vector64:
    """Return the Shannon entropy of rows in nats, each divided by its sum first.

    Args:
        weights: (…, n), at least 0, each row with a positive sum.

    Returns:
        (…) float64.
    """
    p = _probabilities(weights)
    entropy: Vector64 = entr(p).sum(axis=-1)
    return np.maximum(entropy, 0.0)


def normalized_entropy(entropy: Vector64, lengths: Ids64) -> Vector64:
    """Return H / ln n, 1 for a row that looks at all its n keys alike; NaN for n = 1.

    Args:
        entropy: (…, rows) nats.
        lengths: (rows,) keys that each row sees.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        shares: Vector64 = np.minimum(entropy / np.log(lengths), 1.0)
    return np.where(lengths > 1, shares, np.nan)


def row_concentration(weights: Logits, lengths: Ids64) -> dict[str, Vector64]:
    """Return the concentration metrics of every row; hidden keys count as entries of 0.

    Args:
        weights: (…, rows, n).
        lengths: (rows,) keys that each row sees; `normalized_entropy` is relative to them.
    """
    p = _probabilities(weights)
    flat = p.reshape(-1, p.shape[-1])
    found = concentration(
        flat, kind=RowKind.PROBABILITIES, measures=Measures(), progress=lambda *_: None
    )
    shaped = {name: values.reshape(p.shape[:-1]) for name, values in found.items()}
    shaped["normalized_entropy"] = normalized_entropy(shaped["entropy"], lengths)
    return shaped


def expected_noise(weights: Logits, values: Logits, *, sigma: float) -> Vector64:
    """Return E|õ - o|² of each row under noise N(0, sigma²) on its scores.

    Args:
        weights: (heads, n, n), rows of sum 1.
        values: (heads, n, d_v).
        sigma: nats.

    Returns:
        (heads, n) float64, in squared units of the values.
    """
    pairs = zip(_probabilities(weights), values, strict=True)
    return np.stack([noise_sensitivity(p, v, noise=sigma) for p, v in pairs])


@dataclass(frozen=True, slots=True)
class Rank:
    """Hold how many rows of attention matrices are independent.

    Attributes:
        numerical: (…) singular values above the tolerance.
        smallest: (…) the smallest singular value.
        largest: (…) the largest one.
    """

    numerical: Ids64
    smallest: Vector64
    largest: Vector64


def rank(weights: Logits) -> Rank:
    """Return the numerical rank of square matrices: singular values above largest · n · 2^-23.

    Args:
        weights: (…, n, n); the tolerance is that of float32 entries.
    """
    sizes = np.linalg.svd(weights.astype(np.float64), compute_uv=False)
    tolerance = sizes[..., :1] * weights.shape[-1] * _STEP32
    # copies: a slice of the singular values is no contiguous array
    return Rank((sizes > tolerance).sum(axis=-1), sizes[..., -1].copy(), sizes[..., 0].copy())


def _probabilities(weights: Logits) -> Vector64:
    # float32 sums of thousands of entries are off by more than later checks allow
    wide = weights.astype(np.float64)
    shares: Vector64 = wide / wide.sum(axis=-1, keepdims=True)
    return shares
