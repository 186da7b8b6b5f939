"""Say how evenly vectors use their dimensions; diagnostics, not measures of quality."""

from __future__ import annotations

import numpy as np

from service.errors import EmptyInput
from service.numerics.dtypes import Matrix32, Vector64
from service.numerics.vectors import unit_rows

_PAIR = 2


def isoscore(variances: Vector64) -> float:
    """Return the IsoScore of a covariance spectrum: 1 where all axes vary alike, 0 on one line.

    The published steps bring the variances v to length √d, take the distance δ of that to the
    vector of ones, and rescale: φ = (d − δ²(d − √d))²/d², ι = (dφ − 1)/(d − 1), where δ is the
    distance over √(2(d − √d)). Put together, ι = (r − 1)/(d − 1) with r = (Σv)²/Σv².

    Args:
        variances: (d,) float64, eigenvalues of a covariance, not all 0.

    Returns:
        0 to 1; 1 for a single dimension, which cannot be used unevenly.

    Source: Rudman et al. 2022, arXiv:2108.07344, algorithm 1.
    """
    dimensions = len(variances)
    if dimensions == 1:
        return 1.0
    shares = variances / variances.sum()
    ratio = 1 / float(shares @ shares)
    return (ratio - 1) / (dimensions - 1)


def effective_rank(variances: Vector64) -> float:
    """Return exp(H(p)), p the variances over their sum: how many axes carry the spread, 1 to d.

    Args:
        variances: (d,) float64, at least 0, not all 0.

    Source: Roy and Vetterli 2007.
    """
    shares = variances[variances > 0] / variances.sum()
    return float(np.exp(-(shares @ np.log(shares))))


def mean_cosine(vectors: Matrix32) -> float:
    """Return the mean cosine over all pairs of different rows, exactly and in O(nd).

    With unit rows u the sum over all pairs is |Σu|², of which n are a row with itself.

    Args:
        vectors: (n, d) float32, n ≥ 2.

    Raises:
        EmptyInput: there is no pair.
        InvalidInput: a row is all zeros.
    """
    count = len(vectors)
    if count < _PAIR:
        raise EmptyInput(f"A mean cosine needs 2 vectors; {count} came.")
    total = unit_rows(vectors).sum(axis=0, dtype=np.float64)
    return float((total @ total - count) / (count * (count - 1)))
