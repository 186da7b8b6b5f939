"""Scores of statements, each against its formula written out in full."""

from __future__ import annotations

import numpy as np
import pytest

from service.capabilities.summarization.numerics.ranking import (
    centroid_scores,
    consensus_ranks,
    lexrank_scores,
    ranks,
    shared_words,
)
from tests.unit.capabilities.summarization.statements import make_statements

TEXTS = ["clean room", "the room is clean", "cold breakfast", "I hate cold breakfast", "parking"]
SAID = [[0, 1], [2], [0], [3], [1, 2]]


def test_ranks_are_spread_evenly_and_ties_share() -> None:
    assert ranks(np.array([3.0, 1.0, 3.0])) == pytest.approx([2 / 3, 1 / 6, 2 / 3])
    assert ranks(np.array([5.0])) == pytest.approx([0.5])


def test_shared_words_count_a_review_once() -> None:
    # clean: reviews 0, 1, 2; room: the same; the, is: review 2 alone. Four reviews.
    scores = shared_words(make_statements(TEXTS, SAID))
    assert scores[0] == pytest.approx((3 / 4 + 3 / 4) / 2)
    assert scores[1] == pytest.approx((1 / 4 + 3 / 4 + 1 / 4 + 3 / 4) / 4)
    assert scores[4] == pytest.approx(2 / 4)


def test_a_review_without_statements_has_no_vote() -> None:
    alone = make_statements(TEXTS[:2], [[5], [5]])
    assert shared_words(alone) == pytest.approx([1, 1])


def test_the_centroid_is_that_of_mentions() -> None:
    vectors = np.eye(3, dtype=np.float32)
    scores = centroid_scores(make_statements(["a", "b", "c"], [[0, 1, 2], [0], [1]], vectors))
    assert scores == pytest.approx(np.array([3, 1, 1]) / np.sqrt(11))


def test_opposite_vectors_have_no_centroid() -> None:
    vectors = np.array([[1, 0], [-1, 0]], dtype=np.float32)
    assert centroid_scores(make_statements(["a", "b"], [[0], [1]], vectors)).tolist() == [0, 0]


def test_lexrank_is_the_stationary_share_of_the_walk() -> None:
    statements = make_statements(TEXTS, SAID)
    weights = statements.mentions.astype(float)
    terms = statements.terms.toarray().astype(float)
    inverse = np.log((1 + weights.sum()) / (1 + weights @ (terms > 0)))
    rows = terms * inverse
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    likeness = rows @ rows.T * weights
    likeness -= np.diag(np.diag(rows @ rows.T)) * weights[:, None]
    walk = np.full_like(likeness, 1 / len(TEXTS))
    for row, sums in enumerate(likeness.sum(axis=1)):
        if sums > 1e-12:
            walk[row] = likeness[row] / sums
    google = 0.15 / len(TEXTS) + 0.85 * walk
    values, vectors = np.linalg.eig(google.T)
    share = np.real(vectors[:, np.argmax(np.real(values))])
    assert lexrank_scores(statements) == pytest.approx(share / share.sum(), abs=1e-8)


def test_lexrank_of_one_statement_is_everything() -> None:
    assert lexrank_scores(make_statements(["alone"], [[0]])) == pytest.approx([1])


def test_consensus_is_the_mean_of_three_ranks() -> None:
    statements = make_statements(TEXTS, SAID)
    central = np.array([5.0, 4, 3, 2, 1])
    expected = (ranks(central) + ranks(shared_words(statements)) + ranks(-statements.personal)) / 3
    found = consensus_ranks(central, statements)
    assert found == pytest.approx(expected)
    assert np.argmin(found) == 3  # far from all, said by few, and about the reviewer
