"""Vectors in and out."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pydantic import TypeAdapter, ValidationError

from service.web.npy import npy_response
from service.web.wire import (
    VECTORS_SCHEMA,
    Vectors,
    encode_rows,
    json_response,
    whole,
)

READ: TypeAdapter[Any] = TypeAdapter(Vectors)
MATRICES = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 5), st.integers(1, 7)),
    elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
)


@given(MATRICES)
def test_every_way_in_gives_the_same_numbers(matrix: np.ndarray[Any, Any]) -> None:
    data = base64.b64encode(matrix.astype("<f4").tobytes()).decode()
    coded = {"shape": list(matrix.shape), "dtype": "float32", "data": data}
    for given_form in (matrix.tolist(), coded):
        read = READ.validate_python(given_form)
        assert read.dtype == np.float32
        assert np.array_equal(read, matrix)


@given(MATRICES)
def test_both_ways_out_keep_every_bit(matrix: np.ndarray[Any, Any]) -> None:
    floats = encode_rows(matrix, "float")
    coded = encode_rows(matrix, "base64")
    for row, numbers, text in zip(matrix, floats, coded, strict=True):
        assert isinstance(text, str)
        assert base64.b64decode(text) == np.asarray(numbers, dtype="<f4").tobytes() == row.tobytes()


def test_a_view_with_gaps_goes_out_right() -> None:
    gaps = np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::2]
    (first, *_) = encode_rows(gaps, "base64")
    assert np.frombuffer(base64.b64decode(str(first)), dtype="<f4").tolist() == [0, 2]
    assert b"'shape': (3, 2)" in npy_response(gaps).body
    assert b"'fortran_order': False" in npy_response(gaps.T).body


def test_float32_is_written_shortest_and_read_back_the_same() -> None:
    numbers = np.array([0.1, 1e-45, 3.4028235e38, -0.0], dtype=np.float32)
    body = bytes(json_response({"x": numbers}).body)
    assert body.startswith(b'{"x":[0.1,1e-45,')
    read = np.array(TypeAdapter(dict[str, list[float]]).validate_json(body)["x"], dtype=np.float32)
    assert read.tobytes() == numbers.tobytes()


def test_the_largest_number_of_the_schema_is_read_and_the_next_is_not() -> None:
    limit = VECTORS_SCHEMA["anyOf"][0]["items"]["items"]["maximum"]
    assert np.isfinite(READ.validate_python([[limit, -limit]])).all()
    with pytest.raises(ValidationError, match="finite in float32"):
        READ.validate_python([[limit * 1.001]])


@pytest.mark.parametrize(
    ("value", "expected"),
    [(8.0, 8), (-0.0, 0), (8, 8), (8.5, 8.5), ("eight", "eight"), (None, None)],
)
def test_whole_numbers_lose_their_point(value: object, expected: object) -> None:
    found = whole(value)
    assert (type(found), found) == (type(expected), expected)


def test_true_stays_true() -> None:
    assert whole(True) is True
