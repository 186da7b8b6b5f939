"""Score statements: the higher, the more it says what all say.

| strategy | score |
|---|---|
| `centroid` | cosine to the mean vector of all mentions |
| `lexrank` | PageRank over tf-idf cosines; Erkan & Radev 2004, continuous form |
| `centrality` | minus the mean distance to all mentions |
| `consensus` | mean of three ranks: centrality, shared words, impersonal wording |

Ranks, not raw scores, are averaged: they need no scale, whatever the encoder.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array, diags_array
from scipy.stats import rankdata

from service.capabilities.summarization.numerics.statements import Statements
from service.numerics.dtypes import Vector64

_DAMPING = 0.85
_MOST_STEPS = 100
_ENOUGH = 1e-10


def ranks(scores: Vector64) -> Vector64:
    """Return (rank - 1/2) / n of each score, 1/n apart and rising; equal scores share their mean.

    Example: [3, 1, 3] gives [2/3, 1/6, 2/3].
    """
    places: Vector64 = (rankdata(scores) - 0.5) / max(1, len(scores))
    return places


def centroid_scores(statements: Statements) -> Vector64:
    """Return the cosine of each statement to the mean vector of all mentions.

    A mean of length 0 points nowhere: then all score 0.
    """
    mean = statements.mentions @ statements.vectors.astype(np.float64)
    length = np.linalg.norm(mean)
    if length == 0:
        return np.zeros(statements.count)
    scores: Vector64 = statements.vectors.astype(np.float64) @ (mean / length)
    return scores


def shared_words(statements: Statements) -> Vector64:
    """Return the mean, over a statement's words, of the share of reviews that use the word.

    s(i) = Σ_w tf(i, w) · df(w) / Σ_w tf(i, w), where df counts a review once, however long it is.
    """
    used = (statements.said @ (statements.terms > 0).astype(np.int32)) > 0
    reviews = max(1, int(np.count_nonzero(statements.said.sum(axis=1))))
    share = np.asarray(used.sum(axis=0), dtype=np.float64) / reviews
    lengths = np.asarray(statements.terms.sum(axis=1), dtype=np.float64)
    scores: Vector64 = (statements.terms @ share) / np.maximum(lengths, 1)
    return scores


def lexrank_scores(statements: Statements) -> Vector64:
    """Return the stationary share of a walk that steps to statements with like words.

    p = (1 - d)/n + d Pᵀp, where P(i, j) is the tf-idf cosine of i and j over the sum of its row.
    The matrix of cosines is never formed: S p = T(Tᵀp) - p with unit rows T. A statement is as
    heavy as its mentions. A row without likeness spreads evenly.
    """
    count = statements.count
    weights = statements.mentions.astype(np.float64)
    rows = _unit_tfidf(statements)
    own = np.asarray(rows.multiply(rows).sum(axis=1))

    def likeness(share: Vector64) -> Vector64:
        near: Vector64 = rows @ (rows.T @ share) - own * share
        return near

    sums = likeness(weights)
    bound = sums > 1e-12  # noqa: PLR2004 - rounding of a sum of zeros
    share = np.full(count, 1 / count)
    for _ in range(_MOST_STEPS):
        given = np.where(bound, share / np.where(bound, sums, 1), 0)
        lost = share[~bound].sum()
        after = (1 - _DAMPING) / count + _DAMPING * (weights * likeness(given) + lost / count)
        moved = np.abs(after - share).sum()
        share = after
        if moved < _ENOUGH:
            break
    return share


def _unit_tfidf(statements: Statements) -> csr_array:
    """Return (n, vocabulary) float64 with tf · ln((1 + m) / (1 + df)), rows of length 1 or 0."""
    weights = statements.mentions
    holding = weights @ (statements.terms > 0).astype(np.int64)
    inverse = np.log((1 + weights.sum()) / (1 + np.asarray(holding)))
    weighted = statements.terms.astype(np.float64) @ diags_array(inverse)
    lengths = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)))
    return csr_array(diags_array(1 / np.where(lengths > 0, lengths, 1)) @ weighted)


def consensus_ranks(central: Vector64, statements: Statements) -> Vector64:
    """Return the mean of the ranks of centrality, shared words and impersonal wording.

    Args:
        central: (n,) float64, the higher the more central.
        statements: n of them.
    """
    return (ranks(central) + ranks(shared_words(statements)) + ranks(-statements.personal)) / 3
