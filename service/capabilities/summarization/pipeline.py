"""Read reviews, embed what is new, and answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from itertools import chain
from time import perf_counter

import numpy as np

from service.capabilities.summarization.answer import Answer, Aspect, Bearings, answer
from service.capabilities.summarization.corpus import Corpus, Reading, Review, assemble, read
from service.capabilities.summarization.examples import opinion_pairs
from service.capabilities.summarization.numerics.nearness import support_radius
from service.capabilities.summarization.numerics.polarity import fit_axis
from service.capabilities.summarization.numerics.words import stems_of
from service.capabilities.summarization.options import NEIGHBOURS, Options
from service.capabilities.summarization.settings import SummarizationSettings
from service.capabilities.summarization.shelf import Kept, Shelf
from service.embedding.embedder import Embedder, EmbeddingOptions
from service.errors import Fault, InvalidInput, TooManyItems
from service.numerics.dtypes import Ids64, Matrix32, Progress
from service.runtime.engine import Encoder, Engine

# More of a sentence than any encoder here reads; the tokenizer need not see a megabyte.
_MOST_CHARACTERS = 2_000


@dataclass(frozen=True, slots=True)
class Wish:
    """Hold what one request asks, besides its reviews.

    Attributes:
        options: of every summary.
        aspects: seeds by name.
        split_sentiment: whether praise and complaint get a summary each.
        model: encoder, None for the default.
        language: of all reviews, None to guess each.
        k: neighbours of each statement.
    """

    options: Options
    aspects: Mapping[str, Sequence[str]] = field(default_factory=dict)
    split_sentiment: bool = False
    model: str | None = None
    language: str | None = None
    k: int = NEIGHBOURS


@dataclass(frozen=True, slots=True)
class Answered:
    """Hold an answer and what it took.

    Attributes:
        answer: the summaries.
        encoder: which model read the reviews.
        stages: seconds by stage.
    """

    answer: Answer
    encoder: Encoder
    stages: dict[str, float]


class SummarizationPipeline:
    """Answer this room's requests.

    Args:
        embedder: texts to vectors.
        engine: compute threads.
        settings: limits.
        shelf: corpora used lately.
    """

    def __init__(
        self,
        embedder: Embedder,
        engine: Engine,
        settings: SummarizationSettings,
        shelf: Shelf,
    ) -> None:
        self._embedder = embedder
        self._engine = engine
        self._settings = settings
        self._shelf = shelf
        self._bearings: dict[str, Bearings] = {}

    async def summarize(
        self, reviews: Sequence[Review], wish: Wish, *, deadline: float, progress: Progress
    ) -> Answered:
        """Return the summaries of some reviews.

        Args:
            reviews: in any order.
            wish: what is asked.
            deadline: monotonic seconds until which the caller waits.
            progress: told how far each stage is.

        Raises:
            TooManyItems: too many reviews, sentences or aspects.
            InvalidInput: two reviews have one id.
        """
        self.check(reviews, wish)
        encoder = await self._engine.encoder(wish.model, deadline=deadline)
        stages: dict[str, float] = {}
        key = await self._engine.compute(_key, reviews, encoder.sha256, wish)
        kept = self._shelf.find(key)
        if kept is not None:
            corpus = kept.corpus
        else:
            corpus = await self.prepare(
                reviews, wish, deadline=deadline, progress=progress, stages=stages
            )
            self._shelf.keep(key, Kept(corpus))
        return await self.answer(
            corpus, encoder, wish, deadline=deadline, progress=progress, stages=stages
        )

    def check(self, reviews: Sequence[Review], wish: Wish | None = None) -> None:
        """Refuse what is too much, or ambiguous.

        Raises:
            TooManyItems: too many reviews or aspects.
            InvalidInput: two reviews have one id.
        """
        require_at_most(len(reviews), self._settings.max_reviews, "/reviews", "reviews")
        if wish is not None:
            require_at_most(len(wish.aspects), self._settings.max_aspects, "/aspects", "aspects")
        seen: set[str] = set()
        for place, review in enumerate(reviews):
            if review.id in seen:
                raise InvalidInput(
                    f"Two reviews have the id {review.id[:80]!r}; give each its own.",
                    faults=(Fault(f"/reviews/{place}/id", "stands at an earlier review too"),),
                )
            seen.add(review.id)

    async def prepare(
        self,
        reviews: Sequence[Review],
        wish: Wish,
        *,
        deadline: float,
        progress: Progress,
        stages: dict[str, float],
        before: Corpus | None = None,
    ) -> Corpus:
        """Return reviews as a corpus; what stands in `before` is taken from there.

        Args:
            reviews: in any order.
            wish: language, model, neighbours.
            deadline: monotonic seconds until which the caller waits.
            progress: told how far each stage is.
            stages: gets the seconds of each.
            before: a corpus of the same language, model and k.

        Raises:
            TooManyItems: too many sentences.
        """
        started = perf_counter()
        progress("split", 0, len(reviews))
        reading = await self._engine.compute(
            partial(
                read,
                reviews,
                wish.language,
                max_sentences=self._settings.max_sentences,
                before=before.reading if before else None,
            )
        )
        progress("split", len(reviews), len(reviews))
        split = perf_counter()
        vectors, tokens = await self._embed(reading, wish.model, before, deadline, progress)
        embedded = perf_counter()
        corpus = await self._engine.compute(
            partial(assemble, reading, vectors, tokens, k=wish.k, progress=progress, before=before)
        )
        stages["split"] = split - started
        stages["embed"] = embedded - split
        stages["graph"] = perf_counter() - embedded
        return corpus

    async def answer(
        self,
        corpus: Corpus,
        encoder: Encoder,
        wish: Wish,
        *,
        deadline: float,
        progress: Progress,
        stages: dict[str, float],
    ) -> Answered:
        """Return the summaries of a corpus."""
        bearings = await self._find_bearings(encoder, deadline)
        aspects = await self._embed_aspects(wish, deadline)
        started = perf_counter()
        found = await self._engine.compute(
            partial(
                answer,
                corpus,
                bearings,
                wish.options,
                aspects,
                k=wish.k,
                split_sentiment=wish.split_sentiment,
                progress=progress,
            )
        )
        stages["summarize"] = perf_counter() - started
        return Answered(found, encoder, stages)

    async def _embed(
        self,
        reading: Reading,
        model: str | None,
        before: Corpus | None,
        deadline: float,
        progress: Progress,
    ) -> tuple[Matrix32, Ids64]:
        """Return vectors and token counts of a reading's texts; old ones from `before`."""
        known, new = await self._engine.compute(_missing, reading, before)
        if not new and before is None:
            return np.empty((0, 1), np.float32), np.empty(0, np.int64)
        vectors, tokens = None, np.empty(len(known), np.int64)
        if new:
            embedded = await self._embedder.embed_all(
                new,
                model=model,
                options=EmbeddingOptions(),
                deadline=deadline,
                progress=progress,
            )
            vectors = np.empty((len(known), embedded.vectors.shape[1]), np.float32)
            vectors[known < 0] = embedded.vectors
            tokens[known < 0] = embedded.tokens
        if before is not None:
            if vectors is None:
                vectors = np.empty((len(known), before.statements.vectors.shape[1]), np.float32)
            vectors[known >= 0] = before.statements.vectors[known[known >= 0]]
            tokens[known >= 0] = before.tokens[known[known >= 0]]
        assert vectors is not None  # there is something new, or something before
        return vectors, tokens

    async def _find_bearings(self, encoder: Encoder, deadline: float) -> Bearings:
        """Return what this encoder's space is read by; embedded once a process."""
        found = self._bearings.get(encoder.sha256)
        if found is None:
            pairs = opinion_pairs(encoder.manifest.languages)
            embedded = await self._embedder.embed(
                list(chain.from_iterable(pairs)),
                model=encoder.manifest.id,
                options=EmbeddingOptions(),
                deadline=deadline,
            )
            axis = fit_axis(embedded.vectors[0::2], embedded.vectors[1::2])
            subjects = np.repeat(np.arange(len(pairs)), 2)
            radius = support_radius(embedded.vectors, subjects)
            found = Bearings(axis, embedded.vectors, radius)
            self._bearings[encoder.sha256] = found
        return found

    async def _embed_aspects(self, wish: Wish, deadline: float) -> dict[str, Aspect]:
        if not wish.aspects:
            return {}
        seeds = list(chain.from_iterable(wish.aspects.values()))
        embedded = await self._embedder.embed(
            [seed[:_MOST_CHARACTERS] for seed in seeds],
            model=wish.model,
            options=EmbeddingOptions(),
            deadline=deadline,
        )
        aspects = {}
        first = 0
        for name, words in wish.aspects.items():
            rows = embedded.vectors[first : first + len(words)]
            aspects[name] = Aspect(tuple(tuple(stems_of(word)) for word in words), rows)
            first += len(words)
        return aspects


