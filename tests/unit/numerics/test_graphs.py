"""Edges, components and bridges, on a few points on a line."""

from __future__ import annotations

import numpy as np
import pytest

from service.numerics.distances import Metric
from service.numerics.dtypes import Matrix32
from service.numerics.graphs import (
    EdgeRule,
    Graph,
    bridge_components,
    components,
    neighbour_graph,
)
from service.numerics.neighbours import nearest_neighbours


def line(*positions: float) -> Matrix32:
    return np.array([[x, 0] for x in positions], dtype=np.float32)


def edges(graph: Graph) -> dict[tuple[int, int], float]:
    """Return each edge of both directions with its length."""
    return {
        (row, int(graph.targets[at])): float(graph.lengths[at])
        for row in range(graph.count)
        for at in range(graph.offsets[row], graph.offsets[row + 1])
    }


def graph_of(positions: Matrix32, *, k: int, rule: EdgeRule = EdgeRule.UNION) -> Graph:
    return neighbour_graph(nearest_neighbours(positions, k=k, metric=Metric.EUCLIDEAN), rule=rule)


def test_union_joins_where_one_end_names_the_other() -> None:
    graph = graph_of(line(0, 1, 3, 7), k=1)
    assert edges(graph) == {(0, 1): 1, (1, 0): 1, (1, 2): 2, (2, 1): 2, (2, 3): 4, (3, 2): 4}
    assert graph.edges == 3


def test_mutual_needs_both_ends() -> None:
    assert edges(graph_of(line(0, 1, 3, 7), k=1, rule=EdgeRule.MUTUAL)) == {(0, 1): 1, (1, 0): 1}


def test_no_edge_is_longer_than_the_longest_allowed() -> None:
    found = nearest_neighbours(line(0, 1, 3, 7), k=1, metric=Metric.EUCLIDEAN)
    graph = neighbour_graph(found, max_edge=2.0)
    assert set(edges(graph)) == {(0, 1), (1, 0), (1, 2), (2, 1)}


def test_targets_rise_within_a_row() -> None:
    draw = np.random.default_rng(1)
    graph = graph_of(draw.normal(size=(200, 4)).astype(np.float32), k=6)
    found = edges(graph)
    assert len(found) == len(graph.targets)
    assert all(found[target, row] == length for (row, target), length in found.items())
    for row in range(graph.count):
        assert (np.diff(graph.targets[graph.offsets[row] : graph.offsets[row + 1]]) > 0).all()


def test_components_are_numbered_by_their_first_row() -> None:
    count, labels = components(graph_of(line(0, 10, 1, 11, 50, 52), k=1))
    assert count == 3
    assert labels.tolist() == [0, 1, 0, 1, 2, 2]


def test_bridges_are_the_shortest_tree_between_components() -> None:
    positions = line(0, 1, 10, 11, 40, 41)
    graph = bridge_components(graph_of(positions, k=1), positions, metric=Metric.EUCLIDEAN)
    assert components(graph)[0] == 1
    assert edges(graph) == edges(graph_of(positions, k=1)) | {
        (1, 2): 9,
        (2, 1): 9,
        (3, 4): 29,
        (4, 3): 29,
    }


def test_bridges_between_equal_distances_close_no_circle() -> None:
    corners = np.array([[0, 0], [0, 0], [1, 0], [1, 0], [0, 1], [0, 1], [1, 1], [1, 1]], np.float32)
    graph = graph_of(corners, k=1)
    bridged = bridge_components(graph, corners, metric=Metric.EUCLIDEAN)
    assert (components(graph)[0], components(bridged)[0]) == (4, 1)
    assert bridged.edges - graph.edges == 3


@pytest.mark.parametrize("count", [1, 2])
def test_the_smallest_graphs(count: int) -> None:
    positions = line(*range(count))
    graph = graph_of(positions, k=5)
    assert (graph.count, graph.edges) == (count, count - 1)
    assert components(graph)[0] == 1
    assert bridge_components(graph, positions, metric=Metric.EUCLIDEAN).edges == count - 1
