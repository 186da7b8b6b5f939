"""Describe how vectors lie in their space, as they are and after each reduction of hubs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from service.capabilities.whitening.gathering import Gatherer, Given
from service.capabilities.whitening.settings import WhiteningSettings
from service.embedding.transform import Origin, Transform, require_pooling, require_width
from service.embedding.transforms import Transforms
from service.errors import DimensionMismatch, Fault, InvalidInput
from service.numerics.dtypes import Ids64, Matrix32, Progress, Vector64
from service.numerics.hubness import (
    USUAL_NEIGHBOURS,
    Hubness,
    Metric,
    centre_cosines,
    find_hubs,
    occurrences,
    sum_up_hubness,
)
from service.numerics.isotropy import effective_rank, isoscore, mean_cosine
from service.numerics.moments import measure_moments
from service.numerics.seeds import generator
from service.numerics.vectors import wide_unit_rows
from service.numerics.whitening import (
    Kernel,
    Shrinkage,
    find_axes,
    make_kernel,
    require_spread,
    whiten,
)
from service.runtime.engine import Engine

RAW, CENTERING, WHITENING = "raw", "centering", "whitening"
_MOST_HUBS = 20
_FEWEST = 3


@dataclass(frozen=True, slots=True)
class Isotropy:
    """Say how evenly vectors use their dimensions."""

    isoscore: float
    effective_rank: float
    mean_cosine: float


@dataclass(frozen=True, slots=True)
class Occurrences:
    """Hold N_k of one space or similarity.

    Attributes:
        counts: N_k, (n,) int64.
        hubness: its figures.
        hubs: indices of the vectors with N_k ≥ 2k, in the order of the request.
        hub_counts: their N_k.
    """

    counts: Ids64
    hubness: Hubness
    hubs: Ids64
    hub_counts: Ids64


@dataclass(frozen=True, slots=True)
class _Found:
    """Hold what the comparison gives; the names are those of `Geometry`."""

    isotropy: Isotropy
    whitened: Isotropy | None
    occurrences: Mapping[str, Occurrences]
    left_out: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Geometry:
    """Hold all that is said about some vectors.

    Attributes:
        isotropy: of the vectors as they are.
        whitened: after whitening, None where it was not asked for or is left out.
        occurrences: by name, `raw` first.
        left_out: reductions that these vectors do not have, and why.
        samples: n.
        dimensions: d.
        k: neighbours in a list.
        drawn: vectors whose neighbours were compared.
        origin: the encoder, None where vectors of unknown origin were given.
    """

    isotropy: Isotropy
    whitened: Isotropy | None
    occurrences: Mapping[str, Occurrences]
    left_out: Mapping[str, str]
    samples: int
    dimensions: int
    k: int
    drawn: int
    origin: Origin | None


class Surveyor:
    """Measure the geometry of what requests give.

    Args:
        transforms: the store of transforms.
        gatherer: texts to vectors.
        engine: compute threads.
        settings: limits.
    """

    def __init__(
        self,
        transforms: Transforms,
        gatherer: Gatherer,
        engine: Engine,
        settings: WhiteningSettings,
    ) -> None:
        self._transforms = transforms
        self._gatherer = gatherer
        self._engine = engine
        self._settings = settings

    async def describe(
        self,
        given: Given,
        *,
        transform_id: str | None,
        k: int | None,
        reductions: Sequence[str],
        seed: int,
        deadline: float,
        progress: Progress,
    ) -> Geometry:
        """Return isotropy and hubness of the raw vectors, and after each reduction.

        Args:
            given: texts or vectors, at least 3.
            transform_id: whitens; None fits a hard whitening on the vectors themselves.
            k: neighbours in a list; None for 10, or all others where fewer.
            reductions: names of what is set beside.
            seed: of the draw, where there are more vectors than are compared.
            deadline: monotonic seconds.
            progress: told the texts embedded and the rows compared.

        Raises:
            DimensionMismatch: fewer than 3 vectors, or k not below their number.
            InvalidInput: a vector is all zeros, or all are the same.
            UnknownArtefact: no such transform.
            ArtefactMismatch: the transform belongs to another encoder.
        """
        transform = None if transform_id is None else await self._transforms.find(transform_id)
        if transform is not None:
            given = _as_fitted(given, transform)
        origin = await self._gatherer.origin(given, deadline=deadline)
        vectors = await self._gatherer.vectors(given, origin, deadline=deadline, progress=progress)
        drawn = _draw(len(vectors), most=self._settings.max_hubness_samples, seed=seed)
        neighbours = _neighbours(k, len(drawn))
        if transform is not None:
            require_width(vectors, transform)
            model = None if origin is None else origin.model
            await self._transforms.require_encoder(transform, model, deadline=deadline)
        kernel = None
        if transform is not None and WHITENING in reductions:
            kernel = await self._transforms.kernel(transform)
        work = partial(
            _compare, drawn=drawn, k=neighbours, reductions=reductions, progress=progress
        )
        found = await self._engine.compute(work, vectors, kernel)
        return Geometry(
            isotropy=found.isotropy,
            whitened=found.whitened,
            occurrences=found.occurrences,
            left_out=found.left_out,
            samples=len(vectors),
            dimensions=vectors.shape[1],
            k=neighbours,
            drawn=len(drawn),
            origin=origin,
        )


def _as_fitted(given: Given, transform: Transform) -> Given:
    """Return texts to be embedded as the transform's own were; vectors as they are."""
    require_pooling(transform, given.pooling)
    origin = transform.origin
    if origin is None or given.vectors is not None:
        return given
    return replace(given, model=given.model or origin.model, pooling=origin.pooling)


