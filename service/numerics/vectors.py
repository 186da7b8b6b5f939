"""Compare and shorten vectors."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from service.errors import DimensionMismatch, InvalidInput, NotFinite
from service.numerics.dtypes import Matrix32, Matrix64, Vector32

# Rows that are normalised at a time, so that float64 copies stay small.
_BLOCK_ROWS = 1024
# Four steps of float32 below 1.
_ROUNDING = 2.0**-22


def require_finite(vectors: Matrix32) -> None:
    """Check that every number is finite.

    Raises:
        NotFinite: one is not; the message names its row, column and value.
    """
    if np.isfinite(vectors).all():
        return
    row, column = np.argwhere(~np.isfinite(vectors))[0]
    raise NotFinite(
        f"Vector {row} holds {vectors[row, column]} at position {column}; "
        "every number must be finite."
    )


def unit_rows(vectors: Matrix32 | Matrix64) -> Matrix32:
    """Return each row divided by its Euclidean length, in float32.

    Args:
        vectors: (n, d) float32 or float64.

    Raises:
        InvalidInput: a row has length 0, which has no direction.
    """
    units = np.empty(vectors.shape, dtype=np.float32)
    for start in range(0, len(vectors), _BLOCK_ROWS):
        rows = slice(start, start + _BLOCK_ROWS)
        block = vectors[rows]
        # float64: the squares of values near 1e20 do not fit float32
        lengths = np.linalg.norm(block.astype(np.float64), axis=1, keepdims=True)
        if not lengths.all():
            row = start + int(np.flatnonzero(lengths[:, 0] == 0)[0])
            raise InvalidInput(f"Vector {row} is all zeros, so it has no direction to compare.")
        np.divide(block, lengths, out=units[rows], casting="same_kind")
    return units


def wide_unit_rows(vectors: Matrix32 | Matrix64) -> Matrix64:
    """Return each row divided by its Euclidean length, in float64.

    Raises:
        InvalidInput: a row has length 0, which has no direction.
    """
    # the squares of values near 1e20 do not fit float32
    wide: Matrix64 = vectors.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    if not lengths.all():
        row = int(np.flatnonzero(lengths[:, 0] == 0)[0])
        raise InvalidInput(f"Vector {row} is all zeros, so it has no direction to compare.")
    wide /= lengths
    return wide


def _settle(cosines: npt.NDArray[np.floating]) -> Matrix32:
    """Return cosines with those within rounding of 1 at 1, so that copies are as near as can be."""
    cosines = np.asarray(cosines, dtype=np.float32)
    settled: Matrix32 = np.where(cosines > 1 - _ROUNDING, np.float32(1), cosines).clip(-1.0, 1.0)
    return settled


def first_dimensions(vectors: Matrix32, *, k: int, normalize: bool) -> Matrix32:
    """Return the first k columns, brought back to length 1 where that is wanted.

    A slice of a unit vector is shorter than 1, and a dot product of slices is then no cosine.

    Args:
        vectors: (n, d) float32.
        k: columns to keep, 1 ≤ k ≤ d.
        normalize: whether the rows get length 1 again.

    Raises:
        DimensionMismatch: k is larger than d.
    """
    if k > vectors.shape[1]:
        raise DimensionMismatch(
            f"{k} dimensions were asked for and the vectors have {vectors.shape[1]}."
        )
    if k == vectors.shape[1]:
        return vectors
    kept = np.ascontiguousarray(vectors[:, :k])
    return unit_rows(kept) if normalize else kept


def pair_cosines(left: Matrix32, right: Matrix32) -> Vector32:
    """Return the cosine of each row of `left` with the same row of `right`.

    cos(a, b) = a·b / (|a| |b|), kept within [-1, 1] against rounding.

    Args:
        left: (n, d) float32.
        right: (n, d) float32.

    Returns:
        (n,) float32.
    """
    products: Vector32 = np.einsum("nd,nd->n", unit_rows(left), unit_rows(right))
    return _settle(products)


def cosine_matrix(vectors: Matrix32) -> Matrix32:
    """Return the cosine of every row with every row.

    Args:
        vectors: (n, d) float32.

    Returns:
        (n, n) float32, symmetric, its diagonal exactly 1.
    """
    units = unit_rows(vectors)
    products: Matrix32 = units @ units.T
    cosines = _settle((products + products.T) / 2)
    np.fill_diagonal(cosines, 1.0)
    return cosines
