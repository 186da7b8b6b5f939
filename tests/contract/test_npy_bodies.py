"""A matrix as a `.npy` body, its other fields in the query: the same answer as JSON gives."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from tests.contract.problems import expect_problem

NPY = "application/x-npy"
SIMILARITY = "/v1/similarity"
VECTORS = np.array([[1, 0], [1, 1], [0, 2]], dtype=np.float32)


def npy(array: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=array.dtype.kind == "O")
    return buffer.getvalue()


def send(client: TestClient, content: bytes, query: str = "") -> Any:
    return client.post(f"{SIMILARITY}?{query}", content=content, headers={"Content-Type": NPY})


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8"])
def test_both_forms_give_the_same_answer(client: TestClient, dtype: str) -> None:
    answer = send(client, npy(VECTORS.astype(dtype)), "metric=cosine")
    assert answer.status_code == 200
    assert answer.content == client.post(SIMILARITY, json={"vectors": VECTORS.tolist()}).content


def test_npy_goes_in_and_out(client: TestClient) -> None:
    headers = {"Content-Type": NPY, "Accept": NPY}
    answer = client.post(SIMILARITY, content=npy(VECTORS), headers=headers)
    scores = np.load(io.BytesIO(answer.content))
    np.testing.assert_allclose(np.diag(scores), 1)
    np.testing.assert_allclose(scores[0, 1], np.sqrt(0.5), rtol=1e-6)


WHOLE = npy(VECTORS)
REFUSED = {
    "no npy": (b"not at all", "The body is no .npy file"),
    "cut head": (WHOLE[:20], "The body is no .npy file"),
    "cut": (WHOLE[:-1], f"The file has {len(WHOLE) - 1} bytes and shape (3, 2) needs"),
    "too long": (WHOLE + b"x", "needs"),
    "integers": (npy(np.ones((2, 2), dtype=np.int64)), "dtype int64"),
    "objects": (npy(np.array([[{}]], dtype=object)), "dtype object"),
    "big-endian": (npy(VECTORS.astype(">f4")), "little-endian"),
    "Fortran order": (npy(np.asfortranarray(VECTORS)), "Fortran"),
    "one dimension": (npy(VECTORS[0]), "shape (2,)"),
    "no rows": (npy(VECTORS[:0]), "shape (0, 2)"),
    "not finite": (npy(np.array([[1, np.nan]])), "nan at position 1"),
    "beyond float32": (npy(np.array([[1, 1e300]])), "inf at position 1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_refused(client: TestClient, name: str) -> None:
    content, detail = REFUSED[name]
    expect_problem(send(client, content), 422, "invalid_input", "/vectors", detail)


def test_an_unknown_parameter_is_refused(client: TestClient) -> None:
    expect_problem(send(client, WHOLE, "metrik=cosine"), 422, "invalid_input", "/metrik")


def test_a_parameter_of_another_type_is_refused(client: TestClient) -> None:
    expect_problem(send(client, WHOLE, "metric=7"), 422, "invalid_input", "/metric", "'7'")


def test_routes_without_a_matrix_refuse_npy(client: TestClient) -> None:
    answer = client.post("/v1/embeddings", content=WHOLE, headers={"Content-Type": NPY})
    expect_problem(answer, 415, "unsupported_media_type", "application/json")
