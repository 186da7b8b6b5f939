"""Shortest paths, on the graph of a textbook and against Floyd and Warshall."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.sparse.csgraph import floyd_warshall

from service.errors import InvalidInput
from service.numerics import paths as module
from service.numerics.distances import Metric
from service.numerics.dtypes import Matrix64
from service.numerics.graphs import Graph, graph_of_edges, neighbour_graph
from service.numerics.neighbours import nearest_neighbours
from service.numerics.paths import all_pairs, distances_from, nearest_by_path, path_to
from service.numerics.sweeps import sweep_hops, sweep_lengths


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


def test_of_equally_short_paths_the_one_of_fewest_edges_counts() -> None:
    # 0-1-2-3 and 0-4-3 are both 3 long, and 0-5-3 likewise; 6 lies at distance 0 from 3
    graph = make(
        7, (0, 1, 1), (1, 2, 1), (2, 3, 1), (0, 4, 2), (4, 3, 1), (0, 5, 1), (5, 3, 2), (3, 6, 0)
    )
    found = nearest_by_path(graph, seeds(0), seed_lengths=zeros())
    hops = dict(zip(found.rows.tolist(), found.hops.tolist(), strict=True))
    assert hops == {0: 0, 1: 1, 5: 1, 2: 2, 4: 1, 3: 2, 6: 3}
    assert path_to(found.predecessors, 6) == [0, 4, 3, 6]
    assert all_pairs(graph).hops[0].tolist() == [0, 1, 2, 2, 1, 1, 3]


def each_alone(graph: Graph) -> tuple[np.ndarray, np.ndarray]:
    lengths = np.full((graph.count, graph.count), np.inf, np.float32)
    hops = np.full((graph.count, graph.count), -1, np.int32)
    for row in range(graph.count):
        found = nearest_by_path(graph, seeds(row), seed_lengths=zeros())
        lengths[row, found.rows], hops[row, found.rows] = found.lengths, found.hops
    return lengths, hops


def crowd() -> Graph:
    draw = np.random.default_rng(2)
    points = np.repeat(draw.normal(size=(60, 3)), 3, axis=0).astype(np.float32)
    return neighbour_graph(nearest_neighbours(points, k=4, metric=Metric.EUCLIDEAN))


def grid() -> Graph:
    points = np.stack(np.meshgrid(np.arange(15), np.arange(15)), -1).reshape(-1, 2)
    found = nearest_neighbours(points.astype(np.float32), k=4, metric=Metric.EUCLIDEAN)
    return neighbour_graph(found)


def chain() -> Graph:
    order = np.random.default_rng(4).permutation(300)
    return make(300, *[(order[at], order[at + 1], 0.1 * (at % 7)) for at in range(299)])


def pieces() -> Graph:
    return make(90, *[(3 * at, 3 * at + 1, 1 + at) for at in range(30)])


@pytest.mark.parametrize("graph", [crowd(), grid(), chain(), pieces()])
def test_blocks_of_sources_say_what_each_alone_says(graph: Graph) -> None:
    lengths, hops = each_alone(graph)
    assert np.array_equal(distances_from(graph, np.arange(graph.count, dtype=np.int32)), lengths)
    pairs = all_pairs(graph)
    assert np.array_equal(pairs.lengths, np.minimum(lengths, lengths.T))
    assert np.array_equal(pairs.hops, hops)


def test_sources_in_any_order_and_twice() -> None:
    wanted = seeds(17, 3, 17, 0, 90, 41)
    graph = grid()
    assert np.array_equal(distances_from(graph, wanted), each_alone(graph)[0][wanted])


def stubborn() -> Graph:
    """Make a graph where every further edge of a path makes it shorter."""
    return make(120, *[(i, j, (j - i) ** 2) for i in range(120) for j in range(i + 1, 120)])


def test_sweeps_against_the_order_are_given_up() -> None:
    rising = np.arange(120, dtype=np.int32)
    found = sweep_lengths(stubborn(), rising, rising[:4])
    assert found is not None
    assert found[:, 0].tolist() == rising.tolist()
    assert sweep_lengths(stubborn(), rising[::-1].copy(), rising[:4]) is None
    assert sweep_hops(stubborn(), rising[::-1].copy(), rising[:4], found) is None


@pytest.mark.parametrize("given_up", ["sweep_lengths", "sweep_hops"])
def test_what_is_given_up_is_searched(given_up: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths, hops = each_alone(crowd())
    monkeypatch.setattr(module, given_up, lambda *_: None)
    pairs = all_pairs(crowd())
    assert np.array_equal(pairs.lengths, np.minimum(lengths, lengths.T))
    assert np.array_equal(pairs.hops, hops)


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
    found = nearest_by_path(graph, seeds(0), seed_lengths=zeros())
    for row, length, hops in zip(found.rows, found.lengths, found.hops, strict=True):
        path = path_to(found.predecessors, row)
        assert len(path) == hops + 1
        steps = np.linalg.norm(np.diff(points[path], axis=0), axis=1)
        assert steps.sum() == pytest.approx(float(length), rel=1e-5)


def test_a_search_that_nobody_waits_for_ends() -> None:
    def leave(stage: str, done: int, total: int) -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        all_pairs(TOWNS, progress=leave)


def test_a_path_to_a_row_that_was_not_reached_is_refused() -> None:
    circle = np.array([1, 0], np.int32)
    with pytest.raises(InvalidInput, match="Row 0 was not reached"):
        path_to(circle, 0)
