"""Turn and stretch vectors so that they use all directions alike: y = (x − βμ) U Λ^(−γ/2).

Σ_β = C + (1 − β)² μμᵀ = U Λ Uᵀ is the second moment *about βμ*, C being the covariance. So one
set of moments serves every β, one decomposition serves every γ and every number of dimensions.
β = γ = 1 is BERT-whitening; β = γ = 0 with all dimensions is a rotation, which changes no cosine.

Sources: Su et al. 2021, arXiv:2103.15316, and its extension by β and γ (kexue.fm/archives/9079).
Ours adds shrinkage, a floor under the eigenvalues and a rule for the signs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from service.errors import DimensionMismatch, Fault, InvalidInput
from service.numerics.dtypes import Matrix32, Matrix64, Vector64
from service.numerics.isotropy import effective_rank, isoscore
from service.numerics.moments import Moments
from service.numerics.vectors import unit_rows

Matrix: TypeAlias = npt.NDArray[np.float32] | npt.NDArray[np.float64]

# Smallest eigenvalue as a share of the largest. Vectors come in float32; what is smaller is mostly
# their rounding, and γ = 1 would blow it up a thousand times.
EIGENVALUE_FLOOR = 1e-6
# Spread over length, squared, below which float32 vectors are the same vector and its rounding.
_CONSTANT = 1e-12
# What is smaller than this share comes from rounding sums in float64.
_ROUNDING = 1e-12
_FEWEST_SAMPLES = 2
# Rows that pass through the cache together with the kernel.
_BLOCK_ROWS = 1024
# Weights beyond these lose digits in float32.
_NARROW = (1e-30, 1e30)


class Shrinkage(StrEnum):
    """Say how far a covariance of few samples is drawn towards a multiple of the identity."""

    NONE = "none"
    OAS = "oas"
    LEDOIT_WOLF = "ledoit_wolf"


@dataclass(frozen=True, slots=True)
class Axes:
    """Hold the decomposition of Σ_β.

    Attributes:
        centre: βμ, (d,) float64.
        eigenvalues: λ, (d,) float64, falling, none below the floor.
        directions: U, (d, d) float64, one column an axis; its largest entry is positive.
        floored: eigenvalues that were raised to the floor.
        intensity: how far C was shrunk, 0 to 1.
    """

    centre: Vector64
    eigenvalues: Vector64
    directions: Matrix64
    floored: int
    intensity: float


@dataclass(frozen=True, slots=True)
class Kernel:
    """Hold y = (x − centre) weights, in the precision in which it is computed.

    Attributes:
        centre: (d,).
        weights: (d, k).
    """

    centre: npt.NDArray[np.floating]
    weights: npt.NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Spectrum:
    """Sum up how the variance is spread over the axes.

    Attributes:
        largest: λ₁.
        smallest: λ_d.
        kept_share: share of Σλ on the axes that are kept, 0 to 1.
        effective_rank: of all axes.
        isoscore: of all axes.
    """

    largest: float
    smallest: float
    kept_share: float
    effective_rank: float
    isoscore: float


def require_spread(moments: Moments) -> None:
    """Check that there is something to whiten.

    Raises:
        InvalidInput: there are fewer than 2 vectors, or all of them are the same.
    """
    if moments.samples < _FEWEST_SAMPLES:
        raise InvalidInput(
            f"{moments.samples} vector came; a whitening needs at least 2, and several times the "
            "dimensions to be good.",
            faults=(Fault("", "holds too few vectors"),),
        )
    spread = float(np.trace(moments.scatter)) / moments.samples
    if spread <= _CONSTANT * float(moments.mean @ moments.mean):
        raise InvalidInput(
            f"All {moments.samples} vectors are the same (their variance is {spread:.3g}), "
            "so there is no spread to whiten."
        )


def require_dimensions(
    dimensions: int, *, width: int, samples: int, intensity: float, pointer: str = "/dimensions"
) -> None:
    """Check that so many dimensions can be kept.

    Args:
        dimensions: wanted.
        width: d.
        samples: n.
        intensity: of the shrinkage; unshrunk, n samples span n − 1 dimensions.
        pointer: where they were asked for.

    Raises:
        DimensionMismatch: more than d, or more than the n − 1 that n samples span unshrunk.
    """
    if dimensions > width:
        raise DimensionMismatch(
            f"{dimensions} dimensions were asked for and the vectors have {width}.",
            faults=(Fault(pointer, f"must be at most {width}"),),
        )
    if not intensity and dimensions > samples - 1:
        raise DimensionMismatch(
            f"{dimensions} dimensions were asked for and {samples} samples span only "
            f"{samples - 1}, with nothing shrunk. Give more samples, dimensions of at most "
            f"{samples - 1}, or another shrinkage (oas shrinks few samples always).",
            faults=(Fault(pointer, f"must be at most {samples - 1}"),),
        )


def shrinkage_intensity(moments: Moments, shrinkage: Shrinkage) -> float:
    """Return the weight ρ in (1 − ρ) C + ρ tr(C)/d I, 0 to 1.

    With S = C, p = d: OAS is ((1 − 2/p) tr S² + tr² S) / ((n + 1 − 2/p)(tr S² − tr² S / p)).
    Ledoit-Wolf is (Σ|z|⁴/n − tr S²) / (n (tr S² − tr² S / p)).

    Sources: Chen et al. 2010, eq. 23; Ledoit and Wolf 2004, with the variance of the covariance
    written through fourth moments, so that it follows from merged sums too.
    """
    if shrinkage is Shrinkage.NONE:
        return 0.0
    samples, dimensions = moments.samples, moments.dimensions
    trace = float(np.trace(moments.scatter)) / samples
    square = float(np.vdot(moments.scatter, moments.scatter)) / samples**2
    # how far C is from a multiple of the identity; at 0 shrinking would change nothing
    unevenness = square - trace**2 / dimensions
    if unevenness <= _ROUNDING * square:
        return 0.0
    if shrinkage is Shrinkage.OAS:
        wanted = (1 - 2 / dimensions) * square + trace**2
        weight = wanted / ((samples + 1 - 2 / dimensions) * unevenness)
    else:
        weight = (moments.fourth / samples - square) / (samples * unevenness)
    return min(1.0, weight) if weight > _ROUNDING else 0.0


def find_axes(moments: Moments, *, beta: float, shrinkage: Shrinkage) -> Axes:
    """Return the eigenvalues and axes of Σ_β, the covariance shrunk first.

    Args:
        moments: of the fitting vectors.
        beta: share of the mean that is subtracted, 0 to 1.
        shrinkage: what draws the covariance towards a multiple of the identity.

    Raises:
        InvalidInput: fewer than 2 vectors, or all the same.
    """
    require_spread(moments)
    intensity = shrinkage_intensity(moments, shrinkage)
    second = moments.scatter * ((1 - intensity) / moments.samples)
    level = float(np.trace(moments.scatter)) / (moments.samples * moments.dimensions)
    second[np.diag_indices_from(second)] += intensity * level
    if beta != 1:
        rest = (1 - beta) * moments.mean
        second += np.outer(rest, rest)
    rising, directions = np.linalg.eigh(second)
    eigenvalues, directions = rising[::-1].copy(), directions[:, ::-1]
    highest, lowest = directions.max(axis=0), directions.min(axis=0)
    directions *= np.where(highest >= -lowest, 1.0, -1.0)
    floor = EIGENVALUE_FLOOR * eigenvalues[0]
    return Axes(
        centre=beta * moments.mean,
        eigenvalues=np.maximum(eigenvalues, floor),
        directions=directions,
        floored=int((eigenvalues < floor).sum()),
        intensity=intensity,
    )


def make_kernel(axes: Axes, *, gamma: float, dimensions: int) -> Kernel:
    """Return the map to the first axes, W = U[:, :k] Λ[:k]^(−γ/2), in float64."""
    kept = slice(dimensions)
    return Kernel(axes.centre, axes.directions[:, kept] * axes.eigenvalues[kept] ** (-gamma / 2))


def narrow_kernel(kernel: Kernel) -> Kernel:
    """Return the kernel in float32, or itself where float32 would lose its digits."""
    sizes = np.abs(kernel.weights).max(axis=0)
    if sizes.min() < _NARROW[0] or max(sizes.max(), np.abs(kernel.centre).max()) > _NARROW[1]:
        return kernel
    return Kernel(
        kernel.centre.astype(np.float32),
        np.ascontiguousarray(kernel.weights, dtype=np.float32),
    )


def sum_up(axes: Axes, *, dimensions: int) -> Spectrum:
    """Return the figures of a spectrum of which the first axes are kept."""
    values = axes.eigenvalues
    return Spectrum(
        largest=float(values[0]),
        smallest=float(values[-1]),
        kept_share=float(values[:dimensions].sum() / values.sum()),
        effective_rank=effective_rank(values),
        isoscore=isoscore(values),
    )


def project(vectors: Matrix, kernel: Kernel) -> Matrix:
    """Return (x − centre) W for each row x, in the kernel's precision.

    The centre is subtracted first: folded into a bias it would cancel in float32.

    Args:
        vectors: (n, d) float32 or float64.
        kernel: for vectors of d dimensions.

    Returns:
        (n, k), float32 or float64.

    Raises:
        InvalidInput: a result does not fit the precision; the input is near its limit.
    """
    found = np.empty((len(vectors), kernel.weights.shape[1]), dtype=kernel.weights.dtype)
    for rows, images in _images(vectors, kernel):
        _require_fit(images, rows)
        found[rows] = images
    return found


def whiten(vectors: Matrix, kernel: Kernel) -> Matrix32:
    """Return the rows of `project`, each brought to length 1, (n, k) float32.

    Raises:
        InvalidInput: a row lies at the centre and has no direction, or does not fit.
    """
    found = np.empty((len(vectors), kernel.weights.shape[1]), dtype=np.float32)
    for rows, images in _images(vectors, kernel):
        with np.errstate(over="ignore"):
            lengths = np.sqrt(np.einsum("nd,nd->n", images, images))
        if lengths.min() > _NARROW[0] ** 0.5 and lengths.max() < np.inf:
            np.divide(images, lengths[:, np.newaxis], out=found[rows], casting="same_kind")
            continue
        _require_fit(images, rows)
        empty = np.flatnonzero(~images.any(axis=1))
        if len(empty):
            raise InvalidInput(
                f"Vector {rows.start + empty[0]} is all zeros after the transform, so it has no "
                "direction. Leave it out, or keep lengths as they are (`normalize: false`)."
            )
        found[rows] = unit_rows(images)
    return found


def _images(vectors: Matrix, kernel: Kernel) -> Iterator[tuple[slice, Matrix]]:
    """Yield the images of some rows at a time, few enough for the cache."""
    for start in range(0, len(vectors), _BLOCK_ROWS):
        rows = slice(start, start + _BLOCK_ROWS)
        with np.errstate(over="ignore", invalid="ignore"):
            images = (vectors[rows] - kernel.centre) @ kernel.weights
        yield rows, images


def _require_fit(images: Matrix, rows: slice) -> None:
    if np.isfinite(images).all():
        return
    row = rows.start + int(np.flatnonzero(~np.isfinite(images).all(axis=1))[0])
    raise InvalidInput(
        f"Vector {row} is so long that its image does not fit {images.dtype}. Scale it down."
    )