def _draw(count: int, *, most: int, seed: int) -> Ids64:
    """Return the indices of all vectors, or of as many as may be compared, in rising order."""
    if count <= most:
        return np.arange(count)
    drawn = generator(seed, "whitening", "hubness").choice(count, size=most, replace=False)
    return np.sort(drawn)


def _neighbours(k: int | None, count: int) -> int:
    if count < _FEWEST:
        raise DimensionMismatch(
            f"{count} vectors have no geometry to speak of; give at least {_FEWEST}."
        )
    if k is not None and k >= count:
        raise DimensionMismatch(
            f"{k} neighbours were asked for and each of {count} vectors has {count - 1} others.",
            faults=(Fault("/k", f"must be below {count}"),),
        )
    return k or min(USUAL_NEIGHBOURS, count - 1)


def _own_kernel(vectors: Matrix32) -> Kernel:
    axes = find_axes(measure_moments(vectors), beta=1, shrinkage=Shrinkage.LEDOIT_WOLF)
    return make_kernel(axes, gamma=1, dimensions=vectors.shape[1])


def _compare(
    vectors: Matrix32,
    kernel: Kernel | None,
    *,
    drawn: Ids64,
    k: int,
    reductions: Sequence[str],
    progress: Progress,
) -> _Found:
    """Return all figures; a reduction that leaves a vector without direction is left out."""
    isotropy, whitened = _isotropy(vectors), None
    metrics = [metric for metric in Metric if metric.value in reductions]
    spaces = [name for name in (CENTERING, WHITENING) if name in reductions]
    count = len(drawn)
    first = count * (1 + bool(metrics))
    total = first + count * len(spaces)
    units = wide_unit_rows(vectors[drawn])
    counts = occurrences(units, k=k, metrics=metrics, progress=_within(progress, 0, total))
    near = centre_cosines(units)
    found = {RAW: _sum_up(counts[Metric.COSINE], near, drawn, k)}
    left_out: dict[str, str] = {}
    for place, name in enumerate(spaces):
        try:
            if name == CENTERING:
                moved = wide_unit_rows(units - units.mean(axis=0))
            else:
                images = whiten(vectors, kernel or _own_kernel(vectors))
                whitened = _isotropy_left(images)
                moved = wide_unit_rows(images[drawn])
        except InvalidInput as error:
            left_out[name] = error.detail
            continue
        told = _within(progress, first + place * count, total)
        only = occurrences(moved, k=k, metrics=[], progress=told)[Metric.COSINE]
        found[name] = _sum_up(only, centre_cosines(moved), drawn, k)
    found |= {metric.value: _sum_up(counts[metric], near, drawn, k) for metric in metrics}
    return _Found(isotropy, whitened, found, left_out)


def _within(progress: Progress, start: int, total: int) -> Progress:
    """Return what tells the progress of a part as that of the whole."""
    return lambda stage, done, _: progress(stage, start + done, total)


def _isotropy(vectors: Matrix32) -> Isotropy:
    moments = measure_moments(vectors)
    require_spread(moments)
    variances = np.maximum(np.linalg.eigvalsh(moments.covariance), 0)
    return Isotropy(isoscore(variances), effective_rank(variances), mean_cosine(vectors))


def _isotropy_left(whitened: Matrix32) -> Isotropy | None:
    """Return the same of whitened vectors, None where they have but one direction left."""
    try:
        return _isotropy(whitened)
    except InvalidInput:
        return None


def _sum_up(counts: Ids64, near: Vector64, drawn: Ids64, k: int) -> Occurrences:
    hubness = sum_up_hubness(counts, k=k, centre_cosines=near)
    hubs = find_hubs(counts, most=_MOST_HUBS, k=k)
    return Occurrences(counts, hubness, drawn[hubs], counts[hubs])
