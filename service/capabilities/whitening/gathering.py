"""Turn what a request gives, texts or vectors, into vectors or into their statistics."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

import numpy as np

from service.capabilities.whitening.numerics import Labelled
from service.capabilities.whitening.settings import WhiteningSettings
from service.embedding.embedder import Embedded, Embedder, EmbeddingOptions, patiently
from service.embedding.origins import find_origin
from service.embedding.transform import Origin
from service.errors import Fault, InvalidInput, PayloadTooLarge, TooManyItems
from service.numerics.dtypes import Matrix32, Progress
from service.numerics.moments import Moments, measure_moments, merge_moments
from service.runtime.engine import Engine
from service.runtime.tokenizer import Truncate


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
        return await find_origin(
            self._engine,
            given.vectors,
            model=given.model,
            pooling=given.pooling,
            deadline=deadline,
        )

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
        parts = self._parts(given, origin, deadline, progress)
        async with aclosing(parts):
            async for part in parts:
                # a fit of an hour is not to fail because the compute threads were full once
                add = partial(self._engine.compute, _add, total, part.vectors)
                total = await patiently(add, deadline=deadline)
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
        parts = self._parts(given, origin, deadline, progress)
        async with aclosing(parts):
            return np.concatenate([part.vectors async for part in parts])

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
        kind = "texts" if vectors is None else "vectors"
        if count > settings.max_samples:
            raise TooManyItems(
                f"{count} {kind} came and one call carries {settings.max_samples}. Fit on the "
                "first part, and add the others with /update.",
                faults=(Fault(f"/{kind}", f"holds {count}"),),
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

    def _parts(
        self, given: Given, origin: Origin | None, deadline: float, progress: Progress
    ) -> AsyncGenerator[Embedded]:
        assert origin is not None  # texts always have an encoder
        return self._embedder.embed_parts(
            given.texts,
            model=origin.model,
            options=EmbeddingOptions(origin.pooling, normalize=False, truncate=given.truncate),
            deadline=deadline,
            progress=progress,
        )


def label_rows(pairs: RowPairs) -> Labelled:
    """Return pairs of rows as arrays; of equal rows the first stands for all.

    Raises:
        InvalidInput: a row is not there, or one is all zeros.
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
    _require_directions(pairs.vectors)
    rows: dict[bytes, int] = {}
    same = np.array([rows.setdefault(row.tobytes(), at) for at, row in enumerate(pairs.vectors)])
    return Labelled(pairs.vectors, same[first], same[second], np.array(pairs.scores))


def _measure_given(vectors: Matrix32) -> Moments:
    """Return the moments of vectors from outside; an encoder gives no vector of zeros."""
    _require_directions(vectors)
    return measure_moments(vectors)


def _require_directions(vectors: Matrix32) -> None:
    empty = np.flatnonzero(~vectors.any(axis=1))
    if len(empty):
        raise InvalidInput(
            f"Vector {empty[0]} is all zeros, so it has no direction.",
            faults=(Fault(f"/vectors/{empty[0]}", "is all zeros"),),
        )


def _add(total: Moments | None, vectors: Matrix32) -> Moments:
    part = measure_moments(vectors)
    return part if total is None else merge_moments(total, part)
