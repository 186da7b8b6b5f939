"""Make, change and ask corpora."""

from __future__ import annotations

from asyncio import Semaphore, gather
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from service.capabilities.geodesic.numerics.meshes import MeshOptions
from service.capabilities.geodesic.pipeline.answers import Hit, Way, find_hits, find_way
from service.capabilities.geodesic.pipeline.corpus import (
    Change,
    Corpus,
    Description,
    Item,
    Making,
)
from service.capabilities.geodesic.pipeline.journal import Journal, State, list_states
from service.capabilities.geodesic.pipeline.shelf import Shelf
from service.capabilities.geodesic.pipeline.sources import Sources
from service.capabilities.geodesic.settings import GeodesicSettings
from service.embedding.embedder import Embedded
from service.errors import (
    Conflict,
    DimensionMismatch,
    Fault,
    InvalidInput,
    TooManyItems,
    UnknownArtefact,
)
from service.numerics.distances import Metric, prepare
from service.numerics.dtypes import Matrix32, Progress, Vector32
from service.numerics.neighbours import silent
from service.runtime.engine import Engine
from service.stores.layout import check_name, parse_id
from service.stores.objects import Objects

# Descriptions are small; a bucket answers each after some milliseconds.
_READ_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Given:
    """Hold an item as it came: a text, a vector, or a vector with the text that it stands for."""

    item: Item
    vector: Vector32 | None


@dataclass(frozen=True, slots=True)
class _Kept:
    """Say how what is kept becomes rows."""

    model: str | None
    transform: str | None
    metric: Metric


