"""Reading reviews, and growing what was read."""

from __future__ import annotations

import numpy as np
import pytest

from service.capabilities.summarization.corpus import Corpus, Review, assemble, digest, read
from service.capabilities.summarization.numerics.manifold import Distance
from service.capabilities.summarization.options import Options, Strategy
from service.capabilities.summarization.shelf import Kept, Shelf
from service.capabilities.summarization.summary import summarize, view_all
from service.errors import TooManyItems
from service.numerics.distances import Metric, prepare
from service.numerics.dtypes import Progress
from service.numerics.neighbours import silent


def corpus_of(
    reviews: list[Review], before: Corpus | None = None, progress: Progress = silent
) -> Corpus:
    reading = read(reviews, "en", max_sentences=500, before=before.reading if before else None)
    drawn = [
        np.random.default_rng(int.from_bytes(key, "little")).normal(size=5) for key in reading.texts
    ]
    vectors = prepare(np.array(drawn, np.float32), Metric.ANGULAR)
    tokens = np.ones(len(vectors), np.int64)
    return assemble(reading, vectors, tokens, k=4, progress=progress, before=before)


def test_a_sentence_said_twice_is_one_statement() -> None:
    reading = read([Review("Good. Loud. Good.", "a"), Review("Loud.", "b")], None, max_sentences=9)
    assert sorted(reading.texts.values()) == ["Good.", "Loud."]
    assert list(reading.texts) == sorted(map(digest, ["Good.", "Loud."]))
    spans = [[(each.start, each.end) for each in found] for found in reading.sentences]
    assert spans == [[(0, 5), (6, 11), (12, 17)], [(0, 5)]]
    corpus = corpus_of([Review("Good. Loud. Good.", "a"), Review("Loud.", "b")])
    place = list(corpus.reading.texts.values()).index("Good.")
    assert corpus.statements.mentions[place] == 1  # one review, however often it says so
    assert corpus.statements.mentions[1 - place] == 2


def test_ratings_are_the_mean_of_those_who_rate() -> None:
    corpus = corpus_of([Review("Good.", "a", 5), Review("Good.", "b", 2), Review("Bad.", "c")])
    texts = list(corpus.reading.texts.values())
    assert corpus.ratings[texts.index("Good.")] == pytest.approx(3.5)
    assert np.isnan(corpus.ratings[texts.index("Bad.")])


def test_too_many_sentences_are_refused() -> None:
    with pytest.raises(TooManyItems, match="more than 2 sentences"):
        read([Review("One. Two. Three.", "a")], None, max_sentences=2)


@pytest.mark.parametrize("gone", [0, 1])
def test_growing_by_a_review_is_mended_and_equal_to_starting_over(gone: int) -> None:
    reviews = [Review(f"Thing {n} is fine. Part {n} is bad.", str(n)) for n in range(40)]
    before = corpus_of(reviews)
    before.mean_distances(Distance.GEODESIC, silent)
    now = [*reviews[gone:], Review("Something new. Part 3 is bad.", "new")]
    grown, fresh = corpus_of(now, before), corpus_of(now)
    assert Distance.GEODESIC in grown.tables  # mended, not left for later
    assert np.array_equal(
        grown.mean_distances(Distance.GEODESIC, silent),
        fresh.mean_distances(Distance.GEODESIC, silent),
    )
    assert grown.manifold is not None
    assert fresh.manifold is not None
    assert np.array_equal(grown.manifold.graph.targets, fresh.manifold.graph.targets)
    assert grown.reading == fresh.reading


def test_the_shelf_gives_up_what_was_unused_longest() -> None:
    corpora = [Kept(corpus_of([Review(f"Word {n}.", "a")])) for n in range(3)]
    shelf = Shelf(2 * corpora[0].corpus.cost + 100)
    for name, each in zip((b"a", b"b"), corpora, strict=False):
        shelf.keep(name, each)
    assert shelf.find(b"a") is corpora[0]
    shelf.keep(b"c", corpora[2])
    assert shelf.find(b"b") is None
    assert shelf.find(b"a") is corpora[0]
    assert shelf.find(b"c") is corpora[2]


def test_a_shelf_of_nothing_keeps_nothing() -> None:
    shelf = Shelf(0)
    shelf.keep(b"a", Kept(corpus_of([Review("Word.", "a")])))
    assert shelf.find(b"a") is None


@pytest.mark.parametrize("stage", ["neighbours", "distances", "coverage", "select"])
def test_every_long_stage_lets_go_when_nobody_waits(stage: str) -> None:
    class Left(Exception):  # noqa: N818 - a client that left
        pass

    def progress(at: str, done: int, total: int) -> None:
        if at == stage:
            raise Left

    reviews = [Review(f"Thing {n} is fine here. Part {n} is bad there.", str(n)) for n in range(30)]
    options = Options(strategy=Strategy.COVERAGE if stage == "coverage" else Strategy.CONSENSUS)
    with pytest.raises(Left):  # noqa: PT012 - either line may raise
        corpus = corpus_of(reviews, progress=progress)
        summarize(view_all(corpus, np.zeros(corpus.statements.count)), options, progress)
