"""Choose neighbours among the nearest so that hubs are in fewer lists than the distance alone says.

A row that is near to everybody is discounted by how near its own surroundings are: of a shortlist
of the nearest, those stay whose similarity stands out from what both ends are used to (CSLS). Edges
keep the length of the metric, so that paths remain sums of distances.

Source: Conneau et al. 2018, "Word translation without parallel data", section 2.3.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np

from service.numerics.distances import Metric
from service.numerics.dtypes import Matrix64
from service.numerics.neighbours import Neighbours

# Three times the neighbours wanted choose as all rows do, within 0.003 of the far-pair area.
_WIDER = 3


class Hubness(StrEnum):
    """Name what is done about hubs before rows are joined."""

    NONE = "none"
    CSLS = "csls"


def shortlist_size(k: int, hubness: Hubness) -> int:
    """Return how many of the nearest have to be known to choose k neighbours."""
    return k if hubness is Hubness.NONE else _WIDER * k


def choose_neighbours(
    nearest: Neighbours, *, k: int, metric: Metric, hubness: Hubness
) -> Neighbours:
    """Return the k neighbours of each row, still nearest first.

    With s the similarity (a cosine, or the length with the other sign) and r the mean similarity to
    the k nearest, those of largest 2 s(x, y) - r(x) - r(y) stay; among equals the nearer.

    Args:
        nearest: (n, w) of `shortlist_size`; an index of -1 stands for none.
        k: how many to keep, at most w are.
        metric: of the distances.
        hubness: what is done about hubs.
    """
    if hubness is Hubness.NONE or nearest.indices.shape[1] <= k:
        return nearest
    there = nearest.indices >= 0
    alike = _similarities(nearest, metric)
    known = there[:, :k].sum(axis=1)
    usual = alike[:, :k].sum(axis=1, where=there[:, :k]) / np.maximum(known, 1)
    scores = np.where(there, 2 * alike - usual[nearest.indices], -np.inf)
    chosen = np.sort(np.argsort(-scores, axis=1, kind="stable")[:, :k], axis=1)
    return Neighbours(
        np.take_along_axis(nearest.indices, chosen, axis=1),
        np.take_along_axis(nearest.distances, chosen, axis=1),
    )


def _similarities(nearest: Neighbours, metric: Metric) -> Matrix64:
    lengths = np.where(nearest.indices >= 0, nearest.distances, 0).astype(np.float64)
    return np.cos(lengths) if metric is Metric.ANGULAR else -lengths
