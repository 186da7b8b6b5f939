"""Read reviews into statements, and follow a set of reviews as it changes.

```
reviews ─► sentences ─► statements by digest ─► vectors ─► neighbours ─► Corpus
           (mentions)   each text once          encoder    graph
```

Everything stands in an order that depends on the texts alone, reviews by (text, id) and statements
by a digest, so that the same reviews in another order give the same numbers, and the same summary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import chain
from sys import intern

import numpy as np

from service.capabilities.summarization.numerics.manifold import (
    Distance,
    Manifold,
    build_manifold,
    distance_table,
    grow_neighbours,
    join,
    landmarks_of,
    mean_distances,
)
from service.capabilities.summarization.numerics.repair import mend_table
from service.capabilities.summarization.numerics.statements import (
    Statements,
    count_terms,
    mark_said,
)
from service.capabilities.summarization.numerics.words import (
    count_words,
    guess_language,
    personal_share,
    stems_of,
)
from service.capabilities.summarization.splitting import split_sentences
from service.errors import Fault, TooManyItems
from service.numerics.dtypes import Ids64, Matrix32, Progress, Vector64

# Beyond this share of new statements, searching all neighbours anew is the cheaper way.
_FEW = 0.1
# Neighbours, edges, counts of words, digests and spans of one statement, measured.
_STATEMENT_BYTES = 1_000


@dataclass(frozen=True, slots=True, order=True)
class Review:
    """Hold one review as it came.

    Attributes:
        text: what was written; offsets count its characters.
        id: the caller's name for it.
        rating: 1 to 5, or None.
    """

    text: str
    id: str
    rating: float | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Fact:
    """Hold what a statement's text alone tells.

    Attributes:
        words: of the budget.
        stems: in order.
        personal: share of first-person words.
    """

    words: int
    stems: tuple[str, ...]
    personal: float


@dataclass(frozen=True, slots=True)
class Sentence:
    """Point at a sentence in a review.

    Attributes:
        start: first character.
        end: one past the last character.
        key: digest of its text.
    """

    start: int
    end: int
    key: bytes


@dataclass(frozen=True, slots=True)
class Reading:
    """Hold reviews split into sentences.

    Attributes:
        reviews: in order of text and id.
        sentences: those of each review.
        texts: each distinct sentence by its digest, in the order of the digests.
        facts: likewise.
    """

    reviews: tuple[Review, ...]
    sentences: tuple[tuple[Sentence, ...], ...]
    texts: Mapping[bytes, str]
    facts: Mapping[bytes, Fact]


@dataclass(frozen=True, slots=True)
class Corpus:
    """Hold reviews that are ready to be summarized.

    Attributes:
        reading: reviews and sentences.
        statements: as arrays, in the order of the reading's texts.
        tokens: (n,) int64, of the encoder.
        ratings: (n,) float64 mean rating of who says it; NaN where none rates.
        manifold: graph of near statements; None without statements.
        tables: distances from the landmarks, once they were asked for.
    """

    reading: Reading
    statements: Statements
    tokens: Ids64
    ratings: Vector64
    manifold: Manifold | None
    tables: dict[Distance, Matrix32] = field(default_factory=dict)

    @property
    def cost(self) -> int:
        """Return about how many bytes this takes, its table of geodesics included."""
        count = self.statements.count
        vectors = self.statements.vectors.nbytes
        letters = sum(len(review.text) for review in self.reading.reviews)
        return vectors + 4 * count * landmarks_of(count) + _STATEMENT_BYTES * count + 2 * letters

    def mean_distances(self, distance: Distance, progress: Progress) -> Vector64:
        """Return the mean distance of each statement to the landmarks, searched once."""
        assert self.manifold is not None  # asked only of statements
        if distance not in self.tables:
            self.tables[distance] = distance_table(
                self.manifold, distance=distance, progress=progress
            )
        return mean_distances(self.tables[distance], self.statements.mentions)


def digest(text: str) -> bytes:
    """Return 16 bytes that name a text."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def read(
    reviews: Sequence[Review],
    language: str | None,
    *,
    max_sentences: int,
    before: Reading | None = None,
) -> Reading:
    """Return reviews split into sentences; what `before` has read is not read again.

    Args:
        reviews: in any order.
        language: of all of them, or None to guess each.
        max_sentences: most of them.
        before: an earlier reading with the same language.

    Raises:
        TooManyItems: there are more sentences.
    """
    ordered = tuple(sorted(reviews))
    known = dict(zip(before.reviews, before.sentences, strict=True)) if before else {}
    facts = dict(before.facts) if before else {}
    texts: dict[bytes, str] = {}
    sentences = []
    total = 0
    for review in ordered:
        found = known.get(review)
        if found is None:
            found = _sentences(review, language, facts)
        total += len(found)
        if total > max_sentences:
            raise TooManyItems(
                f"The reviews hold more than {max_sentences} sentences, which is the most of one "
                "call. Send fewer reviews.",
                faults=(Fault("/reviews", f"more than {max_sentences} sentences"),),
            )
        texts.update((each.key, review.text[each.start : each.end]) for each in found)
        sentences.append(found)
    keys = sorted(texts)
    return Reading(
        ordered,
        tuple(sentences),
        {key: texts[key] for key in keys},
        {key: facts[key] for key in keys},
    )


