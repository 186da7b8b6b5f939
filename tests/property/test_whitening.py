"""Whitening of any vectors: parts merge, cosines survive a rotation, covariance becomes I."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from service.numerics.dtypes import Matrix32
from service.numerics.hubness import Metric, occurrences, similarity_matrix, sum_up_hubness
from service.numerics.isotropy import effective_rank, isoscore
from service.numerics.moments import Moments, measure_moments, merge_moments
from service.numerics.vectors import cosine_matrix, wide_unit_rows
from service.numerics.whitening import (
    Shrinkage,
    find_axes,
    make_kernel,
    narrow_kernel,
    project,
    shrinkage_intensity,
    whiten,
)

settings.register_profile("brief", deadline=None, max_examples=60)
brief = settings.get_profile("brief")


@st.composite
def clouds(draw: st.DrawFn, *, most: int = 120) -> Matrix32:
    """Draw vectors with a mean, unlike spreads and some copies, as embeddings have."""
    count, dimensions = draw(st.integers(3, most)), draw(st.integers(2, 12))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    scales = 10.0 ** random.uniform(-draw(st.integers(0, 2)), 0, dimensions)
    mean = draw(st.sampled_from([0.0, 1.0, 30.0])) * random.standard_normal(dimensions)
    found = random.standard_normal((count, dimensions)) * scales + mean
    copies = random.integers(count, size=draw(st.integers(0, 3)))
    return np.vstack([found, found[copies]]).astype(np.float32)


def fold(parts: list[Moments], random: np.random.Generator) -> Moments:
    """Merge parts in a random order and grouping."""
    while len(parts) > 1:
        one, other = (parts.pop(int(random.integers(len(parts)))) for _ in range(2))
        parts.append(merge_moments(one, other))
    return parts[0]


@given(vectors=clouds(), data=st.data())
@brief
def test_any_chunks_merged_in_any_order_are_the_whole(vectors: Matrix32, data: Any) -> None:
    cuts = data.draw(st.sets(st.integers(1, len(vectors) - 1), max_size=20))
    parts = [measure_moments(part) for part in np.split(vectors, sorted(cuts))]
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    merged, whole = fold(parts, random), measure_moments(vectors)
    assert merged.samples == whole.samples
    assert np.allclose(merged.mean, whole.mean, rtol=1e-12, atol=1e-12)
    found, expected = (np.linalg.eigvalsh(each.covariance) for each in (merged, whole))
    assert np.abs(found - expected).max() <= 1e-7 * expected[-1]
    for shrinkage in Shrinkage:
        one, other = (shrinkage_intensity(each, shrinkage) for each in (merged, whole))
        assert abs(one - other) < 1e-6


@given(vectors=clouds(most=40), shrinkage=st.sampled_from(Shrinkage))
@brief
def test_no_beta_and_no_gamma_change_no_cosine(vectors: Matrix32, shrinkage: Shrinkage) -> None:
    axes = find_axes(measure_moments(vectors), beta=0, shrinkage=shrinkage)
    kernel = narrow_kernel(make_kernel(axes, gamma=0, dimensions=vectors.shape[1]))
    difference = cosine_matrix(whiten(vectors, kernel)) - cosine_matrix(vectors)
    assert np.abs(difference).max() < 1e-6


@given(vectors=clouds(), beta=st.floats(0, 1))
@brief
def test_gamma_1_makes_the_second_moment_the_identity(vectors: Matrix32, beta: float) -> None:
    moments = measure_moments(vectors)
    axes = find_axes(moments, beta=beta, shrinkage=Shrinkage.NONE)
    kept = min(vectors.shape[1], len(vectors) - 4) if axes.floored == 0 else 0
    if kept < 1:
        return
    found = project(vectors.astype(np.float64), make_kernel(axes, gamma=1, dimensions=kept))
    assert np.abs(found.T @ found / len(found) - np.eye(kept)).max() < 1e-6


@given(vectors=clouds(most=30), gamma=st.floats(0, 1), beta=st.floats(0, 1), data=st.data())
@brief
def test_fewer_dimensions_are_the_first_of_more(
    vectors: Matrix32, gamma: float, beta: float, data: Any
) -> None:
    axes = find_axes(measure_moments(vectors), beta=beta, shrinkage=Shrinkage.OAS)
    width = vectors.shape[1]
    fewer = data.draw(st.integers(1, width))
    whole = project(vectors, make_kernel(axes, gamma=gamma, dimensions=width))
    part = project(vectors, make_kernel(axes, gamma=gamma, dimensions=fewer))
    scale = np.abs(whole).max()
    assert np.abs(part - whole[:, :fewer]).max() <= 1e-9 * scale


@given(vectors=clouds(most=30))
@brief
def test_isotropy_lies_within_its_bounds_and_knows_no_rotation(vectors: Matrix32) -> None:
    count = vectors.shape[1]
    variances = np.maximum(np.linalg.eigvalsh(measure_moments(vectors).covariance), 0)
    assert -1e-9 <= isoscore(variances) <= 1 + 1e-9
    assert 1 - 1e-9 <= effective_rank(variances) <= count + 1e-9
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((count, count)))[0]
    moved = vectors.astype(np.float64) @ turn + 5
    turned = np.maximum(np.linalg.eigvalsh(measure_moments(moved).covariance), 0)
    assert abs(isoscore(turned) - isoscore(variances)) < 1e-6


@given(vectors=clouds(most=25), data=st.data())
@brief
def test_places_are_shared_out_exactly(vectors: Matrix32, data: Any) -> None:
    k = data.draw(st.integers(1, len(vectors) - 1))
    found = occurrences(
        wide_unit_rows(vectors), k=k, metrics=list(Metric), progress=lambda *_: None
    )
    for counts in found.values():
        assert counts.sum() == k * len(vectors)
        assert 0 <= counts.min() <= counts.max() <= len(vectors) - 1
        figures = sum_up_hubness(counts, k=k, centre_cosines=np.zeros(len(counts)))
        assert 0 <= figures.robin_hood < 1
        assert -1e-12 <= figures.gini < 1


@given(vectors=clouds(most=25), metric=st.sampled_from(Metric))
@brief
def test_similarities_are_finite_and_symmetric(vectors: Matrix32, metric: Metric) -> None:
    found = similarity_matrix(vectors, metric=metric, k=None)
    assert np.isfinite(found).all()
    assert np.array_equal(found, found.T)


def test_merging_one_by_one_is_merging_all() -> None:
    vectors = np.random.default_rng(2).standard_normal((30, 4)).astype(np.float32)
    parts = [measure_moments(vectors[row : row + 1]) for row in range(30)]
    one_by_one, whole = reduce(merge_moments, parts), measure_moments(vectors)
    assert np.allclose(one_by_one.third, whole.third, atol=1e-9)
    assert abs(one_by_one.fourth / whole.fourth - 1) < 1e-12
