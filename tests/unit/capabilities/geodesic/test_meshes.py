"""The graph of a corpus after changes is the graph that a build from nothing makes."""

from __future__ import annotations

import numpy as np
import pytest

from service.capabilities.geodesic.numerics.meshes import (
    Mesh,
    MeshOptions,
    append_rows,
    build_mesh,
    change_mesh,
    nearest_in,
)
from service.errors import DimensionMismatch
from service.numerics.distances import Metric, prepare
from service.numerics.dtypes import Matrix32
from service.numerics.graphs import EdgeRule

NONE = np.empty(0, np.int32)


def options(*, exact_rows: int = 10_000, k: int = 4, max_edge: float | None = None) -> MeshOptions:
    return MeshOptions(k, Metric.ANGULAR, EdgeRule.UNION, max_edge, exact_rows)


def draw(count: int, seed: int = 0, dimensions: int = 8) -> Matrix32:
    rows = np.random.default_rng(seed).normal(size=(count, dimensions)).astype(np.float32)
    return prepare(rows, Metric.ANGULAR)


def lists_by_vector(mesh: Mesh) -> dict[bytes, set[bytes]]:
    """Return the neighbours of each living row, rows named by their vectors."""
    names = [row.tobytes() for row in mesh.vectors]
    return {
        names[row]: {names[other] for other in mesh.neighbours.indices[row] if other >= 0}
        for row in np.flatnonzero(mesh.alive)
    }


@pytest.mark.parametrize("metric", list(Metric))
def test_adding_is_building(metric: Metric) -> None:
    chosen = MeshOptions(4, metric, EdgeRule.UNION, None, 10_000)
    vectors = draw(300)
    grown = change_mesh(build_mesh(vectors[:40], chosen), NONE, vectors[40:200])
    grown = change_mesh(grown, NONE, vectors[200:])
    built = build_mesh(vectors, chosen)
    assert np.array_equal(grown.neighbours.indices, built.neighbours.indices)
    assert np.array_equal(grown.neighbours.distances, built.neighbours.distances)
    assert np.array_equal(grown.graph.targets, built.graph.targets)
    assert np.array_equal(grown.graph.lengths, built.graph.lengths)
    assert (grown.components, grown.count, grown.recall) == (built.components, 300, 1.0)


def test_removing_is_building_without() -> None:
    vectors = draw(200)
    gone = np.array([0, 7, 8, 150], np.int32)
    less = change_mesh(build_mesh(vectors, options()), gone, draw(5, seed=1))
    kept = np.delete(vectors, gone, axis=0)
    built = build_mesh(np.concatenate([kept, draw(5, seed=1)]), options())
    assert lists_by_vector(less) == lists_by_vector(built)
    assert (less.count, less.components) == (201, built.components)
    assert less.graph.edges == built.graph.edges
    assert not np.isin(less.graph.targets, gone).any()


def test_a_version_keeps_what_it_has_when_the_next_one_is_made() -> None:
    first = build_mesh(draw(50), options())
    second = change_mesh(first, NONE, draw(10, seed=1))
    before = second.vectors.copy(), second.neighbours.indices.copy(), second.graph.lengths.copy()
    third = change_mesh(second, np.array([1, 2], np.int32), draw(3, seed=2))
    assert len(third.vectors) == 63
    assert np.shares_memory(second.vectors, third.vectors)
    assert np.array_equal(second.vectors, before[0])
    assert np.array_equal(second.neighbours.indices, before[1])
    assert np.array_equal(second.graph.lengths, before[2])
    assert second.count == 60


def test_from_nothing_to_a_few_and_back() -> None:
    one = build_mesh(draw(1), options())
    assert (one.count, one.components, one.graph.edges) == (1, 1, 0)
    three = change_mesh(one, NONE, draw(2, seed=1))
    assert (three.count, three.components, three.graph.edges) == (3, 1, 3)
    none = change_mesh(three, np.array([0, 1, 2], np.int32), draw(1)[:0])
    assert (none.count, none.components, none.graph.edges) == (0, 0, 0)
    assert len(nearest_in(none, draw(1))[0]) == 0


def test_a_query_attaches_to_its_nearest_living_rows() -> None:
    mesh = change_mesh(build_mesh(draw(60), options()), np.array([3], np.int32), draw(1)[:0])
    rows, distances = nearest_in(mesh, draw(60)[3:4])
    assert 3 not in rows
    angles = np.arccos(np.clip(mesh.vectors @ draw(60)[3], -1, 1))
    angles[3] = np.inf
    assert rows.tolist() == np.argsort(angles)[:4].tolist()
    assert np.allclose(distances, np.sort(angles)[:4], atol=1e-5)
    with pytest.raises(DimensionMismatch, match="2 numbers and the vectors have 8"):
        nearest_in(mesh, draw(1, dimensions=2))


def test_a_query_too_far_from_everything_attaches_to_nothing() -> None:
    mesh = build_mesh(draw(60), options(max_edge=1e-6))
    assert len(nearest_in(mesh, draw(1, seed=9))[0]) == 0
    assert nearest_in(mesh, draw(60)[:1])[0].tolist() == [0]


def test_many_rows_have_nearly_all_of_their_neighbours() -> None:
    vectors = draw(3000, dimensions=12)
    exact = build_mesh(vectors, options(k=10))
    mesh = build_mesh(vectors[:2000], options(k=10, exact_rows=1000))
    assert mesh.proposals is not None
    grown = change_mesh(mesh, np.array([5], np.int32), vectors[2000:])
    assert mesh.recall >= 0.95
    hits = [
        len(set(one.tolist()) & set(other.tolist()))
        for one, other in zip(grown.neighbours.indices, exact.neighbours.indices, strict=True)
    ]
    assert np.mean(np.delete(hits, 5)) / 10 >= 0.95
    assert 5 not in grown.neighbours.indices
    rows, _ = nearest_in(mesh, vectors[2500:2501])
    assert (rows < 2000).all()  # the older version does not see what came later
    assert 2500 in nearest_in(grown, vectors[2500:2501])[0]


def test_a_corpus_that_grows_beyond_the_exact_rows_gets_an_index() -> None:
    vectors = draw(500)
    mesh = build_mesh(vectors[:90], options(exact_rows=100))
    assert mesh.proposals is None
    grown = change_mesh(mesh, np.array([4], np.int32), vectors[90:])
    assert grown.proposals is not None
    assert len(grown.proposals) == 500
    assert 0.9 <= grown.recall <= 1


def test_most_rows_may_die() -> None:
    vectors = draw(300)
    mesh = build_mesh(vectors, options(exact_rows=100))
    less = change_mesh(mesh, np.arange(290, dtype=np.int32), vectors[:0])
    built = build_mesh(vectors[290:], options())
    assert lists_by_vector(less) == lists_by_vector(built)


def test_rows_are_appended_where_there_is_room() -> None:
    first = append_rows(draw(4), draw(1, seed=1))
    second = append_rows(first, draw(1, seed=2))
    assert np.shares_memory(first, second)
    assert np.array_equal(second, np.concatenate([draw(4), draw(1, seed=1), draw(1, seed=2)]))
