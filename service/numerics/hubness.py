"""Find hubs, the vectors that are in everybody's list of neighbours, and similarities with fewer.

N_k(x) is how often x is among the k nearest of the others. Its mean is k. In many dimensions a few
points near the centre of the data take most places, and many points take none.

```
unit rows ─ block of cosines (b, n) ─ in a metric ─ k best of each row ─ counts (n,)
                └ k best of each row ─ neighbourhood of each point ─┘
```

Cosines are computed in float64 and rounded to 12 decimals: copies of one vector are exactly as near
as each other whatever the block, and the lower index wins.

Sources: Radovanović et al. 2010 (N_k, skewness); Feldbauer and Flexer 2019 (Robin Hood index,
mutual proximity, local scaling); Conneau et al. 2018 (CSLS).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from scipy.special import ndtr

from service.errors import DimensionMismatch, InvalidInput
from service.numerics.dtypes import Bools, Ids64, Matrix32, Matrix64, Progress, Vector32, Vector64
from service.numerics.vectors import wide_unit_rows

_BLOCK_NUMBERS = 2**21  # of one block of cosines: 16 MiB
_DECIMALS = 12
_TINY = 1e-12
_HUB_FACTOR = 2
_FEWEST = 2
USUAL_NEIGHBOURS = 10


class Metric(StrEnum):
    """Name the similarities."""

    COSINE = "cosine"
    CSLS = "csls"
    MUTUAL_PROXIMITY = "mutual_proximity"
    LOCAL_SCALING = "local_scaling"


@dataclass(frozen=True, slots=True)
class Neighbourhoods:
    """Hold what the metrics know of the surroundings of each of n points.

    Attributes:
        nearest_mean: mean cosine to the k nearest, (n,) float64.
        nearest_last: cosine to the k-th nearest, (n,) float64.
        mean: mean cosine to all others, (n,) float64.
        deviation: standard deviation of the same, (n,) float64.
    """

    nearest_mean: Vector64
    nearest_last: Vector64
    mean: Vector64
    deviation: Vector64

    def at(self, index: Any) -> Neighbourhoods:  # noqa: ANN401 - whatever numpy takes
        """Return the surroundings of some points, in the shape that the index gives."""
        return Neighbourhoods(
            self.nearest_mean[index],
            self.nearest_last[index],
            self.mean[index],
            self.deviation[index],
        )


@dataclass(frozen=True, slots=True)
class Hubness:
    """Sum up how unevenly the places in lists of neighbours are shared.

    Attributes:
        skewness: of N_k; 0 is even, above 1 is marked.
        robin_hood: Σ|N_k − k| / (2kn): share of places that would have to change hands.
        gini: Gini coefficient of N_k, 0 to 1.
        antihub_share: share of points in nobody's list.
        hub_share: share of points with N_k ≥ 2k.
        max_occurrence: largest N_k.
        centre_correlation: of N_k with the cosine to the mean; None where either is constant.
    """

    skewness: float
    robin_hood: float
    gini: float
    antihub_share: float
    hub_share: float
    max_occurrence: int
    centre_correlation: float | None


def occurrences(
    units: Matrix64, *, k: int, metrics: Sequence[Metric], progress: Progress
) -> dict[Metric, Ids64]:
    """Return N_k of every vector, by metric.

    Args:
        units: (n, d) float64, rows of length 1, n ≥ 2.
        k: neighbours in a list, 1 ≤ k ≤ n − 1; a point is not its own neighbour.
        metrics: which similarities; the cosine is answered in any case.
        progress: told the rows that are done.

    Returns:
        (n,) int64 each, with mean k.

    Raises:
        DimensionMismatch: k is not below n.
    """
    counts = {metric: np.zeros(len(units), dtype=np.int64) for metric in (Metric.COSINE, *metrics)}
    others = [metric for metric in counts if metric is not Metric.COSINE]
    total = len(units) * (1 + bool(others))
    around, counts[Metric.COSINE] = survey(units, k=k, progress=progress, total=total)
    if not others:
        return counts
    for rows, cosines in _blocks(units):
        for metric in others:
            scores = compare(cosines, around.at((rows, np.newaxis)), around, metric=metric)
            _hide_self(scores, rows)
            counts[metric] += _best(scores, k).sum(axis=0)
        progress("hubness", len(units) + rows.stop, total)
    return counts


def survey(
    units: Matrix64, *, k: int, progress: Progress, total: int
) -> tuple[Neighbourhoods, Ids64]:
    """Return what the metrics need of each point, and N_k by cosine, in one pass.

    Mean and deviation over all others need no pass over pairs: with S = Σ u uᵀ the sum of squared
    cosines of u is uᵀSu.

    Args:
        units: (n, d) float64, rows of length 1.
        k: neighbours, 1 ≤ k ≤ n − 1.
        progress: told the rows that are done, of `total`.
        total: rows of the whole undertaking.

    Raises:
        DimensionMismatch: k is not below n.
    """
    count = len(units)
    if not 1 <= k < count:
        raise DimensionMismatch(
            f"{k} neighbours were asked for and each of {count} vectors has {count - 1} others."
        )
    found = np.zeros(count, dtype=np.int64)
    nearest_mean, nearest_last = np.empty(count), np.empty(count)
    for rows, cosines in _blocks(units):
        _hide_self(cosines, rows)
        best = _best(cosines, k)
        found += best.sum(axis=0)
        nearest = cosines[best].reshape(-1, k)
        nearest_mean[rows], nearest_last[rows] = nearest.mean(axis=1), nearest.min(axis=1)
        progress("hubness", rows.stop, total)
    mean = (units @ units.sum(axis=0) - 1) / (count - 1)
    square = (np.einsum("nd,nd->n", units @ (units.T @ units), units) - 1) / (count - 1)
    deviation = np.sqrt(np.maximum(square - mean**2, 0))
    return Neighbourhoods(nearest_mean, nearest_last, mean, deviation), found


def compare(
    cosines: Matrix64, left: Neighbourhoods, right: Neighbourhoods, *, metric: Metric
) -> Matrix64:
    """Return cosines in another metric, entry by entry; larger is more alike.

    With c = cos(x, y): CSLS is 2c − r(x) − r(y), r the mean cosine to the k nearest. Mutual
    proximity is Φ((c − m(x))/s(x)) Φ((c − m(y))/s(y)), m and s being mean and deviation over all
    others: how likely either point is to find another one farther away. Local scaling is
    exp(−d²/(t(x) t(y))), d² = 2 − 2c, t the distance to the k-th nearest.

    Args:
        cosines: float64, of any shape.
        left: surroundings of the one point of each entry, in a shape that broadcasts.
        right: surroundings of the other.
        metric: the similarity wanted.
    """
    if metric is Metric.CSLS:
        return 2 * cosines - left.nearest_mean - right.nearest_mean
    if metric is Metric.MUTUAL_PROXIMITY:
        scores: Matrix64 = ndtr((cosines - left.mean) / np.maximum(left.deviation, _TINY))
        scores *= ndtr((cosines - right.mean) / np.maximum(right.deviation, _TINY))
        return scores
    if metric is Metric.LOCAL_SCALING:
        # k copies of a point leave it no distance to scale by
        mine, theirs = (
            np.sqrt(np.maximum(2 - 2 * side.nearest_last, _TINY)) for side in (left, right)
        )
        near: Matrix64 = np.exp(-np.maximum(2 - 2 * cosines, 0) / (mine * theirs))
        return near
    return cosines


def similarity_matrix(vectors: Matrix32, *, metric: Metric, k: int | None) -> Matrix32:
    """Return the similarity of every row with every row, all rows being the neighbourhood.

    Args:
        vectors: (n, d) float32, n ≥ 2.
        metric: which similarity.
        k: neighbours that a metric looks at; None for 10, or all others where fewer.

    Returns:
        (n, n) float32, symmetric.

    Raises:
        InvalidInput: there is one vector, or one that is all zeros.
        DimensionMismatch: k is not below n.
    """
    units, around = _look_around(vectors, metric=metric, k=k)
    cosines = np.round(units @ units.T, _DECIMALS)
    scores = compare(cosines, around.at(np.s_[:, np.newaxis]), around, metric=metric)
    return ((scores + scores.T) / 2).astype(np.float32)


def pair_similarities(
    vectors: Matrix32, first: Ids64, second: Ids64, *, metric: Metric, k: int | None
) -> Vector32:
    """Return the similarity of each pair of rows, all rows being the neighbourhood, (m,) float32.

    Args:
        vectors: (n, d) float32, n ≥ 2, each different text once.
        first: rows, (m,) int64.
        second: rows, (m,) int64.
        metric: which similarity.
        k: as for `similarity_matrix`.

    Raises:
        InvalidInput: there is one vector, or one that is all zeros.
        DimensionMismatch: k is not below n.
    """
    units, around = _look_around(vectors, metric=metric, k=k)
    cosines = np.round(np.einsum("md,md->m", units[first], units[second]), _DECIMALS)
    return compare(cosines, around.at(first), around.at(second), metric=metric).astype(np.float32)


def _look_around(
    vectors: Matrix32, *, metric: Metric, k: int | None
) -> tuple[Matrix64, Neighbourhoods]:
    if len(vectors) < _FEWEST:
        raise InvalidInput(
            f"{metric.value} looks at neighbours, and a single vector has none. Give at least 2 "
            "that differ, or take the cosine."
        )
    units = wide_unit_rows(vectors)
    around, _ = survey(
        units,
        k=min(USUAL_NEIGHBOURS, len(units) - 1) if k is None else k,
        progress=lambda *_: None,
        total=len(units),
    )
    return units, around


def _blocks(units: Matrix64) -> Iterator[tuple[slice, Matrix64]]:
    step = max(1, _BLOCK_NUMBERS // len(units))
    for start in range(0, len(units), step):
        rows = slice(start, min(start + step, len(units)))
        cosines = units[rows] @ units.T
        np.round(cosines, _DECIMALS, out=cosines)
        yield rows, cosines


def _hide_self(scores: Matrix64, rows: slice) -> None:
    scores[np.arange(len(scores)), np.arange(rows.start, rows.stop)] = -np.inf


def _best(scores: Matrix64, k: int) -> Bools:
    """Mark the k largest of each row; among equals the lower index."""
    last = np.partition(scores, -k, axis=1)[:, -k, np.newaxis]
    best: Bools = scores >= last
    for row in np.flatnonzero(best.sum(axis=1) > k):
        equal = np.flatnonzero(scores[row] == last[row])
        surplus = int(best[row].sum()) - k
        best[row, equal[-surplus:]] = False
    return best


def sum_up_hubness(counts: Ids64, *, k: int, centre_cosines: Vector64) -> Hubness:
    """Return the figures of N_k.

    Args:
        counts: N_k, (n,) int64, with mean k.
        k: neighbours in a list.
        centre_cosines: cosine of each vector to the mean of all, (n,) float64.
    """
    share = counts / k
    spread = counts.std()
    centred = counts - counts.mean()
    rising = np.sort(share)
    steps = np.arange(1, len(rising) + 1)
    correlates = spread > 0 and centre_cosines.std() > 0
    return Hubness(
        skewness=float((centred**3).mean() / spread**3) if spread else 0.0,
        robin_hood=float(np.abs(share - 1).mean() / 2),
        gini=float(((2 * steps - len(rising) - 1) @ rising) / (len(rising) * rising.sum())),
        antihub_share=float((counts == 0).mean()),
        hub_share=float((counts >= _HUB_FACTOR * k).mean()),
        max_occurrence=int(counts.max()),
        centre_correlation=(
            float(np.corrcoef(counts, centre_cosines)[0, 1]) if correlates else None
        ),
    )


def centre_cosines(units: Matrix64) -> Vector64:
    """Return the cosine of each of (n, d) unit rows to their mean; zeros for no mean."""
    mean = units.mean(axis=0)
    length = float(np.linalg.norm(mean))
    return units @ mean / length if length > _TINY else np.zeros(len(units))


def find_hubs(counts: Ids64, *, most: int, k: int) -> Ids64:
    """Return the indices of the vectors with N_k ≥ 2k, most frequent first, at most so many."""
    order = np.argsort(-counts, kind="stable")[:most]
    return order[counts[order] >= _HUB_FACTOR * k]
