"""Choose statements one by one until the budget is full."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from service.capabilities.summarization.numerics.manifold import Distance, Manifold, distances_of
from service.numerics.dtypes import Bools, Ids64, Matrix32, Progress, Vector64
from service.numerics.neighbours import silent

# Rows of the kernel of coverage: 512 · 20,000 float32 are 41 MB.
MOST_COVERING = 512
_STEP = 32


class Worth(Protocol):
    """Say what each statement would add to those chosen so far."""

    def scores(self) -> Vector64:
        """Return (n,) float64, the higher the better."""
        ...

    def take(self, row: int) -> None:
        """Note that a statement was chosen."""
        ...


class Relevance:
    """Weigh relevance against likeness to what is chosen (maximal marginal relevance).

    worth(i) = relevance(i) - redundancy · max over chosen j of likeness(i, j), where
    likeness = max(0, (cos - c) / (1 - c)) and c is the mean cosine of all pairs: encoders differ in
    the cosine that they give to unrelated sentences, from 0.1 to 0.8.

    Args:
        relevance: (n,) float64, ranks of 0 to 1.
        vectors: (n, d) float32 of length 1.
        redundancy: weight of likeness; 0 lets the summary repeat itself.

    Source: Carbonell & Goldstein 1998.
    """

    def __init__(self, relevance: Vector64, vectors: Matrix32, *, redundancy: float) -> None:
        self._relevance = relevance
        self._vectors = vectors
        self._redundancy = redundancy
        self._likeness = np.zeros(len(relevance))
        mean = vectors.mean(axis=0, dtype=np.float64)
        self._usual = min(float(mean @ mean), 1 - 1e-6)

    def scores(self) -> Vector64:
        """Return relevance less the penalty."""
        return self._relevance - self._redundancy * self._likeness

    def take(self, row: int) -> None:
        """Raise the likeness of what resembles `row`."""
        cosines = (self._vectors @ self._vectors[row]).astype(np.float64)
        likeness = (cosines - self._usual) / (1 - self._usual)
        np.maximum(self._likeness, likeness, out=self._likeness)


class Coverage:
    """Weigh how much better all mentions are represented (facility location).

    F(S) = Σ_j w(j) · max over i in S of exp(-g(i, j)² / 2σ²), where Σ w = 1, and
    worth(i) = F(S + i) - F(S). F is submodular: the greedy choice is within 1 - 1/e of the
    best of that size.

    Args:
        manifold: of n statements; σ is its median edge.
        weights: (n,) times each statement is said.
        rows: candidates, at most `MOST_COVERING`; others are never worth anything.
        distance: along the graph, or straight.
        progress: told the candidates done.

    Source: Lin & Bilmes 2011; the kernel is ours.
    """

    def __init__(
        self,
        manifold: Manifold,
        weights: Ids64,
        rows: Ids64,
        *,
        distance: Distance,
        progress: Progress = silent,
    ) -> None:
        self._rows = rows
        self._weights = weights / weights.sum()
        self._kernel = np.empty((len(rows), len(weights)), np.float32)
        width = 2 * max(manifold.edge, 1e-3) ** 2
        for first in range(0, len(rows), _STEP):
            progress("coverage", first, len(rows))
            part = rows[first : first + _STEP].astype(np.int32)
            apart = distances_of(manifold, part, distance=distance)
            self._kernel[first : first + _STEP] = np.exp(-(apart**2) / width)
        self._covered = np.zeros(len(weights), np.float32)

    def scores(self) -> Vector64:
        """Return the gains; minus infinity for what is no candidate."""
        gains = np.full(len(self._weights), -np.inf)
        for place, row in enumerate(self._rows):
            gains[row] = np.maximum(self._kernel[place] - self._covered, 0) @ self._weights
        return gains

    def take(self, row: int) -> None:
        """Count what `row` represents as covered."""
        place = int(np.flatnonzero(self._rows == row)[0])
        np.maximum(self._covered, self._kernel[place], out=self._covered)


def choose(
    worth: Worth,
    *,
    allowed: Bools,
    costs: Ids64,
    budget: int,
    accept: Callable[[int], bool],
) -> list[tuple[int, float]]:
    """Return the chosen statements, best first, with what each was worth when it was chosen.

    Each step takes the best one that still fits, ties by order; it ends when nothing fits.

    Args:
        worth: what each would add.
        allowed: (n,) whether a statement may be chosen.
        costs: (n,) words, tokens, or ones.
        budget: in the unit of the costs.
        accept: asked last, since it may cost much; a refused statement is not asked about again.
    """
    open_ = allowed & (costs <= budget)
    chosen: list[tuple[int, float]] = []
    left = budget
    scores = worth.scores()
    while open_.any():
        row = int(np.argmax(np.where(open_, scores, -np.inf)))
        if scores[row] == -np.inf:
            break
        open_[row] = False
        if not accept(row):
            continue
        chosen.append((row, float(scores[row])))
        left -= int(costs[row])
        open_ &= costs <= left
        worth.take(row)
        scores = worth.scores()
    return chosen
