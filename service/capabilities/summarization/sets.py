"""Answer for stored sets of reviews, doing only what is new since the last answer."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakValueDictionary

from service.capabilities.summarization.corpus import Review
from service.capabilities.summarization.journal import Change, Journal, SetRecord, State
from service.capabilities.summarization.pipeline import (
    Answered,
    SummarizationPipeline,
    Wish,
    require_at_most,
)
from service.capabilities.summarization.settings import SummarizationSettings
from service.capabilities.summarization.shelf import Kept, Shelf
from service.errors import Fault, InvalidInput, NotFound, UnknownArtefact
from service.numerics.dtypes import Progress
from service.runtime.engine import Encoder, Engine
from service.stores.claims import Idempotency

SET_NAME = r"^[a-z0-9][a-z0-9-]{0,62}$"
_NOTHING = State(0, {})


@dataclass(frozen=True, slots=True)
class Described:
    """Hold a set's record and how far it is.

    Attributes:
        record: what it is.
        reviews: how many it holds.
        revision: number of its last change.
    """

    record: SetRecord
    reviews: int
    revision: int


class ReviewSets:
    """Keep sets of reviews, and summarize them.

    Args:
        journal: where they are stored.
        pipeline: reads and summarizes reviews.
        engine: encoders.
        settings: limits.
        shelf: corpora used lately.
    """

    def __init__(
        self,
        journal: Journal,
        pipeline: SummarizationPipeline,
        engine: Engine,
        settings: SummarizationSettings,
        shelf: Shelf,
    ) -> None:
        self._journal = journal
        self._pipeline = pipeline
        self._engine = engine
        self._settings = settings
        self._shelf = shelf
        # One reading of a set at a time: the next one finds what it left.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def create(
        self,
        name: str,
        reviews: Sequence[Review],
        *,
        model: str | None,
        language: str | None,
        k: int,
        idempotency: Idempotency | None,
        deadline: float,
    ) -> Described:
        """Return a new set with some reviews.

        Raises:
            Conflict: a set of that name is there.
            TooManyItems: more reviews than a set holds.
            InvalidInput: two reviews have one id.
            UnknownModel: no such encoder.
        """
        self._pipeline.check(reviews)
        encoder = await self._engine.encoder(model, deadline=deadline)
        record = await self._journal.create(
            name, model=encoder.manifest.id, language=language, k=k, idempotency=idempotency
        )
        state = await self._journal.read(record, since=_NOTHING)
        if reviews and not state.revision:  # a repeated request finds its reviews there
            state = await self._journal.append(record, Change(reviews), after=state)
        return _described(record, state)

    async def describe(self, name: str) -> Described:
        """Return how far a set is.

        Raises:
            UnknownArtefact: there is no such set.
        """
        record = await self.find(name)
        return _described(record, await self._read(record))

    async def all(self) -> list[SetRecord]:
        """Return the records of all sets, by name."""
        return await self._journal.all()

    async def delete(self, name: str) -> None:
        """Delete a set.

        Raises:
            UnknownArtefact: there is no such set.
        """
        await self.find(name)
        await self._journal.delete(name)

    async def add(self, name: str, reviews: Sequence[Review]) -> Described:
        """Add reviews, or replace those of the same id, and return how far the set is.

        Raises:
            UnknownArtefact: there is no such set.
            TooManyItems: the set would hold too many.
            InvalidInput: two reviews have one id.
        """
        record = await self.find(name)
        self._pipeline.check(reviews)
        state = await self._read(record)
        after = {*state.reviews, *(review.id for review in reviews)}
        require_at_most(len(after), self._settings.max_reviews, "/reviews", "reviews")
        return _described(record, await self._journal.append(record, Change(reviews), after=state))

    async def remove(self, name: str, review_id: str) -> None:
        """Remove a review.

        Raises:
            UnknownArtefact: there is no such set.
            NotFound: the set has no such review.
        """
        record = await self.find(name)
        state = await self._read(record)
        if review_id not in state.reviews:
            raise NotFound(f"The set {name} has no review {review_id[:80]!r}.")
        await self._journal.append(record, Change(drop=(review_id,)), after=state)

    async def summarize(
        self, record: SetRecord, wish: Wish, *, deadline: float, progress: Progress
    ) -> Answered:
        """Return the summaries of a set: those that its reviews in one request would get.

        Raises:
            InvalidInput: the set has no reviews.
            TooManyItems: too many sentences or aspects.
        """
        encoder = await self._engine.encoder(wish.model, deadline=deadline)
        stages: dict[str, float] = {}
        key = _shelf_key(record, encoder)
        lock = self._locks.setdefault(record.uid, asyncio.Lock())
        async with lock:
            kept = self._shelf.find(key)
            state = await self._journal.read(record, since=_state_of(kept))
            reviews = list(state.reviews.values())
            if not reviews:
                raise InvalidInput(
                    f"The set {record.name} has no reviews. Add some first.",
                    faults=(Fault("", "the set is empty"),),
                )
            self._pipeline.check(reviews, wish)
            if kept is None or kept.revision != state.revision:
                corpus = await self._pipeline.prepare(
                    reviews,
                    wish,
                    deadline=deadline,
                    progress=progress,
                    stages=stages,
                    before=None if kept is None else kept.corpus,
                )
                kept = Kept(corpus, state.revision)
                self._shelf.keep(key, kept)
        return await self._pipeline.answer(
            kept.corpus, encoder, wish, deadline=deadline, progress=progress, stages=stages
        )

    async def find(self, name: str) -> SetRecord:
        """Return the record of a set, with the model, language and k of its summaries.

        Raises:
            UnknownArtefact: there is no such set.
        """
        if not re.fullmatch(SET_NAME, name):
            raise UnknownArtefact(f"There is no review set {name[:80]!r}.")
        return await self._journal.find(name)

    async def _read(self, record: SetRecord) -> State:
        """Return the newest state, from the last corpus on where one is held."""
        encoder = self._engine.loaded().get(record.model)
        kept = None if encoder is None else self._shelf.find(_shelf_key(record, encoder))
        return await self._journal.read(record, since=_state_of(kept))


def _described(record: SetRecord, state: State) -> Described:
    return Described(record, len(state.reviews), state.revision)


def _state_of(kept: Kept | None) -> State:
    if kept is None:
        return _NOTHING
    return State(kept.revision, {each.id: each for each in kept.corpus.reading.reviews})


def _shelf_key(record: SetRecord, encoder: Encoder) -> bytes:
    return f"{record.uid}|{encoder.sha256}".encode()