def require_at_most(count: int, limit: int, pointer: str, what: str) -> None:
    """Refuse more than a limit.

    Raises:
        TooManyItems: there are more.
    """
    if count > limit:
        raise TooManyItems(
            f"{count} {what} came and one call carries {limit}. Send fewer.",
            faults=(Fault(pointer, f"holds {count} {what}, at most {limit} are allowed"),),
        )


def _missing(reading: Reading, before: Corpus | None) -> tuple[Ids64, list[str]]:
    """Return where each statement stood before, -1 for a new one, and the texts of the new ones."""
    place = {} if before is None else {key: n for n, key in enumerate(before.reading.texts)}
    known = np.array([place.get(key, -1) for key in reading.texts], dtype=np.int64)
    new = [text[:_MOST_CHARACTERS] for key, text in reading.texts.items() if key not in place]
    return known, new


def _key(reviews: Sequence[Review], sha256: str, wish: Wish) -> bytes:
    """Return a digest of all that a corpus depends on."""
    name = blake2b(f"{sha256}|{wish.language}|{wish.k}".encode(), digest_size=32)
    for review in sorted(reviews):
        for part in (review.id, review.text, repr(review.rating)):
            content = part.encode("utf-8", "surrogatepass")
            name.update(len(content).to_bytes(8, "little"))
            name.update(content)
    return name.digest()
