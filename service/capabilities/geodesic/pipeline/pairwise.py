"""Measure texts or vectors of one request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from service.capabilities.geodesic.numerics.pairwise import (
    GraphOptions,
    Measured,
    Wanted,
    measure,
)
from service.capabilities.geodesic.pipeline.sources import Sources
from service.capabilities.geodesic.settings import GeodesicSettings
from service.embedding.embedder import Embedded
from service.errors import Fault, InvalidInput, TooManyItems
from service.numerics.distances import prepare
from service.numerics.dtypes import Matrix32, Progress
from service.runtime.engine import Engine


@dataclass(frozen=True, slots=True)
class Answer:
    """Hold what was measured.

    Attributes:
        measured: distances.
        embedded: the embeddings where texts were given.
        transform: id of the whitening that vectors went through, or None.
    """

    measured: Measured
    embedded: Embedded | None
    transform: str | None


class Pairwise:
    """Measure the items of one request against each other.

    Args:
        sources: texts to vectors.
        engine: compute threads.
        settings: limits.
    """

    def __init__(self, sources: Sources, engine: Engine, settings: GeodesicSettings) -> None:
        self._sources = sources
        self._engine = engine
        self._settings = settings

    async def of_texts(
        self,
        texts: Sequence[str],
        options: GraphOptions,
        wanted: Wanted,
        *,
        model: str | None,
        transform: str | None,
        deadline: float,
        progress: Progress,
    ) -> Answer:
        """Return the distances between texts.

        Raises:
            TooManyItems: more texts than one call compares, or than paths are listed for.
            InvalidInput: a pair names a text that is not there.
        """
        self._check(len(texts), wanted, "/texts")
        named = await self._sources.name(transform)
        embedded = await self._sources.embed(
            texts, model=model, transform=named, deadline=deadline, progress=progress
        )
        measured = await self._measure(embedded.vectors, options, wanted, progress)
        return Answer(measured, embedded, named)

    async def of_vectors(
        self,
        vectors: Matrix32,
        options: GraphOptions,
        wanted: Wanted,
        *,
        transform: str | None,
        progress: Progress,
    ) -> Answer:
        """Return the distances between vectors; errors as for texts, and for vectors of zeros."""
        self._check(len(vectors), wanted, "/vectors")
        named = await self._sources.name(transform)
        rows = await self._sources.transformed(vectors, named)
        return Answer(await self._measure(rows, options, wanted, progress), None, named)

    async def _measure(
        self, vectors: Matrix32, options: GraphOptions, wanted: Wanted, progress: Progress
    ) -> Measured:
        def work() -> Measured:
            rows = prepare(vectors, options.metric)
            return measure(rows, options, wanted, progress=progress)

        return await self._engine.compute(work)

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
