"""Measure texts or vectors of one request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from service.capabilities.geodesic.numerics.pairwise import (
    GraphOptions,
    Measured,
    Wanted,
    measure,
)
from service.capabilities.geodesic.settings import GeodesicSettings
from service.embedding.embedder import Embedded, Embedder, EmbeddingOptions
from service.errors import Fault, InvalidInput, TooManyItems
from service.numerics.distances import prepare
from service.numerics.dtypes import Matrix32, Progress
from service.runtime.engine import Engine


@dataclass(frozen=True, slots=True)
class Answer:
    """Hold distances, and the embeddings where texts were given."""

    measured: Measured
    embedded: Embedded | None


class Pairwise:
    """Measure the items of one request against each other.

    Args:
        embedder: texts to vectors.
        engine: compute threads.
        settings: limits.
    """

    def __init__(self, embedder: Embedder, engine: Engine, settings: GeodesicSettings) -> None:
        self._embedder = embedder
        self._engine = engine
        self._settings = settings

    async def of_texts(
        self,
        texts: Sequence[str],
        options: GraphOptions,
        wanted: Wanted,
        *,
        model: str | None,
        deadline: float,
        progress: Progress,
    ) -> Answer:
        """Return the distances between texts.

        Raises:
            TooManyItems: more texts than one call compares, or than paths are listed for.
            InvalidInput: a pair names a text that is not there.
        """
        self._check(len(texts), wanted, "/texts")
        embedded = await self._embedder.embed_all(
            texts, model=model, options=EmbeddingOptions(), deadline=deadline, progress=progress
        )
        return replace(
            await self._measure(embedded.vectors, options, wanted, progress), embedded=embedded
        )

    async def of_vectors(
        self, vectors: Matrix32, options: GraphOptions, wanted: Wanted, *, progress: Progress
    ) -> Answer:
        """Return the distances between vectors; errors as for texts, and for vectors of zeros."""
        self._check(len(vectors), wanted, "/vectors")
        return await self._measure(vectors, options, wanted, progress)

    async def _measure(
        self, vectors: Matrix32, options: GraphOptions, wanted: Wanted, progress: Progress
    ) -> Answer:
        def work() -> Measured:
            rows = prepare(vectors, options.metric)
            return measure(rows, options, wanted, progress=progress)

        return Answer(await self._engine.compute(work), None)

    def _check(self, count: int, wanted: Wanted, pointer: str) -> None:
        most = self._settings.max_pairwise_items
        if count > most:
            raise TooManyItems(
                f"{count} items came and one call compares {most}. Make a corpus of them "
                "(POST /v1/geodesic/corpora) and query it.",
                faults=(Fault(pointer, f"holds {count} items, at most {most} are allowed"),),
            )
        if wanted.pairs is None:
            most = self._settings.max_path_items
            if wanted.paths and count > most:
                raise TooManyItems(
                    f"The paths of all pairs are listed for up to {most} items, and {count} came. "
                    "Name the pairs whose paths you want in `pairs`.",
                    faults=(Fault("/paths", f"needs `pairs` beyond {most} items"),),
                )
            return
        beyond = np.argwhere(wanted.pairs >= count)
        if len(beyond):
            pair, end = beyond[0]
            raise InvalidInput(
                f"Pair {pair} names item {wanted.pairs[pair, end]}; there are {count}, counted "
                "from 0.",
                faults=(Fault(f"/pairs/{pair}/{end}", f"at most {count - 1}"),),
            )
