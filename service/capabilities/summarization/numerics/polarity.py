"""Tell praise from complaint by where a sentence lies between examples of both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from service.numerics.dtypes import Matrix32, Vector64

# A rating moves a sentence's polarity by this much at most: even a five-star review complains.
RATING_WEIGHT = 0.25
_MIDDLE, _HALF_RANGE = 3.0, 2.0


@dataclass(frozen=True, slots=True)
class Axis:
    """Hold the line from complaint to praise in an encoder's space.

    Attributes:
        direction: (d,) float64; the two means lie 2 apart along it.
        middle: offset of the point halfway between them.
    """

    direction: Vector64
    middle: float


def fit_axis(praise: Matrix32, complaint: Matrix32) -> Axis:
    """Return the axis through the mean of examples of each kind.

    direction = 2 (p - c) / |p - c|², so that p scores 1 and c scores -1.

    Args:
        praise: (m, d) float32 vectors of sentences that praise.
        complaint: (m, d) float32 vectors of sentences that complain about the same.
    """
    up = praise.mean(axis=0, dtype=np.float64)
    down = complaint.mean(axis=0, dtype=np.float64)
    span = up - down
    direction = 2 * span / max(float(span @ span), 1e-12)
    return Axis(direction, float((up + down) @ direction) / 2)


def polarities(vectors: Matrix32, axis: Axis, *, ratings: Vector64) -> Vector64:
    """Return -1 (complaint) to 1 (praise) for each statement.

    Args:
        vectors: (n, d) float32.
        axis: of the encoder that made them.
        ratings: (n,) float64, mean rating of the reviews that say it, 1 to 5; NaN where none rates.
    """
    along = vectors.astype(np.float64) @ axis.direction - axis.middle
    prior = np.nan_to_num((ratings - _MIDDLE) / _HALF_RANGE, nan=0.0)
    return np.clip(along + RATING_WEIGHT * prior, -1.0, 1.0)
