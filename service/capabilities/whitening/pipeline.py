"""Fit, update, apply, tune and export transforms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import numpy as np

from service.capabilities.whitening.gathering import (
    Gatherer,
    Given,
    RowPairs,
    TextPairs,
    label_rows,
)
from service.capabilities.whitening.geometry import Surveyor
from service.capabilities.whitening.numerics import Cell, Labelled, Tuned, tune
from service.capabilities.whitening.settings import WhiteningSettings
from service.embedding.embedder import Embedded, EmbeddingOptions
from service.embedding.transform import Recipe, Transform, require_origin, require_width
from service.embedding.transforms import Transforms
from service.errors import Fault, InvalidInput, TooManyItems
from service.numerics.dtypes import Matrix32, Progress
from service.numerics.moments import Moments, merge_moments
from service.numerics.whitening import Axes, Shrinkage, find_axes, require_dimensions
from service.runtime.engine import Engine
from service.runtime.grafting import graft
from service.stores.claims import Idempotency

_USUAL_DIMENSIONS = (256, 128, 64)
_FEWEST_FOLDS = 2


@dataclass(frozen=True, slots=True)
class Applied:
    """Hold transformed vectors.

    Attributes:
        vectors: (n, k) float32.
        transform: what they went through.
        embedded: of the texts, None where vectors were given.
    """

    vectors: Matrix32
    transform: Transform
    embedded: Embedded | None


@dataclass(frozen=True, slots=True)
class GridWanted:
    """Hold the sides of a grid; None for the usual dimensions."""

    betas: Sequence[float]
    gammas: Sequence[float]
    dimensions: Sequence[int] | None


class WhiteningPipeline:
    """Answer this room's requests about transforms.

    Args:
        transforms: the store of them.
        gatherer: texts and vectors to statistics.
        surveyor: describes the geometry of vectors.
        engine: models and compute threads.
        settings: limits.
    """

    def __init__(
        self,
        transforms: Transforms,
        gatherer: Gatherer,
        surveyor: Surveyor,
        engine: Engine,
        settings: WhiteningSettings,
    ) -> None:
        self.transforms = transforms
        self._gatherer = gatherer
        self.surveyor = surveyor
        self._engine = engine
        self._settings = settings

    async def fit(
        self,
        name: str,
        given: Given,
        *,
        beta: float,
        gamma: float,
        dimensions: int | None,
        shrinkage: Shrinkage,
        idempotency: Idempotency | None,
        deadline: float,
        progress: Progress,
    ) -> Transform:
        """Return a new version of a transform, fitted and stored.

        Raises:
            InvalidInput: too few vectors, all the same, or one all zeros.
            DimensionMismatch: more dimensions than there are, or than the samples span.
            PayloadTooLarge: more than one call carries.
            StorageUnavailable: it could not be stored.
        """
        origin = await self._gatherer.origin(given, deadline=deadline)
        moments = await self._gatherer.moments(given, origin, deadline=deadline, progress=progress)
        recipe = Recipe(beta, gamma, dimensions or moments.dimensions, shrinkage)
        progress("fit", 0, 1)  # the last word: once stored, nothing may end in an error
        return await self.transforms.create(
            name, moments, recipe, origin=origin, idempotency=idempotency
        )

    async def update(
        self,
        transform_id: str,
        given: Given,
        *,
        idempotency: Idempotency | None,
        deadline: float,
        progress: Progress,
    ) -> Transform:
        """Return a new version from the merged statistics, with the settings of the old one.

        Raises:
            UnknownArtefact: no such transform.
            ArtefactMismatch: texts for a transform without encoder, or of another encoder.
            DimensionMismatch: the vectors have another dimension.
        """
        transform = await self.transforms.find(transform_id)
        model = given.model
        if given.vectors is None:
            own = require_origin(transform).model
            model = model or own
        else:
            require_width(given.vectors, transform)
        await self.transforms.require_encoder(transform, model, deadline=deadline)
        old = await self.transforms.moments(transform)
        more = await self._gatherer.moments(
            given, transform.origin, deadline=deadline, progress=progress
        )
        merged = await self._engine.compute(merge_moments, old, more)
        progress("fit", 0, 1)
        return await self.transforms.create(
            transform.version.name,
            merged,
            transform.recipe,
            origin=transform.origin,
            idempotency=idempotency,
        )

    async def apply(
        self,
        transform_id: str,
        given: Given,
        *,
        dimensions: int | None,
        normalize: bool,
        deadline: float,
    ) -> Applied:
        """Return transformed vectors, (n, k) float32.

        Raises:
            UnknownArtefact: no such transform.
            ArtefactMismatch: texts for a transform without encoder, or another encoder.
            DimensionMismatch: vectors or wanted dimensions do not fit.
            TooManyItems: more than one call carries.
        """
        transform = await self.transforms.find(transform_id)
        self._gatherer.require_small(given)
        if given.vectors is not None:
            await self.transforms.require_encoder(transform, given.model, deadline=deadline)
            vectors = await self.transforms.apply(
                given.vectors, transform, dimensions=dimensions, normalize=normalize
            )
            return Applied(vectors, transform, None)
        limit = self._settings.max_apply_texts
        if len(given.texts) > limit:
            raise TooManyItems(
                f"{len(given.texts)} texts came and one call carries {limit}. Send them in several "
                "calls.",
                faults=(Fault("/texts", f"holds {len(given.texts)} texts"),),
            )
        embedded = await self.transforms.embed(
            given.texts,
            transform,
            model=given.model,
            options=EmbeddingOptions(None, normalize, given.truncate),
            dimensions=dimensions,
            deadline=deadline,
        )
        return Applied(embedded.vectors, transform, embedded)

    async def tune(
        self,
        transform_id: str,
        pairs: TextPairs | RowPairs,
        grid: GridWanted,
        *,
        folds: int,
        seed: int,
        idempotency: Idempotency | None,
        deadline: float,
        progress: Progress,
    ) -> tuple[Tuned, Transform]:
        """Return what the grid gave, and the transform to use: a new version where it gains.

        Raises:
            UnknownArtefact: no such transform.
            ArtefactMismatch: texts for a transform without encoder.
            InvalidInput: too few pairs for the folds, constant scores, or a row that is not there.
            DimensionMismatch: the grid has more dimensions than there are.
            TooManyItems: too many pairs, or too many settings.
        """
        transform = await self.transforms.find(transform_id)
        self._require_tunable(len(pairs.scores), folds)
        cells = self._cells(grid, transform)
        moments = await self.transforms.moments(transform)
        labelled = await self._label(pairs, transform, deadline=deadline, progress=progress)
        axes = partial(_axes_about, moments, transform.recipe.shrinkage)
        run = partial(tune, axes=axes, folds=folds, seed=seed, progress=progress)
        tuned = await self._engine.compute(run, labelled, cells)
        if not tuned.gains:
            return tuned, transform
        best = tuned.cells[tuned.best]
        recipe = replace(
            transform.recipe, beta=best.beta, gamma=best.gamma, dimensions=best.dimensions
        )
        better = await self.transforms.create(
            transform.version.name,
            moments,
            recipe,
            origin=transform.origin,
            idempotency=idempotency,
        )
        return tuned, better

    async def export(
        self, transform_id: str, *, deadline: float
    ) -> tuple[Transform, list[memoryview]]:
        """Return the encoder's graph with pooling, transform and normalisation, in pieces.

        Raises:
            UnknownArtefact: no such transform.
            ArtefactMismatch: it is bound to no encoder, or the encoder here is another build.
        """
        transform = await self.transforms.find(transform_id)
        origin = require_origin(transform)
        await self.transforms.require_encoder(transform, origin.model, deadline=deadline)
        kernel = await self.transforms.kernel(transform)
        if kernel.weights.dtype != np.float32:
            raise InvalidInput(
                f"The numbers of {transform.id} do not fit float32, in which the graph computes. "
                "Fit it on vectors of another scale."
            )
        manifest = (await self._engine.encoder(origin.model, deadline=deadline)).manifest
        properties = {
            "isotrope.transform": transform.id,
            "isotrope.transform_sha256": transform.version.sha256,
            "isotrope.model": origin.model,
            "isotrope.model_sha256": origin.sha256,
            "isotrope.pooling": origin.pooling,
            "isotrope.prefix": manifest.prefix,
            "isotrope.max_tokens": str(manifest.max_tokens),
        }
        path = self._engine.library.folder / origin.model / "model.onnx"
        work = partial(graft, output=f"{origin.pooling}_raw", kernel=kernel, properties=properties)
        return transform, await self._engine.compute(work, path)

    def _require_tunable(self, count: int, folds: int) -> None:
        if count > self._settings.max_pairs:
            raise TooManyItems(
                f"{count} pairs came and one call carries {self._settings.max_pairs}.",
                faults=(Fault("/pairs", f"holds {count} pairs"),),
            )
        if folds < _FEWEST_FOLDS:
            raise InvalidInput(
                f"{folds} fold leaves no pairs to choose on; take at least {_FEWEST_FOLDS}.",
                faults=(Fault("/folds", f"{folds} is too few"),),
            )
        if folds > count // 2:
            raise InvalidInput(
                f"{count} pairs are too few for {folds} folds of at least 2. Give more pairs, or "
                "fewer folds.",
                faults=(Fault("/folds", f"{folds} is more than half of the pairs"),),
            )

    def _cells(self, grid: GridWanted, transform: Transform) -> list[Cell]:
        """Return every setting of the grid, each once."""
        width = transform.width
        usual = {width, transform.recipe.dimensions, *(k for k in _USUAL_DIMENSIONS if k < width)}
        if not transform.intensity:
            usual = {k for k in usual if k < transform.samples}
        dimensions = sorted(set(grid.dimensions or usual), reverse=True)
        betas, gammas = dict.fromkeys(grid.betas), dict.fromkeys(grid.gammas)
        count = len(betas) * len(gammas) * len(dimensions)
        if count > self._settings.max_cells:
            raise TooManyItems(
                f"The grid has {count} settings and {self._settings.max_cells} are the most.",
                faults=(Fault("/grid", f"has {count} settings"),),
            )
        require_dimensions(
            dimensions[0],
            width=transform.width,
            samples=transform.samples,
            intensity=transform.intensity,
            pointer="/grid/dimensions",
        )
        return [Cell(*sides) for sides in product(betas, gammas, dimensions)]

    async def _label(
        self,
        pairs: TextPairs | RowPairs,
        transform: Transform,
        *,
        deadline: float,
        progress: Progress,
    ) -> Labelled:
        if isinstance(pairs, RowPairs):
            require_width(pairs.vectors, transform)
            return await self._engine.compute(label_rows, pairs)
        origin = require_origin(transform)
        await self.transforms.require_encoder(transform, origin.model, deadline=deadline)
        return await self._gatherer.label_texts(pairs, origin, deadline=deadline, progress=progress)


def _axes_about(moments: Moments, shrinkage: Shrinkage, beta: float) -> Axes:
    return find_axes(moments, beta=beta, shrinkage=shrinkage)
