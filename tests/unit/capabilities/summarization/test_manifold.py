"""Distances along the graph, and the trap of a centre inside it."""

from __future__ import annotations

import numpy as np
import pytest

from service.capabilities.summarization.numerics.manifold import (
    Distance,
    build_manifold,
    distance_table,
    mean_distances,
    within,
)
from service.numerics.distances import Metric, prepare
from service.numerics.dtypes import Matrix32


def sentences(count: int = 60, dimensions: int = 24) -> Matrix32:
    """Return vectors that lean one way, as those of sentences about one thing do."""
    drawn = np.random.default_rng(3).normal(size=(count, dimensions)) + 1.0
    return prepare(drawn.astype(np.float32), Metric.ANGULAR)


def test_a_centre_inside_the_graph_ranks_as_the_centroid_does() -> None:
    """Every sentence has the mean among its nearest, so no path beats the direct edge."""
    vectors = sentences()
    centre = vectors.mean(axis=0, keepdims=True)
    joined = prepare(np.vstack([vectors, centre]), Metric.ANGULAR)
    trapped = build_manifold(joined, k=8)
    to_centre = distance_table(trapped, distance=Distance.GEODESIC)[-1, :-1]
    by_centroid = np.argsort(-(vectors @ joined[-1]), kind="stable")
    assert np.argsort(to_centre, kind="stable").tolist() == by_centroid.tolist()

    ours = build_manifold(vectors, k=8)
    table = distance_table(ours, distance=Distance.GEODESIC)
    means = mean_distances(table, np.ones(len(vectors), np.int64))
    assert np.argsort(means, kind="stable").tolist() != by_centroid.tolist()


def test_mean_distances_weigh_mentions() -> None:
    vectors = prepare(np.array([[1, 0], [1, 1], [0, 1]], np.float32), Metric.ANGULAR)
    manifold = build_manifold(vectors, k=2)
    table = distance_table(manifold, distance=Distance.COSINE)
    means = mean_distances(table, np.array([3, 1, 0]))
    assert means == pytest.approx([np.pi / 16, 3 * np.pi / 16, 7 * np.pi / 16], abs=1e-6)


def test_where_no_path_leads_the_distance_is_a_straight_angle() -> None:
    vectors = np.zeros((4, 4), np.float32)
    vectors[[0, 1], 0] = 1
    vectors[[2, 3], 1] = 1
    vectors[[1, 3], 2] = 0.1
    manifold = build_manifold(prepare(vectors, Metric.ANGULAR), k=1)
    table = distance_table(manifold, distance=Distance.GEODESIC)
    assert np.isinf(table[0, 2])
    short = np.arctan(0.1)
    means = mean_distances(table, np.ones(4, np.int64))
    assert means == pytest.approx([(short + 2 * np.pi) / 4] * 4, rel=1e-6)


def test_within_counts_paths_and_not_straight_lines() -> None:
    angles = np.deg2rad([0, 10, 20, 90])
    around = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    manifold = build_manifold(prepare(around, Metric.ANGULAR), k=1)
    assert within(manifold, 0, radius=float(np.deg2rad(15))).tolist() == [0, 1]
    assert within(manifold, 0, radius=float(np.deg2rad(25))).tolist() == [0, 1, 2]
    assert within(manifold, 3, radius=0.0).tolist() == [3]


def test_one_statement_has_no_edges() -> None:
    manifold = build_manifold(prepare(np.ones((1, 3), np.float32), Metric.ANGULAR), k=5)
    assert manifold.edge == 0
    table = distance_table(manifold, distance=Distance.GEODESIC)
    assert mean_distances(table, np.array([1])).tolist() == [0]
