"""Distances along a graph: what holds for any vectors."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.sparse.csgraph import floyd_warshall

from service.capabilities.geodesic.numerics.meshes import MeshOptions, build_mesh, change_mesh
from service.capabilities.geodesic.numerics.pairwise import (
    Bridge,
    GraphOptions,
    Measured,
    Wanted,
    measure,
)
from service.numerics.distances import Metric, cross_distances, prepare
from service.numerics.dtypes import Matrix32
from service.numerics.graphs import EdgeRule, neighbour_graph
from service.numerics.neighbours import nearest_neighbours
from service.numerics.paths import all_pairs, nearest_by_path
from service.numerics.shortlists import Hubness

metrics = st.sampled_from(list(Metric))
rules = st.sampled_from(list(EdgeRule))
bridges = st.sampled_from(list(Bridge))
reductions = st.sampled_from(list(Hubness))


@st.composite
def vectors(draw: st.DrawFn, *, least: int = 1) -> Matrix32:
    """Draw vectors without ties, some of them close to each other and some far."""
    count, dimensions = draw(st.integers(least, 24)), draw(st.integers(2, 6))
    numbers = np.random.default_rng(draw(st.integers(0, 2**32)))
    spread = draw(st.sampled_from([0.01, 0.3, 3.0]))
    middles = numbers.normal(size=(draw(st.integers(1, 4)), dimensions))
    rows = middles[numbers.integers(0, len(middles), count)]
    return (rows + spread * numbers.normal(size=rows.shape)).astype(np.float32)


def taken(
    rows: Matrix32,
    *,
    k: int,
    metric: Metric = Metric.ANGULAR,
    rule: EdgeRule = EdgeRule.UNION,
    bridge: Bridge = Bridge.NONE,
    hubness: Hubness = Hubness.NONE,
) -> Measured:
    options = GraphOptions(k, metric, rule, None, bridge, hubness)
    return measure(prepare(rows, metric), options, Wanted(None, paths=False))


@given(rows=vectors(), k=st.integers(1, 8), rule=rules, bridge=bridges, data=st.data())
def test_a_distance(
    rows: Matrix32, k: int, rule: EdgeRule, bridge: Bridge, data: st.DataObject
) -> None:
    metric, hubness = data.draw(metrics), data.draw(reductions)
    found = taken(rows, k=k, metric=metric, rule=rule, bridge=bridge, hubness=hubness)
    lengths = found.geodesic.astype(np.float64)
    assert np.array_equal(found.geodesic, found.geodesic.T)
    assert np.array_equal(found.geodesic.diagonal(), np.zeros(len(rows)))
    assert (found.geodesic >= found.direct).all()
    finite = np.where(np.isinf(lengths), 1e9, lengths)
    detours = (finite[:, :, np.newaxis] + finite[np.newaxis]).min(axis=1)
    assert (finite <= detours * (1 + 1e-5) + 1e-5).all()
    joined = found.labels[:, np.newaxis] == found.labels
    assert np.array_equal(joined, np.isfinite(lengths))
    assert np.array_equal(joined, found.hops >= 0)
    if bridge is Bridge.MST:
        assert found.components == 1


@given(rows=vectors(), k=st.integers(1, 8), metric=metrics)
def test_floyd_and_warshall(rows: Matrix32, k: int, metric: Metric) -> None:
    prepared = prepare(rows, metric)
    graph = neighbour_graph(nearest_neighbours(prepared, k=k, metric=metric))
    entries = graph.lengths.astype(np.float64), graph.targets, graph.offsets
    matrix = csr_array(entries, shape=(len(rows), len(rows)))
    expected = floyd_warshall(matrix, directed=False)
    found = all_pairs(graph).lengths
    assert np.array_equal(np.isinf(expected), np.isinf(found))
    known = np.isfinite(expected)
    assert np.allclose(found[known], expected[known], rtol=1e-5, atol=1e-7)


@given(rows=vectors(), k=st.integers(1, 8), metric=metrics, hubness=reductions)
def test_on_an_edge_the_way_is_straight(
    rows: Matrix32, k: int, metric: Metric, hubness: Hubness
) -> None:
    found = taken(rows, k=k, metric=metric, hubness=hubness)
    edges = found.hops == 1
    assert np.allclose(found.geodesic[edges], found.direct[edges], rtol=1e-5, atol=1e-6)


@given(rows=vectors(least=2), metric=metrics, hubness=reductions)
def test_with_all_neighbours_every_way_is_straight(
    rows: Matrix32, metric: Metric, hubness: Hubness
) -> None:
    found = taken(rows, k=len(rows) + 3, metric=metric, hubness=hubness)
    assert found.k_effective == len(rows) - 1
    assert np.allclose(found.geodesic, found.direct, rtol=1e-5, atol=1e-6)


@given(rows=vectors(), k=st.integers(1, 8), metric=metrics, rule=rules)
def test_more_neighbours_make_no_way_longer(
    rows: Matrix32, k: int, metric: Metric, rule: EdgeRule
) -> None:
    fewer = taken(rows, k=k, metric=metric, rule=rule).geodesic
    more = taken(rows, k=k + 1, metric=metric, rule=rule).geodesic
    assert (more <= fewer * (1 + 1e-5) + 1e-6).all()


@given(rows=vectors(), k=st.integers(1, 8), metric=metrics, seed=st.integers(0, 99))
def test_the_order_of_the_items_is_irrelevant(
    rows: Matrix32, k: int, metric: Metric, seed: int
) -> None:
    order = np.random.default_rng(seed).permutation(len(rows))
    one, other = taken(rows, k=k, metric=metric), taken(rows[order], k=k, metric=metric)
    moved = one.geodesic[np.ix_(order, order)]
    assert np.array_equal(np.isinf(moved), np.isinf(other.geodesic))
    assert np.allclose(moved, other.geodesic, rtol=1e-5, atol=1e-6)


@given(rows=vectors(least=2), k=st.integers(1, 5), data=st.data(), metric=metrics)
def test_a_pair_is_an_entry_of_the_matrix(
    rows: Matrix32, k: int, data: st.DataObject, metric: Metric
) -> None:
    ends = st.integers(0, len(rows) - 1)
    chosen = data.draw(st.lists(st.tuples(ends, ends), min_size=1, max_size=5))
    pairs = np.array(chosen, np.int32)
    options = GraphOptions(k, metric, EdgeRule.UNION, None, Bridge.NONE)
    whole = taken(rows, k=k, metric=metric)
    some = measure(prepare(rows, metric), options, Wanted(pairs, paths=True))
    left, right = pairs.T
    assert np.allclose(some.geodesic, whole.geodesic[left, right], rtol=1e-5, atol=1e-6)
    low, high = np.minimum(left, right), np.maximum(left, right)
    assert np.array_equal(some.hops, whole.hops[low, high])
    for pair, path in zip(chosen, some.paths, strict=True):
        assert (path is None) == bool(np.isinf(whole.geodesic[pair]))
        assert path is None or (path[0], path[-1]) == pair


@given(rows=vectors(least=3), k=st.integers(1, 5), top=st.integers(1, 9), data=st.data())
def test_an_early_stop_finds_the_nearest(
    rows: Matrix32, k: int, top: int, data: st.DataObject
) -> None:
    graph = neighbour_graph(
        nearest_neighbours(prepare(rows, Metric.EUCLIDEAN), k=k, metric=Metric.EUCLIDEAN)
    )
    source = np.array([data.draw(st.integers(0, len(rows) - 1))], np.int32)
    zero = np.zeros(1, np.float32)
    everything = nearest_by_path(graph, source, seed_lengths=zero)
    few = nearest_by_path(graph, source, seed_lengths=zero, top=top)
    assert few.rows.tolist() == everything.rows.tolist()[:top]
    assert np.array_equal(few.lengths, everything.lengths[:top])
    order = list(zip(everything.lengths.tolist(), everything.rows.tolist(), strict=True))
    assert order == sorted(order)


# drawing is timed by the wall clock: a pause of a shared machine is no fault of the strategy
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=vectors(least=6),
    k=st.integers(1, 5),
    metric=metrics,
    data=st.data(),
    hubness=reductions,
)
def test_changes_lead_where_a_build_leads(
    rows: Matrix32, k: int, metric: Metric, data: st.DataObject, hubness: Hubness
) -> None:
    options = MeshOptions(k, metric, EdgeRule.UNION, None, 1000, hubness=hubness)
    prepared = prepare(rows, metric)
    cut = data.draw(st.integers(1, len(rows) - 1))
    gone = data.draw(st.lists(st.integers(0, cut - 1), unique=True, max_size=cut))
    mesh = change_mesh(
        build_mesh(prepared[:cut].copy(), options), np.array(gone, np.int32), prepared[cut:]
    )
    built = build_mesh(np.delete(prepared, gone, axis=0), options)
    places = np.cumsum(mesh.alive) - 1
    listed = mesh.neighbours.indices[mesh.alive]
    renamed = np.where(listed < 0, -1, places[listed])
    assert np.array_equal(renamed, built.neighbours.indices)
    assert np.array_equal(mesh.neighbours.distances[mesh.alive], built.neighbours.distances)
    assert np.array_equal(mesh.graph.lengths, built.graph.lengths)


@given(rows=vectors(least=2), copies=st.integers(2, 6))
def test_equal_rows_are_at_distance_0(rows: Matrix32, copies: int) -> None:
    found = taken(np.repeat(rows, copies, axis=0), k=copies)
    for first in range(0, len(found.geodesic), copies):
        block = found.geodesic[first : first + copies, first : first + copies]
        assert (block == 0).all()


@given(rows=vectors(), metric=metrics)
def test_distances_are_those_of_float64(rows: Matrix32, metric: Metric) -> None:
    prepared = prepare(rows, metric)
    found = cross_distances(prepared, prepared, metric=metric)
    wide = prepared.astype(np.float64)
    apart = np.linalg.norm(wide[:, np.newaxis] - wide, axis=2)
    joint = np.linalg.norm(wide[:, np.newaxis] + wide, axis=2)
    expected = apart if metric is Metric.EUCLIDEAN else 2 * np.arctan2(apart, joint)
    assert np.allclose(found, expected, rtol=1e-5, atol=5e-7)
