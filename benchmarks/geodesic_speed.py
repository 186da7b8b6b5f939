"""Measure neighbours, paths and all pairs beside faiss, scikit-learn and scipy; one thread each.

Every figure is a ratio of processor time, the contestants taking turns; the median counts.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from functools import partial

import faiss
import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra, floyd_warshall
from sklearn.manifold import Isomap
from sklearn.neighbors import NearestNeighbors

from benchmarks.results import Bar, median_bar
from service.numerics.distances import Metric
from service.numerics.dtypes import Matrix32
from service.numerics.graphs import Graph, bridge_components, neighbour_graph
from service.numerics.neighbours import Neighbours, nearest_neighbours
from service.numerics.paths import all_pairs, distances_from, nearest_by_path

DIMENSIONS = 384
K = 10
Take = Callable[[], object]


def clustered(count: int, *, seed: int = 1) -> Matrix32:
    """Return unit vectors of low rank in clusters, as sentence embeddings are: (count, 384)."""
    draw = np.random.default_rng(seed)
    rank, centres = 24, max(8, count // 50)
    middle = draw.normal(size=(centres, rank)).astype(np.float32)
    widen = draw.normal(size=(rank, DIMENSIONS)).astype(np.float32)
    rows = np.empty((count, DIMENSIONS), np.float32)
    for first in range(0, count, 50_000):
        part = rows[first : first + 50_000]
        inner = middle[draw.integers(0, centres, len(part))]
        inner = inner + 0.7 * draw.normal(size=inner.shape).astype(np.float32)
        part[:] = inner @ widen + 0.8 * draw.normal(size=part.shape).astype(np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return rows


def ratios(ours: Take, theirs: Take, *, rounds: int, repeat: int = 1) -> list[float]:
    """Return our processor time over theirs, once a round, both warmed before."""
    ours(), theirs()
    return [seconds(ours, repeat) / seconds(theirs, repeat) for _ in range(rounds)]


def seconds(take: Take, repeat: int = 1) -> float:
    """Return the processor time of one call."""
    gc.collect()
    started = time.process_time()
    for _ in range(repeat):
        take()
    return (time.process_time() - started) / repeat


def to_scipy(graph: Graph) -> csr_matrix:
    """Return a graph as scipy reads it."""
    shape = (graph.count, graph.count)
    return csr_matrix(
        (graph.lengths.astype(np.float64), graph.targets, graph.offsets.astype(np.int32)), shape
    )


def connected(vectors: Matrix32) -> tuple[Neighbours, Graph]:
    """Return the neighbours of rows and a graph of them in one piece."""
    found = nearest_neighbours(vectors, k=K, metric=Metric.ANGULAR)
    graph = bridge_components(neighbour_graph(found), vectors, metric=Metric.ANGULAR)
    return found, graph


def exact_bars() -> list[Bar]:
    """Return how far distances are from scipy's and scikit-learn's, and lists from faiss's."""
    faiss.omp_set_num_threads(1)
    vectors = clustered(2000)
    found, graph = connected(vectors)
    ours = all_pairs(graph).lengths.astype(np.float64)
    theirs = floyd_warshall(to_scipy(connected(vectors[:600])[1]))
    small = all_pairs(connected(vectors[:600])[1]).lengths
    draw = np.random.default_rng(0)
    points = draw.normal(size=(800, 3)).astype(np.float32)
    isomap = Isomap(n_neighbors=K, n_components=2).fit(points)
    mesh = neighbour_graph(nearest_neighbours(points, k=K, metric=Metric.EUCLIDEAN))
    index = faiss.IndexFlatL2(DIMENSIONS)
    index.add(vectors)
    same = index.search(vectors, K + 1)[1]
    hits = sum(
        len(set(one.tolist()) & set(other.tolist()))
        for one, other in zip(found.indices, same, strict=True)
    )
    apart = {
        "Floyd–Warshall, n = 600": _apart(small, theirs),
        "scipy's Dijkstra, n = 2,000": _apart(ours, dijkstra(to_scipy(graph))),
        "scikit-learn Isomap's dist_matrix_": _apart(all_pairs(mesh).lengths, isomap.dist_matrix_),
    }
    bars = [
        Bar(f"largest relative difference from {peer}", 1e6 * value, None, "<=", 10, "ppm")
        for peer, value in apart.items()
    ]
    share = hits / found.indices.size
    return [*bars, Bar("neighbours that faiss flat finds too", share, None, ">=", 0.9999)]


