"""Put the summaries of one request together: general, by aspect, by sentiment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from service.capabilities.summarization.corpus import Corpus
from service.capabilities.summarization.numerics.nearness import CLOSE, closeness, names_seed
from service.capabilities.summarization.numerics.polarity import Axis, polarities
from service.capabilities.summarization.options import Options
from service.capabilities.summarization.summary import (
    Section,
    summarize,
    view_all,
    view_some,
)
from service.numerics.dtypes import Ids64, Matrix32, Progress, Vector64

# Within this of 0 a sentence takes no side.
NEUTRAL = 0.15
NO_SUPPORT = Section(reason="no_support")
NO_SENTENCES = Section(reason="no_sentences")


@dataclass(frozen=True, slots=True)
class Aspect:
    """Hold what an aspect is told by.

    Attributes:
        stems: of each seed.
        vectors: (s, d) float32 of length 1, one a seed.
    """

    stems: tuple[tuple[str, ...], ...]
    vectors: Matrix32


@dataclass(frozen=True, slots=True)
class Bearings:
    """Hold what an encoder's space is read by.

    Attributes:
        axis: from complaint to praise.
        background: (b, d) float32 sentences about all sorts of things.
        radius: of support, in radians, where a request names none.
    """

    axis: Axis
    background: Matrix32
    radius: float


@dataclass(frozen=True, slots=True)
class Side:
    """Hold one side of the opinions.

    Attributes:
        section: its summary.
        reviews: how many reviews take it, in at least one sentence.
        sentences: how many statements take it.
    """

    section: Section
    reviews: int
    sentences: int


@dataclass(frozen=True, slots=True)
class Answer:
    """Hold all summaries of one request.

    Attributes:
        corpus: what they are of.
        polarity: (n,) -1 to 1 of each statement.
        general: of all statements.
        aspects: by name.
        sides: `positive` and `negative`; None where they were not asked for.
    """

    corpus: Corpus
    polarity: Vector64
    general: Section
    aspects: Mapping[str, Section] = field(default_factory=dict)
    sides: Mapping[str, Side] | None = None

    @property
    def coverage(self) -> float:
        """Return the share of reviews that support a sentence of the general summary."""
        supporters = {int(review) for pick in self.general.picks for review in pick.reviews}
        return len(supporters) / max(1, len(self.corpus.reading.reviews))


def answer(
    corpus: Corpus,
    bearings: Bearings,
    options: Options,
    aspects: Mapping[str, Aspect],
    *,
    k: int,
    split_sentiment: bool,
    progress: Progress,
) -> Answer:
    """Return all summaries that were asked for.

    Args:
        corpus: reviews.
        bearings: of the encoder that embedded them.
        options: of every summary.
        aspects: by name.
        k: neighbours of each statement in the graph of one aspect or side.
        split_sentiment: whether praise and complaint get a summary each.
        progress: told how far it is.
    """
    if not corpus.statements.count:
        nothing = Side(NO_SENTENCES, 0, 0)
        return Answer(
            corpus,
            np.empty(0),
            NO_SENTENCES,
            dict.fromkeys(aspects, NO_SENTENCES),
            {"positive": nothing, "negative": nothing} if split_sentiment else None,
        )
    if options.radius is None:
        options = replace(options, radius=bearings.radius)
    polarity = polarities(corpus.statements.vectors, bearings.axis, ratings=corpus.ratings)

    def part(rows: Ids64, near: Vector64 | None = None) -> Section:
        if not len(rows):
            return NO_SUPPORT
        view = view_some(corpus, polarity, rows, k=k, closeness=near, progress=progress)
        return summarize(view, options, progress)

    def about(aspect: Aspect) -> Section:
        near = closeness(corpus.statements.vectors, aspect.vectors, bearings.background)
        stems = [fact.stems for fact in corpus.reading.facts.values()]
        return part(np.flatnonzero((near >= CLOSE) | names_seed(stems, aspect.stems)), near)

    def side(sign: int) -> Side:
        rows = np.flatnonzero(sign * polarity >= NEUTRAL)
        reviews = corpus.statements.reviews_saying(rows)
        return Side(part(rows), len(reviews), len(rows))

    return Answer(
        corpus,
        polarity,
        summarize(view_all(corpus, polarity), options, progress, means=corpus.mean_distances),
        {name: about(aspect) for name, aspect in aspects.items()},
        {"positive": side(1), "negative": side(-1)} if split_sentiment else None,
    )
