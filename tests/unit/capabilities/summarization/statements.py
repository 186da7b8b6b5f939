"""Make statements out of a few texts and vectors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from service.capabilities.summarization.numerics.statements import (
    Statements,
    count_terms,
    mark_said,
)
from service.capabilities.summarization.numerics.words import (
    count_words,
    personal_share,
    stems_of,
)
from service.numerics.dtypes import Matrix32
from service.numerics.vectors import unit_rows


def make_statements(
    texts: Sequence[str], said_by: Sequence[Sequence[int]], vectors: Matrix32 | None = None
) -> Statements:
    """Return statements; `said_by` lists the reviews of each text."""
    if vectors is None:
        vectors = np.random.default_rng(7).normal(size=(len(texts), 8)).astype(np.float32)
    reviews = np.array([review for each in said_by for review in each], dtype=np.int64)
    rows = np.array([row for row, each in enumerate(said_by) for _ in each], dtype=np.int64)
    return Statements(
        vectors=unit_rows(vectors),
        words=np.array([count_words(text) for text in texts], dtype=np.int64),
        terms=count_terms([stems_of(text) for text in texts]),
        personal=np.array([personal_share(text, "en") for text in texts]),
        said=mark_said(reviews, rows, shape=(int(reviews.max()) + 1, len(texts))),
    )
