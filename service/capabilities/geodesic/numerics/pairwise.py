"""Measure all distances of one request: along the graph, straight, and in steps."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import product

import numpy as np

from service.numerics.distances import Metric, cross_distances, pair_distances
from service.numerics.dtypes import Ids32, Matrix32, Progress, Vector32
from service.numerics.graphs import (
    EdgeRule,
    Graph,
    bridge_components,
    components,
    neighbour_graph,
)
from service.numerics.neighbours import nearest_neighbours, silent
from service.numerics.paths import Reached, all_pairs, nearest_by_path, path_to
from service.numerics.shortlists import Hubness, choose_neighbours, shortlist_size


class Bridge(StrEnum):
    """Say what joins components that hang apart."""

    NONE = "none"
    MST = "mst"


@dataclass(frozen=True, slots=True)
class GraphOptions:
    """Hold how the rows of one request are joined.

    Attributes:
        k: neighbours of a row.
        metric: angle or straight line.
        rule: whether one end or both must name the other.
        max_edge: longest edge, in the unit of the metric; None allows all.
        bridge: what joins components; bridges may be longer than `max_edge`.
        hubness: what is done about rows that are near to everybody.
    """

    k: int
    metric: Metric
    rule: EdgeRule
    max_edge: float | None
    bridge: Bridge
    hubness: Hubness = Hubness.NONE


@dataclass(frozen=True, slots=True)
class Measured:
    """Hold distances between all rows, or of some pairs.

    Attributes:
        geodesic: (n, n) or (pairs,) float32; infinite where there is no path.
        direct: likewise, finite.
        hops: likewise, int32; -1 where there is no path.
        labels: (n,) int32 component of each row.
        components: how many there are.
        edges: of the graph.
        k_effective: neighbours of a row, at most the other rows there are.
        paths: rows from end to end, by pair in reading order; None where there is no path. Empty
            unless asked for.
    """

    geodesic: Matrix32
    direct: Matrix32
    hops: Ids32
    labels: Ids32
    components: int
    edges: int
    k_effective: int
    paths: list[list[int] | None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Say what is to be measured.

    Attributes:
        pairs: (pairs, 2) int32 rows, None for all of them.
        paths: `all` to list the rows on every path, else `none`.
    """

    pairs: Ids32 | None
    paths: bool


def measure(
    vectors: Matrix32, options: GraphOptions, wanted: Wanted, *, progress: Progress = silent
) -> Measured:
    """Return the distances between rows along the graph of their near neighbours.

    A geodesic is never shorter than the straight way; where rounding says so it is raised to it.

    Args:
        vectors: (n, d) float32 from `prepare`.
        options: how rows are joined.
        wanted: pairs, and whether with paths.
        progress: told the stages `neighbours`, `bridge`, `paths`.
    """
    found = choose_neighbours(
        nearest_neighbours(
            vectors,
            k=shortlist_size(options.k, options.hubness),
            metric=options.metric,
            progress=progress,
        ),
        k=options.k,
        metric=options.metric,
        hubness=options.hubness,
    )
    graph = neighbour_graph(found, rule=options.rule, max_edge=options.max_edge)
    if options.bridge is Bridge.MST:
        graph = bridge_components(graph, vectors, metric=options.metric, progress=progress)
    count, labels = components(graph)
    if wanted.pairs is None:
        ways = all_pairs(graph, progress=progress)
        direct = cross_distances(vectors, vectors, metric=options.metric)
        direct = np.minimum(direct, direct.T)
        geodesic, hops = ways.lengths, ways.hops
        paths = _paths_of_all(graph) if wanted.paths else []
    else:
        left, right = np.ascontiguousarray(wanted.pairs.T)
        geodesic, hops, paths = _some(graph, left, right, wanted, progress)
        direct = pair_distances(vectors, left, right, metric=options.metric)
    return Measured(
        geodesic=np.maximum(geodesic, direct),
        direct=direct,
        hops=hops,
        labels=labels,
        components=count,
        edges=graph.edges,
        k_effective=found.indices.shape[1],
        paths=paths,
    )


def _paths_of_all(graph: Graph) -> list[list[int] | None]:
    """Return the path of every pair; from j to i it is the path from i to j turned round."""
    ends = range(graph.count)
    left, right = np.array(list(product(ends, ends)), np.int32).T
    return _some(graph, left, right, Wanted(None, paths=True), silent)[2]


def _some(
    graph: Graph, left: Ids32, right: Ids32, wanted: Wanted, progress: Progress
) -> tuple[Vector32, Ids32, list[list[int] | None]]:
    """Return lengths, hops and paths of some pairs, each searched from its lower row."""
    low, high = np.minimum(left, right), np.maximum(left, right)
    lengths = np.full(len(left), np.inf, np.float32)
    hops = np.full(len(left), -1, np.int32)
    paths: list[list[int] | None] = [None] * len(left) if wanted.paths else []
    sources = np.unique(low)
    for done, source in enumerate(sources):
        progress("paths", done, len(sources))
        reached = nearest_by_path(
            graph, np.array([source], np.int32), seed_lengths=np.zeros(1, np.float32)
        )
        pairs = np.flatnonzero(low == source)
        places = _places(reached, high[pairs], graph.count)
        there = places >= 0
        lengths[pairs[there]] = reached.lengths[places[there]]
        hops[pairs[there]] = reached.hops[places[there]]
        if wanted.paths:
            for pair in pairs[there]:
                path = path_to(reached.predecessors, high[pair])
                paths[pair] = path if left[pair] == source else path[::-1]
    return lengths, hops, paths


def _places(reached: Reached, rows: Ids32, count: int) -> Ids32:
    """Return where each of some rows stands among the reached ones, -1 for those that do not."""
    places = np.full(count, -1, np.int32)
    places[reached.rows] = np.arange(len(reached.rows), dtype=np.int32)
    found: Ids32 = places[rows]
    return found
