"""Sum up vectors so that sums of parts can be put together: mean, scatter, and two moments more."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from service.numerics.dtypes import Matrix32, Matrix64, Vector64

# One block of centred rows in float64, so that extra memory does not grow with the rows.
_BLOCK_BYTES = 8 * 2**20


@dataclass(frozen=True, slots=True)
class Moments:
    """Hold what whitening must know of n vectors x with mean μ; z = x − μ.

    Attributes:
        samples: n.
        mean: μ, (d,) float64.
        scatter: Σ z zᵀ, (d, d) float64; divided by n it is the covariance.
        third: Σ |z|² z, (d,) float64; it carries `fourth` over to another mean.
        fourth: Σ |z|⁴, which the Ledoit-Wolf shrinkage needs.
    """

    samples: int
    mean: Vector64
    scatter: Matrix64
    third: Vector64
    fourth: float

    @property
    def dimensions(self) -> int:
        """Return d."""
        return len(self.mean)

    @property
    def covariance(self) -> Matrix64:
        """Return scatter / n, (d, d) float64."""
        return self.scatter / self.samples


def measure_moments(vectors: Matrix32) -> Moments:
    """Return the moments of some vectors.

    Rows are centred before they are squared: E[xxᵀ] − μμᵀ loses every digit where the mean is
    large beside the spread. Products run in float64: whitening divides by the smallest
    eigenvalues, of which float32 keeps few digits.

    Args:
        vectors: (n, d) float32 or float64, n ≥ 1; read in blocks of 8 MiB.
    """
    samples, dimensions = vectors.shape
    mean = vectors.mean(axis=0, dtype=np.float64)
    scatter = np.zeros((dimensions, dimensions))
    third = np.zeros(dimensions)
    fourth = 0.0
    rows = min(samples, max(1, _BLOCK_BYTES // (8 * dimensions)))
    # Filled again and again: fresh memory for each block would cost a tenth of the whole.
    space, products = np.empty((rows, dimensions)), np.empty((dimensions, dimensions))
    for start in range(0, samples, rows):
        block = vectors[start : start + rows]
        centred = np.subtract(block, mean, out=space[: len(block)])
        scatter += np.matmul(centred.T, centred, out=products)
        squares = np.einsum("nd,nd->n", centred, centred)
        third += squares @ centred
        fourth += float(squares @ squares)
    return Moments(samples, mean, scatter, third, fourth)


def merge_moments(left: Moments, right: Moments) -> Moments:
    """Return the moments of the vectors of both; the order of merging only changes rounding.

    Both are moved to the common mean and added. For the scatter this is the update of Chan,
    Golub and LeVeque (1983): M = M₁ + M₂ + (μ₂ − μ₁)(μ₂ − μ₁)ᵀ n₁n₂/n.

    Args:
        left: moments of n₁ vectors.
        right: moments of n₂ vectors of the same dimension.
    """
    samples = left.samples + right.samples
    mean = left.mean + (right.mean - left.mean) * (right.samples / samples)
    one, other = _about(left, mean), _about(right, mean)
    return Moments(
        samples,
        mean,
        one.scatter + other.scatter,
        one.third + other.third,
        one.fourth + other.fourth,
    )


def _about(moments: Moments, mean: Vector64) -> Moments:
    """Return the same sums about another point, with z + δ in the place of z, δ = μ − mean.

    Σ|z+δ|²(z+δ) = t + 2Mδ + δ tr M + n|δ|²δ, and
    Σ|z+δ|⁴ = q + 4δ·t + 4δᵀMδ + 2|δ|² tr M + n|δ|⁴, since Σz = 0.
    """
    shift = moments.mean - mean
    square = float(shift @ shift)
    spread = float(np.trace(moments.scatter))
    drag = moments.scatter @ shift
    scatter = np.outer(shift, moments.samples * shift)
    scatter += moments.scatter
    third = moments.third + 2 * drag + (spread + moments.samples * square) * shift
    fourth = (
        moments.fourth
        + 4 * float(shift @ moments.third)
        + 4 * float(shift @ drag)
        + square * (2 * spread + moments.samples * square)
    )
    return Moments(moments.samples, mean, scatter, third, fourth)
