"""Keep whitening transforms, and put them on vectors of the encoder that they were fitted on."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from service.embedding.embedder import Embedded, Embedder, EmbeddingOptions, Inputs
from service.embedding.transform import (
    AXES,
    STATISTICS,
    Origin,
    Recipe,
    Transform,
    draft_transform,
    read_axes,
    read_moments,
    read_transform,
    require_origin,
    require_pooling,
    require_width,
)
from service.errors import ArtefactMismatch, DimensionMismatch, Fault, InvalidInput
from service.numerics.dtypes import Matrix32
from service.numerics.moments import Moments
from service.numerics.whitening import Axes, Kernel, make_kernel, narrow_kernel, project, whiten
from service.runtime.engine import Engine
from service.stores.claims import Idempotency
from service.stores.objects import Objects
from service.stores.versions import Versions

COLLECTION = "whitening"
_KERNEL_BYTES = 64 * 2**20
# Below this many products the arithmetic costs less than a change of thread.
_INLINE_PRODUCTS = 500_000


class Transforms:
    """Make, find and apply transforms.

    Args:
        objects: where they are kept.
        engine: compute threads, and the digests of the loaded encoders.
        embedder: texts to vectors.
    """

    def __init__(self, objects: Objects, engine: Engine, embedder: Embedder) -> None:
        self._versions = Versions(objects, COLLECTION)
        self._engine = engine
        self._embedder = embedder
        self._kernels: OrderedDict[tuple[str, int], Kernel] = OrderedDict()

    async def create(
        self,
        name: str,
        moments: Moments,
        recipe: Recipe,
        *,
        origin: Origin | None,
        idempotency: Idempotency | None = None,
    ) -> Transform:
        """Return a new version of `name`, stored.

        Raises:
            InvalidInput: the name cannot be one, or there is nothing to whiten.
            DimensionMismatch: more dimensions than the samples can give.
            Conflict: the idempotency key belongs to another request.
            StorageUnavailable: it could not be stored.
        """
        metadata, blobs = await self._engine.compute(draft_transform, moments, recipe, origin)
        version = await self._versions.create(
            name, metadata=metadata, blobs=blobs, idempotency=idempotency
        )
        return read_transform(version)

    async def find(self, transform_id: str) -> Transform:
        """Return the transform `name@3`, or the latest of `name`.

        Raises:
            UnknownArtefact: there is none, or it was deleted.
            ArtefactDamaged: it is not what was stored.
            StorageUnavailable: the storage cannot be read.
        """
        return read_transform(await self._versions.find(transform_id))

    async def list(self, name: str | None = None) -> list[Transform]:
        """Return the latest version of every name, or every version of one, oldest first."""
        if name is None:
            return [read_transform(version) for version in await self._versions.list()]
        return [read_transform(version) for version in await self._versions.history(name)]

    async def delete(self, transform_id: str) -> Transform:
        """Delete a version and return it; its number is never given again."""
        return read_transform(await self._versions.delete(transform_id))

    async def moments(self, transform: Transform) -> Moments:
        """Return the statistics that a transform was made from."""
        return read_moments(transform, await self._versions.load(transform.version, STATISTICS))

    async def axes(self, transform: Transform) -> Axes:
        """Return the decomposition that a transform is made of."""
        return read_axes(transform, await self._versions.load(transform.version, AXES))

    async def kernel(self, transform: Transform, *, dimensions: int | None = None) -> Kernel:
        """Return the map of a transform, or of its first dimensions, ready to use.

        Raises:
            DimensionMismatch: more dimensions than the transform keeps.
        """
        kept = transform.recipe.dimensions if dimensions is None else dimensions
        if kept > transform.recipe.dimensions:
            raise DimensionMismatch(
                f"{kept} dimensions were asked for and the transform {transform.id} keeps "
                f"{transform.recipe.dimensions}.",
                faults=(Fault("/dimensions", "more than the transform keeps"),),
            )
        key = (transform.version.sha256, kept)
        found = self._kernels.get(key)
        if found is None:
            axes = await self.axes(transform)
            found = await self._engine.compute(_narrow, axes, transform.recipe.gamma, kept)
            self._keep(key, found)
        self._kernels.move_to_end(key)
        return found

    def _keep(self, key: tuple[str, int], kernel: Kernel) -> None:
        self._kernels[key] = kernel
        size = sum(each.weights.nbytes for each in self._kernels.values())
        while size > _KERNEL_BYTES and len(self._kernels) > 1:
            size -= self._kernels.popitem(last=False)[1].weights.nbytes

    async def apply(
        self,
        vectors: Matrix32,
        transform: Transform,
        *,
        dimensions: int | None = None,
        normalize: bool = True,
    ) -> Matrix32:
        """Return y = (x − βμ) W for each row x, (n, k) float32, at length 1 where wanted.

        Args:
            vectors: (n, d) float32, as the encoder's pooling gave them: not normalised.
            transform: fitted on such vectors.
            dimensions: keep only the first so many.
            normalize: whether rows are brought to length 1.

        Raises:
            DimensionMismatch: the vectors, or the dimensions wanted, do not fit the transform.
            InvalidInput: a row has no direction after the transform.
        """
        require_width(vectors, transform)
        kernel = await self.kernel(transform, dimensions=dimensions)
        work: Callable[[Matrix32, Kernel], Matrix32] = whiten if normalize else _project_narrow
        if len(vectors) * kernel.weights.size <= _INLINE_PRODUCTS:
            return work(vectors, kernel)
        return await self._engine.compute(work, vectors, kernel)

    async def embed(
        self,
        inputs: Inputs,
        transform: Transform,
        *,
        model: str | None,
        options: EmbeddingOptions,
        dimensions: int | None,
        deadline: float,
    ) -> Embedded:
        """Return the transformed embedding of each input.

        Args:
            inputs: texts, or sequences of token ids.
            transform: bound to an encoder, whose raw pooling it takes.
            model: encoder id; None means the transform's own.
            options: a pooling must be the transform's; `normalize` is that of the result.
            dimensions: keep only the first so many.
            deadline: monotonic seconds until which the caller waits.

        Raises:
            ArtefactMismatch: the transform belongs to no encoder, to another one, or to another
                pooling.
        """
        origin = require_origin(transform)
        await self.require_encoder(transform, model or origin.model, deadline=deadline)
        require_pooling(transform, options.pooling)
        raw = replace(options, pooling=origin.pooling, normalize=False)
        embedded = await self._embedder.embed(
            inputs, model=model or origin.model, options=raw, deadline=deadline
        )
        vectors = await self.apply(
            embedded.vectors, transform, dimensions=dimensions, normalize=options.normalize
        )
        return replace(embedded, vectors=vectors)

    async def require_encoder(
        self, transform: Transform, model: str | None, *, deadline: float
    ) -> None:
        """Check that vectors of an encoder may go through a transform.

        Raises:
            UnknownModel: no such encoder.
            ArtefactMismatch: the transform was fitted on another encoder, or another build of it,
                or is bound to none.
        """
        if model is None:
            return
        encoder = await self._engine.encoder(model, deadline=deadline)
        origin = require_origin(transform)
        if encoder.sha256 != origin.sha256:
            raise ArtefactMismatch(
                f"The transform {transform.id} was fitted on {origin.model} "
                f"({origin.sha256[:12]}…), and {encoder.manifest.id} is {encoder.sha256[:12]}…. "
                "Vectors of different encoders have nothing to do with each other: fit a "
                "transform on this one."
            )


def _narrow(axes: Axes, gamma: float, dimensions: int) -> Kernel:
    return narrow_kernel(make_kernel(axes, gamma=gamma, dimensions=dimensions))


def _project_narrow(vectors: Matrix32, kernel: Kernel) -> Matrix32:
    found = project(vectors, kernel)
    with np.errstate(over="ignore"):
        narrow: Matrix32 = found.astype(np.float32, copy=False)
    if not np.isfinite(narrow).all():
        raise InvalidInput("The result does not fit float32. Ask for length 1, or scale down.")
    return narrow
