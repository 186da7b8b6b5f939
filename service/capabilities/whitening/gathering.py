"""Turn what a request gives, texts or vectors, into vectors or into their statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from service.capabilities.whitening.numerics import Labelled
from service.capabilities.whitening.settings import WhiteningSettings
from service.embedding.embedder import Embedder, EmbeddingOptions
from service.embedding.transform import Origin
from service.errors import DimensionMismatch, Fault, InvalidInput, PayloadTooLarge, TooManyItems
from service.numerics.dtypes import Matrix32, Progress
from service.numerics.moments import Moments, measure_moments, merge_moments
from service.runtime.engine import Engine
from service.runtime.tokenizer import Truncate

# Texts that are embedded before progress is told; few enough for admission at any length.
_CHUNK_TEXTS = 128


@dataclass(frozen=True, slots=True)
class Given:
    """Hold what a request gives.

    Attributes:
        texts: to be embedded; empty where vectors are given.
        vectors: (n, d) float32, or None.
        model: encoder of the texts, or the one that the vectors came from.
        pooling: of that encoder.
        truncate: what happens to a text that is too long.
    """

    texts: Sequence[str]
    vectors: Matrix32 | None
    model: str | None
    pooling: str | None
    truncate: Truncate


@dataclass(frozen=True, slots=True)
class TextPairs:
    """Hold labelled pairs of texts.

    Attributes:
        first: one side of each of m pairs.
        second: the other side.
        scores: how alike people found them.
    """

    first: Sequence[str]
    second: Sequence[str]
    scores: Sequence[float]


@dataclass(frozen=True, slots=True)
class RowPairs:
    """Hold labelled pairs of vectors.

    Attributes:
        vectors: (n, d) float32.
        first: row of one side of each of m pairs.
        second: row of the other side.
        scores: how alike people found them.
    """

    vectors: Matrix32
    first: Sequence[int]
    second: Sequence[int]
    scores: Sequence[float]


class Gatherer:
    """Embed, check and sum up what requests give.

    Args:
        embedder: texts to vectors.
        engine: models and compute threads.
        settings: limits.
    """

    def __init__(self, embedder: Embedder, engine: Engine, settings: WhiteningSettings) -> None:
        self._embedder = embedder
        self._engine = engine
        self._settings = settings

    async def origin(self, given: Given, *, deadline: float) -> Origin | None:
        """Return the encoder that the vectors come from, None where nobody says so.

        Raises:
            UnknownModel: no such encoder.
            InvalidInput: it lacks the pooling, or a pooling is given for vectors without a model.
            DimensionMismatch: the vectors cannot be that encoder's.
        """
        if given.vectors is not None and given.model is None:
            if given.pooling is not None:
                raise InvalidInput(
                    f"The pooling {given.pooling!r} was given for vectors without a model. Name "
                    "the model that they came from, or leave the pooling out.",
                    faults=(Fault("/pooling", "says nothing without a model"),),
                )
            return None
        encoder = await self._engine.encoder(given.model, deadline=deadline)
        manifest = encoder.manifest
        pooling = given.pooling or manifest.pooling
        if pooling not in manifest.poolings:
            raise InvalidInput(
                f"The model {manifest.id} has no pooling {pooling!r}; "
                f"it has {', '.join(manifest.poolings)}.",
                faults=(Fault("/pooling", f"{pooling!r} is not offered by the model"),),
            )
        if given.vectors is not None and given.vectors.shape[1] != manifest.dimensions:
            raise DimensionMismatch(
                f"The vectors have {given.vectors.shape[1]} dimensions and {manifest.id} gives "
                f"{manifest.dimensions}: they did not come from it.",
                faults=(Fault("/vectors", "are not of the model's dimensions"),),
            )
        return Origin(manifest.id, encoder.sha256, pooling)

    async def moments(
        self, given: Given, origin: Origin | None, *, deadline: float, progress: Progress
    ) -> Moments:
        """Return the statistics of the raw vectors; texts are summed up as they are embedded.

        Raises:
            PayloadTooLarge: more than one call may carry.
            InvalidInput: a vector is all zeros.
        """
        self.require_small(given)
        if given.vectors is not None:
            return await self._engine.compute(_measure_given, given.vectors)
        total: Moments | None = None
        for start in range(0, len(given.texts), _CHUNK_TEXTS):
            texts = given.texts[start : start + _CHUNK_TEXTS]
            vectors = await self._embed(texts, given, origin, deadline)
            total = await self._engine.compute(_add, total, vectors)
            progress("embed", start + len(texts), len(given.texts))
        assert total is not None  # the schema wants at least one text
        return total

    async def vectors(
        self, given: Given, origin: Origin | None, *, deadline: float, progress: Progress
    ) -> Matrix32:
        """Return the raw vectors, (n, d) float32.

        Raises:
            PayloadTooLarge: more than one call may carry.
        """
        self.require_small(given)
        if given.vectors is not None:
            return given.vectors
        chunks = []
        for start in range(0, len(given.texts), _CHUNK_TEXTS):
            texts = given.texts[start : start + _CHUNK_TEXTS]
            chunks.append(await self._embed(texts, given, origin, deadline))
            progress("embed", start + len(texts), len(given.texts))
        return np.concatenate(chunks)

    async def label_texts(
        self, pairs: TextPairs, origin: Origin, *, deadline: float, progress: Progress
    ) -> Labelled:
        """Return pairs with the raw vectors of their sides; a text that recurs is embedded once."""
        texts = list(dict.fromkeys([*pairs.first, *pairs.second]))
        rows = {text: row for row, text in enumerate(texts)}
        given = Given(texts, None, origin.model, origin.pooling, Truncate.RIGHT)
        vectors = await self.vectors(given, origin, deadline=deadline, progress=progress)
        return Labelled(
            vectors,
            np.array([rows[text] for text in pairs.first]),
            np.array([rows[text] for text in pairs.second]),
            np.array(pairs.scores),
        )

    def require_small(self, given: Given) -> None:
        """Check what comes against the limits of one call.

        Raises:
            TooManyItems: too many texts or vectors.
            PayloadTooLarge: too many bytes, or too many dimensions.
        """
        vectors, settings = given.vectors, self._settings
        count = len(given.texts) if vectors is None else len(vectors)
        if count > settings.max_samples:
            raise TooManyItems(
                f"{count} came and one call carries {settings.max_samples}. Fit on the first "
                "part, and add the others with /update."
            )
        if vectors is None:
            return
        if vectors.shape[1] > settings.max_dimensions:
            raise PayloadTooLarge(
                f"The vectors have {vectors.shape[1]} dimensions and "
                f"{settings.max_dimensions} are the most.",
                faults=(Fault("/vectors", "have too many dimensions"),),
            )
        if vectors.nbytes > settings.max_vector_bytes:
            raise PayloadTooLarge(
                f"The vectors are {vectors.nbytes} bytes of float32 and one call carries "
                f"{settings.max_vector_bytes}. Fit on the first part, and add the others with "
                "/update.",
                faults=(Fault("/vectors", "are too many bytes"),),
            )

    async def _embed(
        self, texts: Sequence[str], given: Given, origin: Origin | None, deadline: float
    ) -> Matrix32:
        assert origin is not None  # texts always have an encoder
        embedded = await self._embedder.embed(
            texts,
            model=origin.model,
            options=EmbeddingOptions(origin.pooling, normalize=False, truncate=given.truncate),
            deadline=deadline,
        )
        return embedded.vectors


def label_rows(pairs: RowPairs) -> Labelled:
    """Return pairs of rows as arrays.

    Raises:
        InvalidInput: a row is not there.
    """
    count = len(pairs.vectors)
    first, second = np.array(pairs.first), np.array(pairs.second)
    wrong = np.flatnonzero((first >= count) | (second >= count))
    if len(wrong):
        row = max(first[wrong[0]], second[wrong[0]])
        raise InvalidInput(
            f"Pair {wrong[0]} names row {row} and there are {count} vectors.",
            faults=(Fault(f"/pairs/{wrong[0]}", "names a row that is not there"),),
        )
    return Labelled(pairs.vectors, first, second, np.array(pairs.scores))


def _measure_given(vectors: Matrix32) -> Moments:
    """Return the moments of vectors from outside; an encoder gives no vector of zeros."""
    empty = np.flatnonzero(~vectors.any(axis=1))
    if len(empty):
        raise InvalidInput(
            f"Vector {empty[0]} is all zeros, so it has no direction.",
            faults=(Fault(f"/vectors/{empty[0]}", "is all zeros"),),
        )
    return measure_moments(vectors)


def _add(total: Moments | None, vectors: Matrix32) -> Moments:
    part = measure_moments(vectors)
    return part if total is None else merge_moments(total, part)
