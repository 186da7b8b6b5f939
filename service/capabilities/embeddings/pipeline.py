"""Embed, shorten and compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from service.capabilities.embeddings.settings import EmbeddingsSettings
from service.embedding.embedder import Embedded, Embedder, EmbeddingOptions, Inputs
from service.errors import Fault, TooManyItems
from service.numerics.dtypes import Matrix32
from service.numerics.vectors import cosine_matrix, first_dimensions, pair_cosines
from service.runtime.engine import Engine

# Below this many products the arithmetic costs less than a change of thread.
_INLINE_PRODUCTS = 100_000


@dataclass(frozen=True, slots=True)
class Compared:
    """Hold similarity scores.

    Attributes:
        scores: (pairs,) or (n, n) float32.
        embedded: the texts' embeddings, None where vectors were given.
    """

    scores: Matrix32
    embedded: Embedded | None


class EmbeddingsPipeline:
    """Answer this room's requests.

    Args:
        embedder: texts to vectors.
        engine: compute threads for the larger products.
        settings: limits.
    """

    def __init__(self, embedder: Embedder, engine: Engine, settings: EmbeddingsSettings) -> None:
        self._embedder = embedder
        self._engine = engine
        self._settings = settings

    async def embed(
        self,
        inputs: Inputs,
        *,
        model: str | None,
        options: EmbeddingOptions,
        dimensions: int | None,
        deadline: float,
    ) -> Embedded:
        """Return one vector an input, cut to its first `dimensions` numbers.

        Raises:
            TooManyItems: more inputs than one call may carry.
            DimensionMismatch: more dimensions than the model has.
        """
        _require_at_most(len(inputs), self._settings.max_inputs, "/input")
        embedded = await self._embedder.embed(
            inputs, model=model, options=options, deadline=deadline
        )
        if dimensions is None:
            return embedded
        vectors = first_dimensions(embedded.vectors, k=dimensions, normalize=options.normalize)
        return replace(embedded, vectors=vectors)

    async def compare_pairs(
        self,
        pairs: Sequence[Sequence[str]],
        *,
        model: str | None,
        options: EmbeddingOptions,
        deadline: float,
    ) -> Compared:
        """Return the cosine of each pair of texts; a text that recurs is embedded once."""
        _require_at_most(len(pairs), self._settings.max_inputs, "/pairs")
        texts = [text for pair in pairs for text in pair]
        embedded = await self._embedder.embed(
            texts, model=model, options=options, deadline=deadline
        )
        scores = pair_cosines(embedded.vectors[0::2], embedded.vectors[1::2])
        return Compared(scores, embedded)

    async def compare_texts(
        self,
        texts: Sequence[str],
        *,
        model: str | None,
        options: EmbeddingOptions,
        deadline: float,
    ) -> Compared:
        """Return the cosine of every text with every text."""
        _require_at_most(len(texts), self._settings.max_matrix_rows, "/texts")
        embedded = await self._embedder.embed(
            texts, model=model, options=options, deadline=deadline
        )
        return Compared(await self._matrix(embedded.vectors), embedded)

    async def compare_vectors(self, vectors: Matrix32) -> Compared:
        """Return the cosine of every vector with every vector."""
        _require_at_most(len(vectors), self._settings.max_matrix_rows, "/vectors")
        return Compared(await self._matrix(vectors), None)

    async def _matrix(self, vectors: Matrix32) -> Matrix32:
        if np.prod(vectors.shape) * len(vectors) <= _INLINE_PRODUCTS:
            return cosine_matrix(vectors)
        return await self._engine.compute(cosine_matrix, vectors)


def _require_at_most(count: int, limit: int, pointer: str) -> None:
    if count > limit:
        raise TooManyItems(
            f"{count} items came and one call carries {limit}. Send them in several calls.",
            faults=(Fault(pointer, f"holds {count} items, at most {limit} are allowed"),),
        )
