"""Hold the distinct sentences of a set of reviews as arrays.

```
reviews        "Great room. Loud."   "Great room."       said      0 1
mentions            a         b           a         ─►   review 0  1 1
statements     a, b: each distinct sentence once         review 1  1 0
```

A sentence that a hundred reviews repeat is one statement with a hundred mentions: it is one node
of the graph, and duplicates cannot wall each other off from the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from service.numerics.dtypes import Ids32, Ids64, Matrix32, Vector64


@dataclass(frozen=True, slots=True)
class Statements:
    """Hold n distinct sentences of r reviews, in an order that depends on their text alone.

    Attributes:
        vectors: (n, d) float32 of length 1.
        words: (n,) int64.
        terms: (n, vocabulary) int32 counts of stems.
        personal: (n,) float64 share of first-person words.
        said: (r, n) int32, 1 where a review says it.
    """

    vectors: Matrix32
    words: Ids64
    terms: csr_array
    personal: Vector64
    said: csr_array

    @property
    def count(self) -> int:
        """Return n."""
        return len(self.words)

    @property
    def mentions(self) -> Ids64:
        """Return (n,) int64: how many reviews say each."""
        return np.asarray(self.said.sum(axis=0), dtype=np.int64)

    def of(self, rows: Ids64) -> Statements:
        """Return some of the statements; the reviews stay the same."""
        return Statements(
            vectors=np.ascontiguousarray(self.vectors[rows]),
            words=self.words[rows],
            terms=self.terms[rows],
            personal=self.personal[rows],
            said=self.said[:, rows],
        )

    def reviews_saying(self, rows: Ids32 | Ids64) -> Ids64:
        """Return the reviews, rising, that say at least one of some statements."""
        told = np.asarray(self.said[:, rows].sum(axis=1))
        return np.flatnonzero(told)


def count_terms(stems: Sequence[Sequence[str]]) -> csr_array:
    """Return (n, vocabulary) int32 counts of stems, columns in order of first use.

    Args:
        stems: the stems of each statement.
    """
    columns: dict[str, int] = {}
    indices = [columns.setdefault(stem, len(columns)) for each in stems for stem in each]
    ends = np.cumsum([0, *map(len, stems)])
    counts = csr_array(
        (np.ones(len(indices), np.int32), np.array(indices, np.int32), ends),
        shape=(len(stems), max(1, len(columns))),
    )
    counts.sum_duplicates()
    return counts


def mark_said(reviews: Ids64, rows: Ids64, *, shape: tuple[int, int]) -> csr_array:
    """Return (r, n) int32, 1 where a review has at least one mention of a statement.

    Args:
        reviews: (m,) review of each mention.
        rows: (m,) statement of each mention.
        shape: reviews, statements.
    """
    said = csr_array((np.ones(len(rows), np.int32), (reviews, rows)), shape=shape)
    said.sum_duplicates()
    said.data[:] = 1
    return said