class Corpora:
    """Keep corpora.

    Args:
        objects: where they are stored.
        sources: texts to vectors.
        engine: compute threads.
        settings: limits.
    """

    def __init__(
        self, objects: Objects, sources: Sources, engine: Engine, settings: GeodesicSettings
    ) -> None:
        self._objects = objects
        self._sources = sources
        self._engine = engine
        self._settings = settings
        self._shelves: OrderedDict[str, Shelf] = OrderedDict()

    async def create(
        self,
        name: str,
        given: Sequence[Given],
        options: MeshOptions,
        *,
        model: str | None,
        transform: str | None,
        request: tuple[str, str] | None,
        deadline: float,
        progress: Progress,
    ) -> Corpus:
        """Return a new corpus, stored.

        Args:
            name: its id.
            given: its first items.
            options: how they are joined.
            model: encoder of its texts, None for the default one.
            transform: whitening that vectors go through, None for none.
            request: idempotency key and digest of the request, None without a key.
            deadline: monotonic seconds.
            progress: told the stages.

        Raises:
            InvalidInput: the name or an item cannot be used, or an id comes twice.
            TooManyItems: more items than one call or one corpus holds.
            Conflict: the name is taken.
        """
        check_name(name)
        await self._engine.compute(self._check, given)
        kept = _Kept(model, await self._sources.name(transform), options.metric)
        rows, embedded = await self._vectors(given, kept, deadline, progress)
        encoder = None if embedded is None else embedded.encoder
        making = Making(
            options=options,
            model=None if encoder is None else encoder.manifest.id,
            model_sha256=None if encoder is None else encoder.sha256,
            transform=kept.transform,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        change = Change((), [each.item for each in given], rows)
        return await self._shelf(name).create(making, change, request=request, progress=progress)

    async def find(self, name: str) -> Corpus:
        """Return the current version of a corpus.

        Raises:
            UnknownArtefact: there is none.
        """
        _require_name(name)
        return await self._shelf(name).current()

    async def describe_all(self) -> list[Description]:
        """Return what every corpus is, by name; what is kept beside their logs is enough."""
        at_once = Semaphore(_READ_AT_ONCE)

        async def describe(state: State) -> Description | None:
            async with at_once:
                return await self._unopened(state.name).describe(state)

        states = await list_states(self._objects)
        found = await gather(*(describe(state) for state in states))
        return [each for each in found if each is not None]

    async def put_items(
        self, name: str, given: Sequence[Given], *, deadline: float, progress: Progress
    ) -> Corpus:
        """Return the version in which the items are there, in place of others of their ids.

        Raises:
            Conflict: a text came and the corpus was made of vectors, or with another encoder.
            DimensionMismatch: a vector has another length than those that are there.
            TooManyItems: as for `create`.
        """
        await self._engine.compute(self._check, given)
        corpus = await self.find(name)
        texts = any(each.vector is None for each in given)
        model = _model_for_text(corpus) if texts else None
        kept = _Kept(model, corpus.making.transform, corpus.making.options.metric)
        rows, embedded = await self._vectors(given, kept, deadline, progress)
        items = [each.item for each in given]

        def plan(latest: Corpus) -> Change:
            if embedded is not None:
                _require_encoder(latest, embedded)
            self._require_fit(latest, rows, items)
            return Change((), items, rows)

        return await self._shelf(name).change(plan, progress=progress)

    async def remove_item(self, name: str, item_id: str, *, progress: Progress) -> Corpus:
        """Return the version without an item.

        Raises:
            UnknownItem: it is not there.
        """
        _require_name(name)

        def plan(latest: Corpus) -> Change:
            latest.row(item_id)
            return Change((item_id,), (), np.empty((0, latest.dimensions), np.float32))

        return await self._shelf(name).change(plan, progress=progress)

    async def remove(self, name: str) -> None:
        """End a corpus."""
        _require_name(name)
        await self._shelf(name).remove()

    async def query_text(
        self, name: str, text: str, *, top: int, max_distance: float | None, deadline: float
    ) -> tuple[Corpus, list[Hit], Embedded]:
        """Return the items nearest to a text along the graph.

        Raises:
            Conflict: the corpus was made of vectors, or with another encoder.
        """
        corpus = await self.find(name)
        embedded = await self._sources.embed(
            [text],
            model=_model_for_text(corpus),
            transform=corpus.making.transform,
            deadline=deadline,
            progress=silent,
        )
        _require_encoder(corpus, embedded)
        hits = await self._query(corpus, embedded.vectors, top, max_distance)
        return corpus, hits, embedded

    async def query_vector(
        self, name: str, vector: Vector32, *, top: int, max_distance: float | None
    ) -> tuple[Corpus, list[Hit]]:
        """Return the items nearest to a vector along the graph.

        Raises:
            DimensionMismatch: it has another length than those of the corpus.
        """
        corpus = await self.find(name)
        rows = await self._sources.transformed(vector[np.newaxis], corpus.making.transform)
        return corpus, await self._query(corpus, rows, top, max_distance)

    async def _query(
        self, corpus: Corpus, vectors: Matrix32, top: int, max_distance: float | None
    ) -> list[Hit]:
        return await self._engine.compute(find_hits, corpus, vectors, top, max_distance)

    async def path(self, name: str, source: str, target: str) -> tuple[Corpus, Way]:
        """Return the path between two items.

        Raises:
            UnknownItem: one of them is not there.
        """
        corpus = await self.find(name)
        ends = corpus.row(source), corpus.row(target)
        return corpus, await self._engine.compute(find_way, corpus, *ends)

    async def aclose(self) -> None:
        """Stop what runs in the background."""
        for shelf in self._shelves.values():
            await shelf.aclose()

    def _unopened(self, name: str) -> Shelf:
        """Return a corpus, without keeping it; nothing is read before it is asked."""
        return self._shelves.get(name) or Shelf(
            Journal(self._objects, name),
            name,
            self._engine,
            refresh_seconds=self._settings.refresh_ms / 1000,
        )

    def _shelf(self, name: str) -> Shelf:
        """Return the living state of a corpus; the one not used for longest may go for it."""
        shelf = self._unopened(name)
        self._shelves[name] = shelf
        self._shelves.move_to_end(name)
        if len(self._shelves) > self._settings.open_corpora:
            self._shelves.popitem(last=False)
        return shelf

    def _check(self, given: Sequence[Given]) -> None:
        most = self._settings.max_items_per_call
        if len(given) > most:
            raise TooManyItems(
                f"{len(given)} items came and one call carries {most}. Send them in several calls.",
                faults=(Fault("/items", f"at most {most}"),),
            )
        first_place: dict[str, int] = {}
        for place, each in enumerate(given):
            before = first_place.setdefault(each.item.id, place)
            if before != place:
                raise InvalidInput(
                    f"Items {before} and {place} both have the id {each.item.id[:80]!r}; send each "
                    "id once.",
                    faults=(Fault(f"/items/{place}/id", f"stands at {before} already"),),
                )

    def _require_fit(self, corpus: Corpus, rows: Matrix32, items: Iterable[Item]) -> None:
        if rows.shape[1] != corpus.dimensions:
            raise DimensionMismatch(
                f"The vectors have {rows.shape[1]} numbers and those of the corpus "
                f"{corpus.name!r} have {corpus.dimensions}.",
                faults=(Fault("/items", f"vectors need {corpus.dimensions} numbers"),),
            )
        new = sum(item.id not in corpus.rows for item in items)
        most = self._settings.max_corpus_items
        if corpus.mesh.count + new > most:
            raise TooManyItems(
                f"The corpus {corpus.name!r} would hold {corpus.mesh.count + new} items and one "
                f"holds {most}. Delete some, or make another corpus.",
                faults=(Fault("/items", f"{new} of these are new"),),
            )

    async def _vectors(
        self,
        given: Sequence[Given],
        kept: _Kept,
        deadline: float,
        progress: Progress,
    ) -> tuple[Matrix32, Embedded | None]:
        """Return the vector of each item, texts embedded, and the embeddings where there were."""
        places = [place for place, each in enumerate(given) if each.vector is None]
        embedded = None
        if places:
            embedded = await self._sources.embed(
                [given[place].item.text or "" for place in places],
                model=kept.model,
                transform=kept.transform,
                deadline=deadline,
                progress=progress,
            )
        others = await self._engine.compute(_stack, given)
        others = None if others is None else await self._sources.transformed(others, kept.transform)
        rows = await self._engine.compute(_merge, others, places, embedded, kept.metric)
        return rows, embedded


@asynccontextmanager
async def open_corpora(
    objects: Objects, sources: Sources, engine: Engine, settings: GeodesicSettings
) -> AsyncIterator[Corpora]:
    """Yield the corpora and stop what they do in the background at the end."""
    corpora = Corpora(objects, sources, engine, settings)
    try:
        yield corpora
    finally:
        await corpora.aclose()


def _require_name(name: str) -> None:
    """Refuse what no corpus can be called, as one that is not there."""
    if parse_id(name)[1] is not None:
        raise UnknownArtefact(f"There is no corpus {name[:80]!r}; corpora have no numbers.")


def _stack(given: Sequence[Given]) -> Matrix32 | None:
    """Return the vectors that came, in order; None where none did."""
    vectors = [each.vector for each in given if each.vector is not None]
    lengths = sorted({len(vector) for vector in vectors})
    if len(lengths) > 1:
        raise DimensionMismatch(f"The items' vectors have different lengths: {lengths[:5]}")
    return np.stack(vectors) if vectors else None


def _merge(
    vectors: Matrix32 | None, places: Sequence[int], embedded: Embedded | None, metric: Metric
) -> Matrix32:
    """Return the prepared rows of all items: embedded texts at their places, vectors between."""
    if embedded is None or vectors is None:
        whole = vectors if embedded is None else embedded.vectors
        assert whole is not None  # every item has one or the other
        return prepare(whole, metric)
    lengths = sorted({vectors.shape[1], embedded.vectors.shape[1]})
    if len(lengths) > 1:
        raise DimensionMismatch(f"The items' vectors have different lengths: {lengths}")
    rows = np.empty((len(vectors) + len(places), vectors.shape[1]), np.float32)
    texts = np.zeros(len(rows), np.bool_)
    texts[list(places)] = True
    rows[texts], rows[~texts] = embedded.vectors, vectors
    return prepare(rows, metric)


def _model_for_text(corpus: Corpus) -> str:
    if corpus.making.model is None:
        raise Conflict(
            f"The corpus {corpus.name!r} was made of vectors, so nothing says which encoder its "
            "texts need. Send a vector."
        )
    return corpus.making.model


def _require_encoder(corpus: Corpus, embedded: Embedded) -> None:
    making, encoder = corpus.making, embedded.encoder
    if making.model_sha256 != encoder.sha256:
        made_with = "none" if making.model_sha256 is None else making.model_sha256[:12]
        raise Conflict(
            f"The corpus {corpus.name!r} was made with the encoder {making.model} of digest "
            f"{made_with} and the one at hand has {encoder.sha256[:12]}; their vectors do not "
            "compare. Make the corpus again."
        )
