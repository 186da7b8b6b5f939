"""Cosines of any vectors: bounded, symmetric, blind to length."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from service.numerics.dtypes import Matrix32
from service.numerics.vectors import cosine_matrix, first_dimensions, pair_cosines, unit_rows

shapes = st.tuples(st.integers(1, 9), st.integers(1, 20))
numbers = st.floats(-(2.0**99), 2.0**99, width=32).filter(lambda x: abs(x) > 2.0**-99)
matrices = arrays(np.float32, shapes, elements=numbers)


@given(vectors=matrices)
def test_rows_have_length_1_and_keep_their_signs(vectors: Matrix32) -> None:
    units = unit_rows(vectors)
    assert np.allclose(np.linalg.norm(units.astype(np.float64), axis=1), 1, atol=1e-6)
    assert (units * np.sign(vectors) >= 0).all()


@given(vectors=matrices)
def test_the_matrix_is_symmetric_and_bounded(vectors: Matrix32) -> None:
    cosines = cosine_matrix(vectors)
    assert cosines.dtype == np.float32
    assert np.array_equal(cosines, cosines.T)
    assert np.array_equal(cosines.diagonal(), np.ones(len(vectors)))
    assert (np.abs(cosines) <= 1).all()


@given(vectors=matrices, scale=st.floats(0.125, 8, width=32))
def test_cosines_do_not_see_lengths(vectors: Matrix32, scale: float) -> None:
    assert np.allclose(
        cosine_matrix(vectors * np.float32(scale)), cosine_matrix(vectors), atol=1e-6
    )


@given(vectors=matrices)
def test_pairs_are_entries_of_the_matrix(vectors: Matrix32) -> None:
    turned = np.roll(vectors, 1, axis=0)
    matrix = cosine_matrix(vectors)
    count = len(vectors)
    entries = [matrix[row, (row - 1) % count] for row in range(count)]
    assert np.allclose(pair_cosines(vectors, turned), entries, atol=1e-6)


@given(vectors=matrices, data=st.data())
def test_fewer_dimensions_have_the_same_directions(vectors: Matrix32, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, vectors.shape[1]))
    kept = first_dimensions(unit_rows(vectors), k=k, normalize=False)
    assert kept.shape == (len(vectors), k)
    assert np.array_equal(kept, unit_rows(vectors)[:, :k])
