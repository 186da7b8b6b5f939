"""Shortest paths, on the graph of a textbook and against Floyd and Warshall."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.sparse.csgraph import floyd_warshall

from service.errors import InvalidInput
from service.numerics.distances import Metric
from service.numerics.dtypes import Matrix64
from service.numerics.graphs import Graph, graph_of_edges, neighbour_graph
from service.numerics.neighbours import nearest_neighbours
from service.numerics.paths import all_pairs, distances_from, nearest_by_path, path_to


def make(count: int, *edges: tuple[int, int, float]) -> Graph:
    left, right, lengths = zip(*edges, strict=True)
    return graph_of_edges(
        count,
        np.array(left, np.int32),
        np.array(right, np.int32),
        np.array(lengths, np.float32),
    )


def seeds(*rows: int) -> np.ndarray:
    return np.array(rows, np.int32)


def zeros(count: int = 1) -> np.ndarray:
    return np.zeros(count, np.float32)


# The six towns of the encyclopaedia's example: the way from 0 to 4 is 0-2-5-4, of length 20.
TOWNS = make(
    6, (0, 1, 7), (0, 2, 9), (0, 5, 14), (1, 2, 10), (1, 3, 15), (2, 3, 11), (2, 5, 2), (3, 4, 6),
    (4, 5, 9),
)  # fmt: skip


def dense(graph: Graph) -> Matrix64:
    matrix = csr_array((graph.lengths.astype(np.float64), graph.targets, graph.offsets))
    found: Matrix64 = floyd_warshall(matrix, directed=False)
    return found


def test_six_towns() -> None:
    found = nearest_by_path(TOWNS, seeds(0), seed_lengths=zeros())
    assert found.rows.tolist() == [0, 1, 2, 5, 3, 4]
    assert found.lengths.tolist() == [0, 7, 9, 11, 20, 20]
    assert found.hops.tolist() == [0, 1, 1, 2, 2, 3]
    assert path_to(found.predecessors, 4) == [0, 2, 5, 4]
    pairs = all_pairs(TOWNS)
    assert pairs.lengths[0].tolist() == [0, 7, 9, 20, 20, 11]
    assert pairs.hops[0].tolist() == [0, 1, 1, 2, 3, 2]
    assert path_to(pairs.predecessors[0], 4) == [0, 2, 5, 4]


def test_the_search_stops_after_the_rows_wanted() -> None:
    found = nearest_by_path(TOWNS, seeds(0), seed_lengths=zeros(), top=3)
    assert found.rows.tolist() == [0, 1, 2]
    # 3 and 4 tie: the lower one is the answer
    assert nearest_by_path(TOWNS, seeds(0), seed_lengths=zeros(), top=5).rows.tolist() == [
        0, 1, 2, 5, 3,
    ]  # fmt: skip


def test_the_search_stops_at_the_longest_path_wanted() -> None:
    found = nearest_by_path(TOWNS, seeds(0), seed_lengths=zeros(), max_distance=11.0)
    assert found.rows.tolist() == [0, 1, 2, 5]


def test_several_seeds_with_lengths_of_their_own() -> None:
    found = nearest_by_path(TOWNS, seeds(0, 4), seed_lengths=np.array([5, 1], np.float32))
    assert dict(zip(found.rows.tolist(), found.lengths.tolist(), strict=True)) == {
        4: 1, 0: 5, 3: 7, 5: 10, 1: 12, 2: 12,
    }  # fmt: skip
    assert path_to(found.predecessors, 2) == [4, 5, 2]
    twice = nearest_by_path(TOWNS, seeds(0, 0), seed_lengths=np.array([5, 1], np.float32), top=1)
    assert twice.lengths.tolist() == [1]


def test_rows_at_distance_0_are_ordered_by_row() -> None:
    graph = make(4, (3, 1, 0), (1, 0, 0), (0, 2, 0))
    found = nearest_by_path(graph, seeds(3), seed_lengths=zeros(), top=2)
    assert found.rows.tolist() == [0, 1]
    assert found.lengths.tolist() == [0, 0]


def test_no_path_is_no_result() -> None:
    graph = make(4, (0, 1, 1), (2, 3, 1))
    assert nearest_by_path(graph, seeds(0), seed_lengths=zeros()).rows.tolist() == [0, 1]
    pairs = all_pairs(graph)
    assert np.isinf(pairs.lengths[0, 2])
    assert pairs.hops[0, 2] == -1
    assert pairs.predecessors[0, 2] == -1


@pytest.mark.parametrize("k", [1, 3, 8])
def test_floyd_and_warshall_say_the_same(k: int) -> None:
    draw = np.random.default_rng(k)
    points = draw.normal(size=(200, 3)).astype(np.float32)
    graph = neighbour_graph(nearest_neighbours(points, k=k, metric=Metric.EUCLIDEAN))
    expected = dense(graph)
    pairs = all_pairs(graph)
    assert np.array_equal(np.isinf(expected), np.isinf(pairs.lengths))
    finite = np.isfinite(expected)
    assert np.allclose(pairs.lengths[finite], expected[finite], rtol=1e-5)
    assert np.array_equal(pairs.lengths, pairs.lengths.T)
    rows = distances_from(graph, seeds(0, 17))
    assert np.allclose(rows[np.isfinite(rows)], expected[[0, 17]][np.isfinite(rows)], rtol=1e-5)


def test_edges_of_a_path_add_up_to_its_length() -> None:
    draw = np.random.default_rng(5)
    points = draw.normal(size=(150, 3)).astype(np.float32)
    graph = neighbour_graph(nearest_neighbours(points, k=4, metric=Metric.EUCLIDEAN))
    pairs = all_pairs(graph)
    reached = np.flatnonzero(np.isfinite(pairs.lengths[0]))
    for row in reached:
        path = path_to(pairs.predecessors[0], row)
        assert len(path) == pairs.hops[0, row] + 1
        steps = np.linalg.norm(np.diff(points[path], axis=0), axis=1)
        assert steps.sum() == pytest.approx(float(pairs.lengths[0, row]), rel=1e-5)


def test_a_search_that_nobody_waits_for_ends() -> None:
    def leave(stage: str, done: int, total: int) -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        all_pairs(TOWNS, progress=leave)


def test_a_path_to_a_row_that_was_not_reached_is_refused() -> None:
    circle = np.array([1, 0], np.int32)
    with pytest.raises(InvalidInput, match="Row 0 was not reached"):
        path_to(circle, 0)
