"""Embed, shorten, whiten and compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from service.capabilities.embeddings.settings import EmbeddingsSettings
from service.embedding.calibrations import Calibrations, ScoreOrigin, require_same_scores
from service.embedding.embedder import Embedded, Embedder, EmbeddingOptions, Inputs
from service.embedding.origins import find_origin
from service.embedding.transform import Origin, require_pooling
from service.embedding.transforms import Transforms
from service.errors import Fault, TooManyItems
from service.numerics.dtypes import Matrix32
from service.numerics.hubness import Metric, pair_similarities, similarity_matrix
from service.numerics.vectors import cosine_matrix, first_dimensions, pair_cosines
from service.runtime.engine import Engine

# Below this many products the arithmetic costs less than a change of thread.
_INLINE_PRODUCTS = 100_000


@dataclass(frozen=True, slots=True)
class Comparison:
    """Say how vectors are compared.

    Attributes:
        metric: which similarity.
        k: neighbours that some metrics look at, None for the usual number.
        transform: id of a whitening that vectors go through first, or None.
    """

    metric: Metric = Metric.COSINE
    k: int | None = None
    transform: str | None = None


BY_COSINE = Comparison()


@dataclass(frozen=True, slots=True)
class Made:
    """Hold embeddings and what made them.

    Attributes:
        embedded: the vectors.
        transform: id of the whitening that they went through, or None.
    """

    embedded: Embedded
    transform: str | None


@dataclass(frozen=True, slots=True)
class Compared:
    """Hold similarity scores.

    Attributes:
        scores: (pairs,) or (n, n) float32.
        embedded: the texts' embeddings, None where vectors were given.
        transform: id of the whitening that they went through, or None.
        origin: encoder that given vectors came from, None where nobody says so.
    """

    scores: Matrix32
    embedded: Embedded | None
    transform: str | None
    origin: Origin | None = None


@dataclass(frozen=True, slots=True)
class Calibrated:
    """Hold percentiles: (pairs,) or (n, n) float32, 0 to 100, and the id of the calibration."""

    percentiles: Matrix32
    calibration: str


class EmbeddingsPipeline:
    """Answer this room's requests.

    Args:
        embedder: texts to vectors.
        transforms: whitenings that vectors may go through.
        engine: compute threads for the larger products.
        settings: limits.
        calibrations: laws of scores, for percentiles.
    """

    def __init__(
        self,
        embedder: Embedder,
        transforms: Transforms,
        engine: Engine,
        settings: EmbeddingsSettings,
        *,
        calibrations: Calibrations,
    ) -> None:
        self._calibrations = calibrations
        self._embedder = embedder
        self._transforms = transforms
        self._engine = engine
        self._settings = settings

    async def embed(
        self,
        inputs: Inputs,
        *,
        model: str | None,
        options: EmbeddingOptions,
        dimensions: int | None,
        transform: str | None = None,
        deadline: float,
    ) -> Made:
        """Return one vector an input, cut to its first `dimensions` numbers.

        Raises:
            TooManyItems: more inputs than one call may carry.
            DimensionMismatch: more dimensions than the model, or the transform, has.
            UnknownArtefact: no such transform.
            ArtefactMismatch: the transform belongs to another encoder or pooling.
        """
        _require_at_most(len(inputs), self._settings.max_inputs, "/input")
        made = await self._made(
            inputs,
            model=model,
            options=options,
            dimensions=dimensions,
            transform=transform,
            deadline=deadline,
        )
        if dimensions is None or transform is not None:
            return made
        vectors = first_dimensions(made.embedded.vectors, k=dimensions, normalize=options.normalize)
        return replace(made, embedded=replace(made.embedded, vectors=vectors))

    async def compare_pairs(
        self,
        pairs: Sequence[Sequence[str]],
        *,
        model: str | None,
        options: EmbeddingOptions,
        how: Comparison = BY_COSINE,
        deadline: float,
    ) -> Compared:
        """Return the similarity of each pair of texts; a text that recurs is embedded once."""
        _require_at_most(len(pairs), self._settings.max_inputs, "/pairs")
        rows: dict[str, int] = {}
        places = np.array([[rows.setdefault(text, len(rows)) for text in pair] for pair in pairs])
        made = await self._made(
            list(rows), model=model, options=options, transform=how.transform, deadline=deadline
        )
        vectors, first, second = made.embedded.vectors, places[:, 0], places[:, 1]
        if how.metric is Metric.COSINE:
            scores = pair_cosines(vectors[first], vectors[second])
        else:
            work = partial(pair_similarities, metric=how.metric, k=how.k)
            scores = await self._engine.compute(work, vectors, first, second)
        return Compared(scores, made.embedded, made.transform)

    async def compare_texts(
        self,
        texts: Sequence[str],
        *,
        model: str | None,
        options: EmbeddingOptions,
        how: Comparison = BY_COSINE,
        deadline: float,
    ) -> Compared:
        """Return the similarity of every text with every text."""
        _require_at_most(len(texts), self._settings.max_matrix_rows, "/texts")
        made = await self._made(
            texts, model=model, options=options, transform=how.transform, deadline=deadline
        )
        scores = await self._matrix(made.embedded.vectors, how)
        return Compared(scores, made.embedded, made.transform)

    async def compare_vectors(
        self,
        vectors: Matrix32,
        *,
        model: str | None,
        pooling: str | None,
        how: Comparison = BY_COSINE,
        deadline: float,
    ) -> Compared:
        """Return the similarity of every vector with every vector.

        Args:
            vectors: (n, d) float32.
            model: encoder that they came from, None for an unknown one.
            pooling: of that encoder, None for its own.
            how: metric and transform.
            deadline: monotonic seconds until which the caller waits.

        Raises:
            UnknownModel: no such encoder.
            InvalidInput: a pooling without a model, or one that the model lacks.
            DimensionMismatch: the vectors cannot be that encoder's, or the transform's.
            ArtefactMismatch: the transform belongs to another encoder or pooling.
        """
        _require_at_most(len(vectors), self._settings.max_matrix_rows, "/vectors")
        name, transform = None, None
        if how.transform is not None:
            transform = await self._transforms.find(how.transform)
            require_pooling(transform, pooling)
            own = transform.origin
            # both are the transform's, so it says the model too
            model = model or (own.model if own is not None and pooling is not None else None)
        origin = await find_origin(
            self._engine, vectors, model=model, pooling=pooling, deadline=deadline
        )
        if transform is not None:
            await self._transforms.require_encoder(transform, model, deadline=deadline)
            vectors = await self._transforms.apply(vectors, transform)
            name = transform.id
        return Compared(await self._matrix(vectors, how), None, name, origin)

    async def calibrate(
        self, compared: Compared, calibration_id: str, *, metric: Metric, pooling: str | None
    ) -> Calibrated:
        """Return in which percentile of a calibration each score lies.

        Args:
            compared: scores and where they come from.
            calibration_id: `name@version`, or `name` for the latest.
            metric: of the scores.
            pooling: that was asked for, None for the model's own or the transform's.

        Raises:
            UnknownArtefact: no such calibration.
            ArtefactMismatch: it is one of other scores.
        """
        found = await self._calibrations.find(calibration_id)
        encoder = None if compared.embedded is None else compared.embedded.encoder
        said = compared.origin
        if compared.transform is not None:
            pooling = None  # a transform has one pooling, which it checked itself
        elif encoder is not None:
            pooling = pooling or encoder.manifest.pooling
        elif said is not None:
            pooling = said.pooling
        sha256 = None if said is None else said.sha256
        origin = ScoreOrigin(
            model_sha256=sha256 if encoder is None else encoder.sha256,
            pooling=pooling,
            transform=compared.transform,
            metric=metric.value,
        )
        require_same_scores(found, origin)
        percentiles = await self._calibrations.percentiles(found, compared.scores)
        return Calibrated(percentiles.astype(np.float32), found.id)

    async def _made(
        self,
        inputs: Inputs,
        *,
        model: str | None,
        options: EmbeddingOptions,
        transform: str | None,
        deadline: float,
        dimensions: int | None = None,
    ) -> Made:
        if transform is None:
            embedded = await self._embedder.embed(
                inputs, model=model, options=options, deadline=deadline
            )
            return Made(embedded, None)
        found = await self._transforms.find(transform)
        embedded = await self._transforms.embed(
            inputs, found, model=model, options=options, dimensions=dimensions, deadline=deadline
        )
        return Made(embedded, found.id)

    async def _matrix(self, vectors: Matrix32, how: Comparison) -> Matrix32:
        if how.metric is not Metric.COSINE:
            work = partial(similarity_matrix, metric=how.metric, k=how.k)
            return await self._engine.compute(work, vectors)
        if np.prod(vectors.shape) * len(vectors) <= _INLINE_PRODUCTS:
            return cosine_matrix(vectors)
        return await self._engine.compute(cosine_matrix, vectors)


def _require_at_most(count: int, limit: int, pointer: str) -> None:
    if count > limit:
        raise TooManyItems(
            f"{count} items came and one call carries {limit}. Send them in several calls.",
            faults=(Fault(pointer, f"holds {count} items, at most {limit} are allowed"),),
        )
