"""Choose β, γ and the number of dimensions on labelled pairs, and say honestly what it gained.

```
pairs ─ for each β: (x − βμ) U ─ products, squares ─ @ (λ^−γ, first k) ─ cosines (pairs, cells)
cosines ┬ Spearman without fold f ─ best cell of f ─ its ranks of f's pairs ─┐
        └ Spearman on all ─ table, best              raw ranks ─ bootstrap ──┴─ interval of the gain
```

Pairs of the same two vectors stay together, in one fold and in one draw.
A fold's pairs are ranked by the cell that the other folds chose; ranks are taken among *all* pairs
of that cell, which needs no label, so that ranks of several folds can stand in one list.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.errors import Fault, InvalidInput
from service.numerics.dtypes import Ids64, Matrix32, Matrix64, Progress, Vector64
from service.numerics.seeds import generator
from service.numerics.vectors import pair_cosines
from service.numerics.whitening import Axes

RESAMPLES = 2000
_INTERVAL = (2.5, 97.5)
_BLOCK_PAIRS = 512
_BLOCK_NUMBERS = 2**20


@dataclass(frozen=True, slots=True)
class Cell:
    """Name one setting of the grid."""

    beta: float
    gamma: float
    dimensions: int


@dataclass(frozen=True, slots=True)
class Labelled:
    """Hold labelled pairs of vectors.

    Attributes:
        vectors: (n, d) float32.
        first: row of one side of each pair, (m,) int64.
        second: row of the other side, (m,) int64.
        scores: how alike people found them, (m,) float64.
    """

    vectors: Matrix32
    first: Ids64
    second: Ids64
    scores: Vector64


@dataclass(frozen=True, slots=True)
class Tuned:
    """Hold what a grid search found; correlations are Spearman's, -1 to 1.

    Attributes:
        baseline: of the raw vectors.
        cells: the grid.
        table: of each cell on all pairs; the best of many is flattered.
        best: index of the largest of `table`.
        chosen: index that the other folds chose, by fold.
        held_out: of each pair ranked by a cell that was chosen without it.
        interval: 2.5th and 97.5th percentile of held_out − baseline under resampling.
    """

    baseline: float
    cells: tuple[Cell, ...]
    table: Vector64
    best: int
    chosen: tuple[int, ...]
    held_out: float
    interval: tuple[float, float]

    @property
    def gains(self) -> bool:
        """Return whether the whole interval lies above 0."""
        return self.interval[0] > 0


def tune(
    pairs: Labelled,
    cells: Sequence[Cell],
    *,
    axes: Callable[[float], Axes],
    folds: int,
    seed: int,
    progress: Progress,
) -> Tuned:
    """Return the grid's correlations, the best cell, and the gain on pairs it was not chosen on.

    Args:
        pairs: labelled pairs, m ≥ folds.
        cells: the grid, not empty; each β costs one decomposition.
        axes: the decomposition for a β.
        folds: parts that the pairs are dealt into.
        seed: of the dealing and the resampling.
        progress: told the betas embedded in their axes, the cells ranked and the samples drawn.

    Raises:
        InvalidInput: all scores are the same, a vector is all zeros, or there are fewer than
            two different pairs a fold.
    """
    if np.ptp(pairs.scores) == 0:
        raise InvalidInput(
            f"All {len(pairs.scores)} scores are {pairs.scores[0]:g}; a rank correlation needs "
            "scores that differ.",
            faults=(Fault("/pairs", "have scores that are all the same"),),
        )
    count = len(pairs.scores)
    group = _equal_pairs(pairs)
    groups = int(group.max()) + 1
    if folds > groups // 2:
        raise InvalidInput(
            f"{groups} pairs that differ are too few for {folds} folds of at least 2. Give more "
            "pairs, or fewer folds.",
            faults=(Fault("/folds", f"{folds} is more than half of the pairs that differ"),),
        )
    raw = pair_cosines(pairs.vectors[pairs.first], pairs.vectors[pairs.second])
    cosines = _grid_cosines(pairs, cells, axes=axes, progress=progress)
    fold_of = generator(seed, "whitening", "folds").permutation(groups) % folds
    fold_of = fold_of[group]
    everyone = np.ones((1, count))
    # row 0 counts every pair, row f + 1 every pair outside of fold f
    weights = np.vstack([everyone, fold_of != np.arange(folds)[:, np.newaxis]])
    labels = Ranking.of(pairs.scores)
    correlations = np.empty((len(cells), folds + 1))
    for done, column in enumerate(cosines.T):
        correlations[done] = labels.spearman(Ranking.of(column), weights)
        progress("rank", done + 1, len(cells))
    chosen = correlations[:, 1:].argmax(axis=0)
    by_fold = np.array([Ranking.of(cosines[:, cell]).ranks(everyone)[0] for cell in chosen])
    raws, held_out = Ranking.of(raw), Ranking.of(by_fold[fold_of, np.arange(count)])
    gains = _resampled_gains(labels, raws, held_out, group=group, seed=seed, progress=progress)
    low, high = np.percentile(gains, _INTERVAL)
    return Tuned(
        baseline=float(labels.spearman(raws, everyone)[0]),
        cells=tuple(cells),
        table=correlations[:, 0],
        best=int(correlations[:, 0].argmax()),
        chosen=tuple(map(int, chosen)),
        held_out=float(labels.spearman(held_out, everyone)[0]),
        interval=(float(low), float(high)),
    )


def _grid_cosines(
    pairs: Labelled,
    cells: Sequence[Cell],
    *,
    axes: Callable[[float], Axes],
    progress: Progress,
) -> Matrix64:
    """Return the cosine of each pair in each cell, (m, cells) float64.

    In the axes of one β a cell only weighs them: by λ^−γ on the first k, by 0 on the rest. So
    the dot products of all cells of a β are one product with the table of their weights.
    """
    cosines = np.empty((len(pairs.scores), len(cells)))
    betas = sorted({cell.beta for cell in cells})
    for done, beta in enumerate(betas):
        found = axes(beta)
        columns = [column for column, cell in enumerate(cells) if cell.beta == beta]
        weights = np.zeros((len(found.eigenvalues), len(columns)))
        for place, column in enumerate(columns):
            kept = slice(cells[column].dimensions)
            weights[kept, place] = found.eigenvalues[kept] ** -cells[column].gamma
        for start in range(0, len(cosines), _BLOCK_PAIRS):
            block = slice(start, start + _BLOCK_PAIRS)
            left = (pairs.vectors[pairs.first[block]] - found.centre) @ found.directions
            right = (pairs.vectors[pairs.second[block]] - found.centre) @ found.directions
            lengths = np.sqrt((left**2 @ weights) * (right**2 @ weights))
            # a vector at the centre has no direction: it is like nothing
            with np.errstate(invalid="ignore"):
                cosines[block, columns] = np.nan_to_num((left * right) @ weights / lengths)
        progress("tune", done + 1, len(betas))
    return cosines


def _equal_pairs(pairs: Labelled) -> Ids64:
    """Return a number for each pair, the same for pairs of the same two rows, (m,) int64.

    Copies of a pair tell nothing new: dealt into several folds they would let a fold be ranked by
    what was chosen on its own pairs, and drawn one by one they would make an interval too narrow.
    """
    low, high = np.minimum(pairs.first, pairs.second), np.maximum(pairs.first, pairs.second)
    numbers: Ids64 = np.unique(low * len(pairs.vectors) + high, return_inverse=True)[1]
    return numbers


def _resampled_gains(
    labels: Ranking,
    before: Ranking,
    after: Ranking,
    *,
    group: Ids64,
    seed: int,
    progress: Progress,
) -> Vector64:
    """Return Spearman after − before on each of many samples of the groups with replacement."""
    count, groups = len(group), int(group.max()) + 1
    random = generator(seed, "whitening", "bootstrap")
    gains = []
    step = max(1, _BLOCK_NUMBERS // count)
    for start in range(0, RESAMPLES, step):
        draws = min(step, RESAMPLES - start)
        weights = random.multinomial(groups, np.full(groups, 1 / groups), size=draws)[:, group]
        gains.append(labels.spearman(after, weights) - labels.spearman(before, weights))
        progress("bootstrap", start + draws, RESAMPLES)
    return np.concatenate(gains)


@dataclass(frozen=True, slots=True)
class Ranking:
    """Hold the order of m values, so that ranks under any weights need no sorting.

    Attributes:
        group: which of the distinct values each one is, rising, (m,) int64.
        order: indices in rising order, (m,) int64.
        starts: where in that order each distinct value begins.
    """

    group: Ids64
    order: Ids64
    starts: Ids64

    @classmethod
    def of(cls, values: Vector64 | Matrix32) -> Ranking:
        """Return the ranking of (m,) values."""
        _, group = np.unique(values, return_inverse=True)
        order = np.argsort(group, kind="stable")
        starts = np.flatnonzero(np.diff(group[order], prepend=-1))
        return cls(group, order, starts)

    def ranks(self, weights: npt.NDArray[np.number]) -> Matrix64:
        """Return mean ranks where value i counts weights[i] times, (b, m) for (b, m) weights."""
        sizes = np.add.reduceat(weights[:, self.order], self.starts, axis=1, dtype=np.float64)
        middles: Matrix64 = (sizes.cumsum(axis=1) - (sizes - 1) / 2)[:, self.group]
        return middles

    def spearman(self, other: Ranking, weights: npt.NDArray[np.number]) -> Vector64:
        """Return Spearman's correlation with another ranking, (b,); 0 where one is constant."""
        total = weights.sum(axis=1, keepdims=True)
        mine, theirs = self.ranks(weights), other.ranks(weights)
        mine -= (weights * mine).sum(axis=1, keepdims=True) / total
        theirs -= (weights * theirs).sum(axis=1, keepdims=True) / total
        weighted = weights * mine
        products = np.einsum("bm,bm->b", weighted, theirs)
        lengths = np.einsum("bm,bm->b", weighted, mine) * np.einsum(
            "bm,bm->b", weights * theirs, theirs
        )
        found: Vector64 = np.zeros(len(weights))
        np.divide(products, np.sqrt(lengths), out=found, where=lengths > 0)
        return found