def _sentences(
    review: Review, language: str | None, facts: dict[bytes, Fact]
) -> tuple[Sentence, ...]:
    """Return the sentences of one review, and note the facts of those that are new."""
    found = []
    for start, end in split_sentences(review.text, language):
        text = review.text[start:end]
        key = digest(text)
        found.append(Sentence(start, end, key))
        if key not in facts:
            # The sentence's own language: what is known of it must not hang on who said it first.
            spoken = language or guess_language(text)
            facts[key] = Fact(
                count_words(text), tuple(map(intern, stems_of(text))), personal_share(text, spoken)
            )
    return tuple(found)


def assemble(
    reading: Reading,
    vectors: Matrix32,
    tokens: Ids64,
    *,
    k: int,
    progress: Progress,
    before: Corpus | None = None,
) -> Corpus:
    """Return the reading with its graph.

    Args:
        reading: n statements.
        vectors: (n, d) float32 of length 1, in the order of the reading's texts.
        tokens: (n,) of the encoder.
        k: neighbours of each statement.
        progress: told how far the neighbours are.
        before: a corpus of the same encoder and k, mostly of the same statements.
    """
    statements = _statements(reading, vectors)
    manifold: Manifold | None = None
    tables: dict[Distance, Matrix32] = {}
    if statements.count:
        manifold, tables = _manifold(reading, vectors, k=k, progress=progress, before=before)
    rated = np.array([r.rating is not None for r in reading.reviews], np.float64)
    rating = np.array([r.rating or 0.0 for r in reading.reviews], np.float64)
    votes = rated @ statements.said if len(rated) else np.zeros(statements.count)
    sums = rating @ statements.said if len(rated) else np.zeros(statements.count)
    ratings = np.where(votes > 0, sums / np.maximum(votes, 1), np.nan)
    return Corpus(reading, statements, tokens, ratings, manifold, tables)


def _statements(reading: Reading, vectors: Matrix32) -> Statements:
    place = {key: row for row, key in enumerate(reading.texts)}
    reviews = np.repeat(np.arange(len(reading.reviews)), [len(s) for s in reading.sentences])
    rows = np.array(
        [place[each.key] for each in chain.from_iterable(reading.sentences)], dtype=np.int64
    )
    facts = list(reading.facts.values())
    return Statements(
        vectors=vectors,
        words=np.array([fact.words for fact in facts], dtype=np.int64),
        terms=count_terms([fact.stems for fact in facts]),
        personal=np.array([fact.personal for fact in facts], dtype=np.float64),
        said=mark_said(reviews, rows, shape=(len(reading.reviews), len(facts))),
    )


def _manifold(
    reading: Reading, vectors: Matrix32, *, k: int, progress: Progress, before: Corpus | None
) -> tuple[Manifold, dict[Distance, Matrix32]]:
    """Return the graph, and its table where one was kept, both grown where little is new."""
    if before is None or before.manifold is None:
        return build_manifold(vectors, k=k, progress=progress), {}
    place = {key: row for row, key in enumerate(reading.texts)}
    kept = np.array([place.get(key, -1) for key in before.reading.texts], dtype=np.int64)
    added = np.array(
        [row for key, row in place.items() if key not in before.reading.texts], dtype=np.int64
    )
    if len(added) + np.count_nonzero(kept < 0) > _FEW * len(place):
        return build_manifold(vectors, k=k, progress=progress), {}
    near = grow_neighbours(before.manifold.neighbours, vectors, kept=kept, added=added, k=k)
    manifold = join(vectors, near)
    table = before.tables.get(Distance.GEODESIC)
    if table is None:
        return manifold, {}
    landmarks = landmarks_of(len(place))
    mended = mend_table(table, before.manifold, manifold, kept=kept, landmarks=landmarks)
    return manifold, {Distance.GEODESIC: mended}
