"""Describe a whitening transform, and write and read what a version of it holds.

```
version ┬ metadata: β, γ, k, shrinkage, encoder, pooling, figures, eigenvalues
        ├ statistics.safetensors: mean, scatter, third, fourth ─ update, tune
        └ axes.safetensors: centre, eigenvalues, directions ──── kernel ─ whiten
```

The axes are kept beside the sums that they follow from: where eigenvalues are nearly equal, two
machines find different axes, and vectors of one replica could not be compared with another's.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from service.errors import ArtefactDamaged, ArtefactMismatch, DimensionMismatch, Fault
from service.numerics.dtypes import Matrix32
from service.numerics.moments import Moments
from service.numerics.whitening import (
    Axes,
    Shrinkage,
    Spectrum,
    find_axes,
    require_dimensions,
    require_spread,
    shrinkage_intensity,
    sum_up,
)
from service.stores.records import Version
from service.stores.tensors import pack, unpack

STATISTICS = "statistics.safetensors"
AXES = "axes.safetensors"


@dataclass(frozen=True, slots=True)
class Recipe:
    """Hold what is chosen when a transform is made.

    Attributes:
        beta: share of the mean that is subtracted, 0 to 1.
        gamma: share of the stretching that is undone, 0 to 1.
        dimensions: k, the axes that are kept.
        shrinkage: of the covariance.
    """

    beta: float
    gamma: float
    dimensions: int
    shrinkage: Shrinkage


@dataclass(frozen=True, slots=True)
class Origin:
    """Name the encoder that the fitting vectors came from.

    Attributes:
        model: its id.
        sha256: its digest.
        pooling: which of its poolings.
    """

    model: str
    sha256: str
    pooling: str


@dataclass(frozen=True, slots=True)
class Transform:
    """Describe one version of a transform.

    Attributes:
        version: what the store knows of it.
        recipe: what was chosen.
        origin: the encoder, None where vectors of unknown origin were given.
        width: d, the dimensions that it takes.
        samples: n.
        floored: eigenvalues that were raised to the floor.
        intensity: how far the covariance was shrunk, 0 to 1.
        spectrum: figures of the eigenvalues.
        eigenvalues: of all d axes, falling.
    """

    version: Version
    recipe: Recipe
    origin: Origin | None
    width: int
    samples: int
    floored: int
    intensity: float
    spectrum: Spectrum
    eigenvalues: tuple[float, ...]

    @property
    def id(self) -> str:
        """Return `name@version`."""
        return self.version.id


def require_origin(transform: Transform) -> Origin:
    """Return the encoder of a transform.

    Raises:
        ArtefactMismatch: it was fitted on vectors of unknown origin.
    """
    if transform.origin is None:
        raise ArtefactMismatch(
            f"The transform {transform.id} was fitted on vectors and is bound to no encoder, so "
            "it takes vectors only, and no model. Fit it with `model` to say which encoder they "
            "came from."
        )
    return transform.origin


def require_width(vectors: Matrix32, transform: Transform) -> None:
    """Check that vectors have the dimensions that a transform takes.

    Raises:
        DimensionMismatch: they do not.
    """
    if vectors.shape[1] != transform.width:
        raise DimensionMismatch(
            f"The vectors have {vectors.shape[1]} dimensions and the transform {transform.id} "
            f"takes {transform.width}.",
            faults=(Fault("/vectors", "are not of the transform's dimensions"),),
        )


def require_pooling(transform: Transform, pooling: str | None) -> None:
    """Check that a pooling is the transform's.

    Raises:
        ArtefactMismatch: it is another one.
    """
    origin = transform.origin
    if origin is not None and pooling not in {None, origin.pooling}:
        raise ArtefactMismatch(
            f"The transform {transform.id} was fitted on the pooling {origin.pooling!r}, and "
            f"{pooling!r} was asked for."
        )


def draft_transform(
    moments: Moments, recipe: Recipe, origin: Origin | None
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return metadata and blobs of a new version."""
    require_spread(moments)
    require_dimensions(
        recipe.dimensions,
        width=moments.dimensions,
        samples=moments.samples,
        intensity=shrinkage_intensity(moments, recipe.shrinkage),
    )
    axes = find_axes(moments, beta=recipe.beta, shrinkage=recipe.shrinkage)
    metadata = {
        "recipe": asdict(recipe),
        "origin": None if origin is None else asdict(origin),
        "width": moments.dimensions,
        "samples": moments.samples,
        "floored": axes.floored,
        "intensity": axes.intensity,
        "spectrum": asdict(sum_up(axes, dimensions=recipe.dimensions)),
        "eigenvalues": axes.eigenvalues.tolist(),
    }
    statistics = {
        "mean": moments.mean,
        "scatter": moments.scatter,
        "third": moments.third,
        "fourth": np.array([moments.fourth]),
    }
    decomposition = {
        "centre": axes.centre,
        "eigenvalues": axes.eigenvalues,
        "directions": axes.directions,
    }
    return metadata, {STATISTICS: pack(statistics), AXES: pack(decomposition)}


def read_transform(version: Version) -> Transform:
    """Return what a version says about its transform."""
    said = version.metadata
    try:
        recipe, origin = said["recipe"], said["origin"]
        return Transform(
            version=version,
            recipe=Recipe(**{**recipe, "shrinkage": Shrinkage(recipe["shrinkage"])}),
            origin=None if origin is None else Origin(**origin),
            width=said["width"],
            samples=said["samples"],
            floored=said["floored"],
            intensity=said["intensity"],
            spectrum=Spectrum(**said["spectrum"]),
            eigenvalues=tuple(said["eigenvalues"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ArtefactDamaged(
            f"{version.id} is no transform of this release: {error!r}. Fit it again."
        ) from error


def read_moments(transform: Transform, blob: bytes) -> Moments:
    """Return the statistics that a transform was made from, out of their blob."""
    arrays = unpack(blob)
    return Moments(
        transform.samples,
        arrays["mean"],
        arrays["scatter"],
        arrays["third"],
        float(arrays["fourth"][0]),
    )


def read_axes(transform: Transform, blob: bytes) -> Axes:
    """Return the decomposition that a transform is made of, out of its blob."""
    arrays = unpack(blob)
    return Axes(
        arrays["centre"],
        arrays["eigenvalues"],
        arrays["directions"],
        transform.floored,
        transform.intensity,
    )
