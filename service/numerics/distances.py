"""Measure vectors against each other: angles and straight lines, accurate for close pairs too."""

from __future__ import annotations

import math
from enum import StrEnum

import numba
import numpy as np

from service.errors import DimensionMismatch, InvalidInput
from service.numerics.dtypes import Ids32, Matrix32, Vector32
from service.numerics.kernels import kernel
from service.numerics.vectors import unit_rows

ANGULAR, EUCLIDEAN = 0, 1
# The square of a longer vector, times a dimension of thousands, leaves float32.
LONGEST = 1e15
# Beyond this cosine the arc cosine of a float32 product is off by more than 3e-7.
_CLOSE = 0.9
_RIGHT_ANGLE = 2**0.5  # the chord of 90 degrees


class Metric(StrEnum):
    """Name a distance that obeys the triangle inequality; 1 - cosine does not."""

    ANGULAR = "angular"
    EUCLIDEAN = "euclidean"

    @property
    def code(self) -> int:
        """The number that kernels know it by."""
        return ANGULAR if self is Metric.ANGULAR else EUCLIDEAN


def prepare(vectors: Matrix32, metric: Metric) -> Matrix32:
    """Return vectors in the form that every function of this floor takes: own, C-ordered rows.

    For angles they have length 1. For straight lines they are as they came.

    Args:
        vectors: (n, d) float32, finite.
        metric: which distance they are for.

    Raises:
        InvalidInput: an angle is asked of a vector of zeros, or a straight line of a vector longer
            than 1e15, whose square float32 cannot hold.
    """
    if metric is Metric.ANGULAR:
        return np.ascontiguousarray(unit_rows(vectors))
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    if lengths.size and lengths.max() > LONGEST:
        row = int(lengths.argmax())
        raise InvalidInput(
            f"Vector {row} has length {lengths[row]:.3g}; Euclidean distances are computed up to "
            f"{LONGEST:.0e}. Divide all vectors by one number."
        )
    return np.array(vectors, dtype=np.float32, order="C")


# The terms may be added in any order, so that they are added several at a time: 6 times faster, and
# in float64 the order moves a sum by 1e-15 of itself. One machine always takes the same order.
@numba.njit(
    ["float64(float32[::1], float32[::1], float64)"],
    cache=True,
    nogil=True,
    fastmath={"reassoc", "contract"},
)
def _length_of_sum(left: Vector32, right: Vector32, sign: float) -> float:
    """Return |left + sign · right|, summed in float64."""
    total = 0.0
    for i in range(left.shape[0]):
        term = np.float64(left[i]) + sign * np.float64(right[i])
        total += term * term
    return math.sqrt(total)


@kernel("float64(float32[::1], float32[::1], int64)")
def distance(left: Vector32, right: Vector32, metric: int) -> float:
    """Return one distance, summed in float64.

    The angle is 2 arcsin(|x - y| / 2) up to 90 degrees and π - 2 arcsin(|x + y| / 2) beyond. Both
    keep their digits where arccos(x·y) loses half of them: near 0 and near π. Swapping x and y
    gives the same bits.

    Args:
        left: (d,) float32, of length 1 for angles.
        right: (d,) float32, likewise.
        metric: `Metric.code`.
    """
    apart = _length_of_sum(left, right, -1.0)
    if metric == EUCLIDEAN:
        return apart
    if apart <= _RIGHT_ANGLE:
        return 2.0 * math.asin(apart / 2.0)
    return math.pi - 2.0 * math.asin(min(1.0, _length_of_sum(left, right, 1.0) / 2.0))


@kernel("void(float32[:, ::1], int32[::1], int32[::1], int64, float32[::1])")
def _measure(vectors: Matrix32, left: Ids32, right: Ids32, metric: int, out: Vector32) -> None:
    for pair in range(left.shape[0]):
        out[pair] = distance(vectors[left[pair]], vectors[right[pair]], metric)


@kernel("void(float32[:, ::1], float32[:, ::1], int64, float32[:, ::1])")
def _correct_close(left: Matrix32, right: Matrix32, first: int, out: Matrix32) -> None:
    """Turn cosines into angles: arc cosines, and the accurate formula where those lose digits."""
    for row in range(out.shape[0]):
        for column in range(out.shape[1]):
            cosine = out[row, column]
            if -_CLOSE < cosine < _CLOSE:
                out[row, column] = np.arccos(np.float64(cosine))
            else:
                out[row, column] = distance(left[first + row], right[column], ANGULAR)


@kernel("void(float32[:, ::1], float32[:, ::1], int64, float32[:, ::1])")
def _measure_block(left: Matrix32, right: Matrix32, first: int, out: Matrix32) -> None:
    for row in range(out.shape[0]):
        for column in range(out.shape[1]):
            out[row, column] = distance(left[first + row], right[column], EUCLIDEAN)


def pair_distances(vectors: Matrix32, left: Ids32, right: Ids32, *, metric: Metric) -> Vector32:
    """Return the distance of each pair of rows.

    Args:
        vectors: (n, d) float32 from `prepare`.
        left: (pairs,) int32 rows.
        right: (pairs,) int32 rows.
        metric: angle in radians, or straight line.

    Returns:
        (pairs,) float32.
    """
    out = np.empty(len(left), np.float32)
    _measure(vectors, left, right, metric.code, out)
    return out


def cross_distances(left: Matrix32, right: Matrix32, *, metric: Metric) -> Matrix32:
    """Return the distance of every row of `left` to every row of `right`.

    Args:
        left: (m, d) float32 from `prepare`.
        right: (n, d) float32 from `prepare`.
        metric: angle in radians, or straight line.

    Returns:
        (m, n) float32; a row that stands in both has distance exactly 0 to itself.

    Raises:
        DimensionMismatch: the two have different lengths of rows.
    """
    if left.shape[1] != right.shape[1]:
        raise DimensionMismatch(
            f"Vectors of {left.shape[1]} and of {right.shape[1]} numbers cannot be compared."
        )
    out = np.empty((len(left), len(right)), np.float32)
    if metric is Metric.EUCLIDEAN:
        _measure_block(left, right, 0, out)
        return out
    np.matmul(left, right.T, out=out)
    _correct_close(left, right, 0, out)
    return out
