"""Ask one version of a corpus: what is near, and how two items hang together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from service.capabilities.geodesic.numerics.meshes import nearest_in
from service.capabilities.geodesic.pipeline.corpus import Corpus, Item
from service.numerics.distances import cross_distances, pair_distances, prepare
from service.numerics.dtypes import Matrix32
from service.numerics.paths import nearest_by_path, path_to


@dataclass(frozen=True, slots=True)
class Hit:
    """Hold an item that a query reached.

    Attributes:
        item: which.
        geodesic: length of the path from the query.
        direct: length of the straight way.
        hops: edges on the path, the one from the query included.
    """

    item: Item
    geodesic: np.floating
    direct: np.floating
    hops: int


@dataclass(frozen=True, slots=True)
class Step:
    """Hold an item on a path and the edge that led there, None at the beginning."""

    item: Item
    length: np.floating | None


@dataclass(frozen=True, slots=True)
class Way:
    """Hold the path between two items.

    Attributes:
        steps: from source to target; empty where there is no path.
        geodesic: sum of the steps, None where there is no path.
        direct: length of the straight way.
    """

    steps: Sequence[Step]
    geodesic: np.floating | None
    direct: np.floating


def find_hits(corpus: Corpus, vectors: Matrix32, top: int, max_distance: float | None) -> list[Hit]:
    """Return the items nearest to a query along the graph.

    Args:
        corpus: any version.
        vectors: (1, d) float32, the query.
        top: most items wanted.
        max_distance: longest path wanted.
    """
    mesh, metric = corpus.mesh, corpus.making.options.metric
    query = prepare(vectors, metric)
    seeds, lengths = nearest_in(mesh, query)
    reached = nearest_by_path(
        mesh.graph, seeds, seed_lengths=lengths, top=top, max_distance=max_distance
    )
    direct = cross_distances(query, mesh.vectors[reached.rows], metric=metric)[0]
    geodesic = np.maximum(reached.lengths, direct)
    return [
        Hit(corpus.item(row), geodesic[at], direct[at], int(reached.hops[at]) + 1)
        for at, row in enumerate(reached.rows)
    ]


def find_way(corpus: Corpus, source: int, target: int) -> Way:
    """Return the shortest path between two rows."""
    mesh, metric = corpus.mesh, corpus.making.options.metric
    ends = np.array([source], np.int32), np.array([target], np.int32)
    direct = pair_distances(mesh.vectors, *ends, metric=metric)[0]
    reached = nearest_by_path(
        mesh.graph, ends[0], seed_lengths=np.zeros(1, np.float32), until=target
    )
    place = np.flatnonzero(reached.rows == target)
    if not len(place):
        return Way((), None, direct)
    rows = np.array(path_to(reached.predecessors, target), np.int32)
    lengths = pair_distances(mesh.vectors, rows[:-1].copy(), rows[1:].copy(), metric=metric)
    steps = [Step(corpus.item(rows[0]), None)]
    steps += [Step(corpus.item(row), length) for row, length in zip(rows[1:], lengths, strict=True)]
    return Way(steps, max(reached.lengths[place[0]], direct), direct)
