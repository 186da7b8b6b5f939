"""Rows of scores in and out: precision, masks, shapes, bytes."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest

from service.web.rows import ArrayResponse, read_scores, scores_schema


def read(value: object, axes: tuple[int, int] = (2, 2), *, masks: bool = True) -> np.ndarray:
    return read_scores(value, axes=axes, masks=masks)


def test_lists_are_float64_and_null_is_a_mask() -> None:
    found = read([[1, 2.5, None], [-3, 0, 1e300]])
    assert found.dtype == np.float64
    assert found.tolist() == [[1, 2.5, -np.inf], [-3, 0, 1e300]]


@pytest.mark.parametrize(("kind", "expected"), [("<f2", "f4"), ("<f4", "f4"), ("<f8", "f8")])
def test_arrays_keep_their_precision(kind: str, expected: str) -> None:
    array = np.array([[1, -np.inf]], dtype=kind)
    assert read(array).dtype == np.dtype(expected)
    assert read(array).tolist() == [[1, -np.inf]]


def test_tensors_have_two_to_four_axes() -> None:
    nested: Any = [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]
    assert read(nested, (2, 4)).shape == (2, 2, 2)
    with pytest.raises(ValueError, match="2 to 4 axes"):
        read([1, 2], (2, 4))
    with pytest.raises(ValueError, match="different lengths"):
        read([[[1, 2], [3, 4]], [[5, 6]]], (2, 4))


def test_masks_can_be_forbidden() -> None:
    with pytest.raises(ValueError, match="row 1 holds None at position 0"):
        read([[1], [None]], masks=False)


def test_lists_nested_a_thousand_deep_are_refused() -> None:
    nested: Any = 1
    for _ in range(1000):
        nested = [nested]
    with pytest.raises(ValueError, match="nested more than 2 deep"):
        read(nested)


def test_the_schema_says_where_null_is_allowed() -> None:
    masked = scores_schema("x", axes=(1, 1), masks=True)["anyOf"][0]["items"]
    plain = scores_schema("x", axes=(1, 1), masks=False)["anyOf"][0]["items"]
    assert {"type": "null"} in masked["anyOf"]
    assert plain["type"] == "number"


@pytest.mark.anyio
@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype="<f4").reshape(2, 3),
        np.arange(6, dtype="<i8"),
        np.asfortranarray(np.ones((3, 2))),
        np.ones((4, 4))[::2, ::2],
    ],
)
async def test_an_array_goes_out_as_numpy_would_save_it(array: np.ndarray) -> None:
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    response = ArrayResponse(array)
    await response({"type": "http"}, None, send)  # type: ignore[arg-type]
    content = b"".join(bytes(message["body"]) for message in sent[1:])
    assert np.array_equal(np.load(io.BytesIO(content)), array)
    assert dict(sent[0]["headers"])[b"content-length"] == str(len(content)).encode()
    assert dict(sent[0]["headers"])[b"content-type"] == b"application/x-npy"
    assert [message.get("more_body", False) for message in sent[1:]] == [True, False]
