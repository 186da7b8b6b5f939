"""Promises of summaries that hold for any reviews."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from service.capabilities.summarization.corpus import Corpus, Review, assemble, digest, read
from service.capabilities.summarization.numerics.manifold import (
    Distance,
    build_manifold,
    distance_table,
    grow_neighbours,
)
from service.capabilities.summarization.numerics.repair import mend_table
from service.capabilities.summarization.options import Options, Strategy
from service.capabilities.summarization.splitting import split_sentences
from service.capabilities.summarization.summary import summarize, view_all
from service.numerics.distances import Metric, prepare
from service.numerics.dtypes import Matrix32
from service.numerics.neighbours import silent

PHRASES = ["Great room", "The food was cold", "I liked it a lot", "房间很干净", "Too loud at night"]
ENDS = [". ", "! ", "?! ", "。", "\n\n", " ... "]
PIECES = st.lists(st.sampled_from([*PHRASES, *ENDS, "<b>", "\x00", "😀"]), max_size=12)
TEXTS = PIECES.map("".join)


def vector_of(key: bytes) -> np.ndarray:
    """Return a vector that follows from a text."""
    return np.random.default_rng(int.from_bytes(key, "little")).normal(size=6)


def corpus_of(reviews: list[Review], before: Corpus | None = None) -> Corpus:
    reading = read(reviews, None, max_sentences=1000, before=before.reading if before else None)
    drawn = np.array([vector_of(key) for key in reading.texts], np.float32).reshape(-1, 6)
    vectors = prepare(drawn, Metric.ANGULAR) if len(drawn) else drawn
    tokens = np.ones(len(drawn), np.int64)
    return assemble(reading, vectors, tokens, k=3, progress=silent, before=before)


@given(
    text=st.one_of(TEXTS, st.text(max_size=60)), language=st.sampled_from([None, "en", "zh", "xx"])
)
def test_every_sentence_is_an_exact_part_and_none_overlaps(text: str, language: str | None) -> None:
    last = 0
    for start, end in split_sentences(text, language):
        assert last <= start < end <= len(text)
        assert text[start:end] == text[start:end].strip()
        last = end


@given(texts=st.lists(TEXTS, min_size=1, max_size=8), order=st.randoms(use_true_random=False))
@settings(deadline=None)
def test_any_order_of_the_reviews_gives_the_same_numbers(texts: list[str], order: object) -> None:
    reviews = [Review(text, str(number)) for number, text in enumerate(texts)]
    shuffled = reviews.copy()
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = corpus_of(reviews), corpus_of(shuffled)
    assert one.reading == other.reading
    for strategy in Strategy:
        if not one.statements.count:
            return
        options = Options(strategy=strategy, budget=20)
        picks = [
            summarize(view_all(each, np.zeros(each.statements.count)), options, silent)
            for each in (one, other)
        ]
        assert [(p.row, p.score) for p in picks[0].picks] == [
            (p.row, p.score) for p in picks[1].picks
        ]
        assert picks[0].used <= 20


@given(
    before=st.lists(TEXTS, min_size=1, max_size=8),
    after=st.lists(TEXTS, max_size=3),
    gone=st.integers(0, 3),
)
@settings(deadline=None)
def test_a_grown_corpus_is_that_from_scratch(
    before: list[str], after: list[str], gone: int
) -> None:
    old = [Review(text, f"old {number}") for number, text in enumerate(before)]
    now = old[gone:] + [Review(text, f"new {number}") for number, text in enumerate(after)]
    first = corpus_of(old)
    if first.manifold is not None:
        first.mean_distances(Distance.GEODESIC, silent)
    grown, fresh = corpus_of(now, first), corpus_of(now)
    assert grown.reading == fresh.reading
    assert np.array_equal(grown.statements.vectors, fresh.statements.vectors)
    assert (grown.statements.said != fresh.statements.said).nnz == 0
    if fresh.manifold is not None and grown.manifold is not None:
        assert np.array_equal(grown.manifold.graph.lengths, fresh.manifold.graph.lengths)
        assert np.array_equal(
            grown.mean_distances(Distance.GEODESIC, silent),
            fresh.mean_distances(Distance.GEODESIC, silent),
        )


@given(
    seed=st.integers(0, 2**32),
    count=st.integers(30, 120),
    k=st.integers(1, 6),
    changes=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    twins=st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_mended_paths_and_grown_neighbours_are_those_from_scratch(
    seed: int, count: int, k: int, changes: tuple[int, int], twins: bool
) -> None:
    rng = np.random.default_rng(seed)
    drawn = prepare(rng.normal(size=(count + 3, 4)).astype(np.float32), Metric.ANGULAR)
    if twins:
        drawn[1] = drawn[2] = drawn[0]
    gone, come = changes
    whole = np.arange(count + 3)
    old = np.sort(rng.choice(whole, count, replace=False))
    new = np.setdiff1d(whole, old)[:come]
    now = np.sort(np.concatenate([rng.permutation(old)[gone:], new]))
    place = {int(row): at for at, row in enumerate(now)}
    kept = np.array([place.get(int(row), -1) for row in old])
    added = np.array([place[int(row)] for row in np.sort(new)], dtype=np.int64)

    def vectors(rows: np.ndarray) -> Matrix32:
        return np.ascontiguousarray(drawn[rows])

    before, fresh = build_manifold(vectors(old), k=k), build_manifold(vectors(now), k=k)
    near = grow_neighbours(before.neighbours, vectors(now), kept=kept, added=added, k=k)
    assert np.array_equal(near.indices, fresh.neighbours.indices)
    assert np.array_equal(near.distances, fresh.neighbours.distances)
    table = distance_table(before, distance=Distance.GEODESIC)
    mended = mend_table(table, before, fresh, kept=kept, landmarks=len(now))
    assert np.array_equal(mended, distance_table(fresh, distance=Distance.GEODESIC))


@given(text=st.text(max_size=30))
def test_a_digest_names_any_text(text: str) -> None:
    assert len(digest(text)) == 16