def _apart(ours: np.ndarray, theirs: np.ndarray) -> float:
    known = np.isfinite(theirs) & (theirs > 0)
    return float((np.abs(ours[known] - theirs[known]) / theirs[known]).max())


def neighbour_bars() -> list[Bar]:
    """Return our time for exact neighbours over that of faiss flat and scikit-learn brute."""
    faiss.omp_set_num_threads(1)
    return [
        bar
        for count, rounds in ((1000, 9), (10_000, 5), (50_000, 1))
        for bar in _neighbour_bars(clustered(count), rounds)
    ]


def _neighbour_bars(vectors: Matrix32, rounds: int) -> list[Bar]:
    """Return the bars of one size; where there is one round, peers do a tenth of the rows."""
    index = faiss.IndexFlatIP(DIMENSIONS)
    index.add(vectors)
    brute = NearestNeighbors(n_neighbors=K, metric="cosine", algorithm="brute", n_jobs=1)
    brute.fit(vectors)
    part = vectors if rounds > 1 else vectors[: len(vectors) // 10]

    def ours() -> object:
        return nearest_neighbours(vectors, k=K, metric=Metric.ANGULAR)

    peers: dict[str, tuple[Take, float]] = {
        "faiss flat": (lambda: index.search(part, K + 1), 1.1),
        "scikit-learn brute": (lambda: brute.kneighbors(part, K + 1), 0.5),
    }
    note = "" if rounds > 1 else "peers do a tenth of the rows"
    bars = []
    for peer, (theirs, limit) in peers.items():
        found = [each * len(part) / len(vectors) for each in ratios(ours, theirs, rounds=rounds)]
        what = f"{len(vectors):,} rows, time over {peer}"
        bars.append(median_bar(what, found, relation="<=", limit=limit, note=note))
    return bars


def path_bars() -> list[Bar]:
    """Return our time for all pairs and for one whole source over scipy's; shown, not judged."""
    bars = []
    for count in (1000, 2500):
        graph = connected(clustered(count))[1]
        matrix = to_scipy(graph)
        everybody = np.arange(count, dtype=np.int32)
        for what, ours in (
            (f"lengths of all pairs of {count:,}", partial(distances_from, graph, everybody)),
            (f"lengths and hops of all pairs of {count:,}", partial(all_pairs, graph)),
        ):
            found = ratios(ours, partial(dijkstra, matrix), rounds=5)
            bars.append(median_bar(f"{what}, time over scipy", found, relation="<=", limit=None))
    graph = connected(clustered(10_000))[1]
    matrix = to_scipy(graph)
    source, zero = np.array([7], np.int32), np.zeros(1, np.float32)
    found = ratios(
        lambda: nearest_by_path(graph, source, seed_lengths=zero),
        lambda: dijkstra(matrix, indices=7, return_predecessors=True),
        rounds=7,
        repeat=20,
    )
    what = "one source to all of 10,000, with predecessors, time over scipy"
    bars.append(median_bar(what, found, relation="<=", limit=None))
    return bars


def isomap_bars() -> list[Bar]:
    """Return our time for graph and all pairs at n = 1,000 over that of fitting Isomap.

    Isomap computes lengths; that is judged. Ours with the edges on each path is shown.
    """
    vectors = clustered(1000)
    everybody = np.arange(1000, dtype=np.int32)

    def joined() -> Graph:
        return neighbour_graph(nearest_neighbours(vectors, k=K, metric=Metric.ANGULAR))

    def fit() -> object:
        return Isomap(n_neighbors=K, n_components=2, n_jobs=1).fit(vectors)

    found = ratios(lambda: distances_from(joined(), everybody), fit, rounds=9)
    further = ratios(lambda: all_pairs(joined()), fit, rounds=5)
    what = "graph and all pairs of 1,000, time over scikit-learn Isomap's fit"
    return [
        median_bar(what, found, relation="<=", limit=0.2),
        median_bar(f"{what}, ours with hops", further, relation="<=", limit=None),
    ]
