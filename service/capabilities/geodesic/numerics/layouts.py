"""Read clusters and a map off the distances along a graph."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from service.numerics.dtypes import Bools, Ids32, Matrix32, Matrix64, Progress
from service.numerics.graphs import Graph, components
from service.numerics.neighbours import silent
from service.numerics.paths import all_pairs, distances_from

_LANDMARKS = 256
_PLANE = 2
NOISE = -1


def geodesic_matrix(graph: Graph, alive: Bools, *, progress: Progress = silent) -> Matrix64:
    """Return the distances between living rows; where there is no path, twice the longest one.

    Clustering needs a number for every pair, and that one keeps components apart.
    """
    rows = np.flatnonzero(alive)
    lengths = all_pairs(graph, progress=progress).lengths[np.ix_(rows, rows)].astype(np.float64)
    finite = np.isfinite(lengths)
    lengths[~finite] = 2 * lengths[finite].max(initial=0.0) or 1.0
    return lengths


def density_clusters(lengths: Matrix64, *, min_cluster_size: int) -> Ids32:
    """Return (n,) int32 labels of dense regions, -1 for rows in none.

    Source: Campello et al. 2013, "Density-based clustering based on hierarchical density
    estimates".
    """
    from sklearn.cluster import HDBSCAN  # a second, paid by the first clustering

    if len(lengths) < min_cluster_size:
        return np.full(len(lengths), NOISE, np.int32)
    found = HDBSCAN(min_cluster_size=min_cluster_size, metric="precomputed", copy=False)
    labels: Ids32 = found.fit_predict(lengths).astype(np.int32)
    return labels


def merged_clusters(lengths: Matrix64, *, clusters: int) -> Ids32:
    """Return (n,) int32 labels after merging the pairs of clusters that are nearest on average.

    Args:
        lengths: (n, n) distances.
        clusters: how many are left, 1 ≤ clusters ≤ n.
    """
    from sklearn.cluster import AgglomerativeClustering

    if clusters >= len(lengths):
        return np.arange(len(lengths), dtype=np.int32)
    model = AgglomerativeClustering(clusters, metric="precomputed", linkage="average")
    labels: Ids32 = model.fit_predict(lengths).astype(np.int32)
    return labels


@dataclass(frozen=True, slots=True)
class Layout:
    """Hold a map.

    Attributes:
        places: (n, 2) float32; NaN for rows that are not on it.
        explained: share of the squared distances between landmarks that two axes keep, 0 to 1.
    """

    places: Matrix32
    explained: float


def plane_map(graph: Graph, alive: Bools, *, progress: Progress = silent) -> Layout:
    """Return a map of the largest component: straight lines on it are like ways along the graph.

    It is Isomap: classical scaling of the distances between landmarks, and every other row placed
    by its distances to them. Up to 256 rows all are landmarks. Rows of other components are not on
    it: nothing says how far away they are.

    Sources: Tenenbaum et al. 2000, "A global geometric framework for nonlinear dimensionality
    reduction"; de Silva and Tenenbaum 2004, "Sparse multidimensional scaling using landmark
    points".
    """
    places = np.full((graph.count, _PLANE), np.nan, np.float32)
    labels = components(graph)[1]
    if not alive.any():
        return Layout(places, 1.0)
    rows = np.flatnonzero(labels == np.bincount(labels[alive]).argmax())
    chosen = rows[np.unique(np.linspace(0, len(rows) - 1, _LANDMARKS).astype(int))]
    lengths = distances_from(graph, chosen.astype(np.int32), progress=progress)[:, rows]
    squares = lengths.astype(np.float64) ** 2
    among = squares[:, np.searchsorted(rows, chosen)]
    means = among.mean(axis=0)
    centred = -0.5 * (among - means - means[:, np.newaxis] + means.mean())
    values, axes = np.linalg.eigh((centred + centred.T) / 2)
    widest = np.argsort(values)[::-1][:_PLANE]
    kept, axes = values[widest], axes[:, widest]
    axes *= np.where(axes[np.abs(axes).argmax(axis=0), np.arange(len(widest))] < 0, -1, 1)
    scale = np.where(kept > 0, 1 / np.sqrt(np.maximum(kept, np.finfo(float).tiny)), 0.0)
    found = -0.5 * (squares - means[:, np.newaxis]).T @ (axes * scale)
    places[rows] = 0.0
    places[rows, : len(widest)] = found
    total = values[values > 0].sum()
    return Layout(places, float(kept[kept > 0].sum() / total) if total else 1.0)
