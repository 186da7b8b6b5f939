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
NO_FILE = "the body is no .npy file"


def headed(header: bytes, numbers: bytes = bytes(24)) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + numbers


def shaped(shape: str, descr: str = "'<f4'") -> bytes:
    return headed(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}".encode())


REFUSED = {
    "no npy": (b"not at all", NO_FILE),
    "nothing more": (b"\x93NUMPY", NO_FILE),
    "unknown version": (WHOLE[:6] + b"\x09" + WHOLE[7:], NO_FILE),
    "cut head": (WHOLE[:20], NO_FILE),
    "cut": (WHOLE[:-1], f"the file has {len(WHOLE) - 1} bytes and shape (3, 2) needs"),
    "too long": (WHOLE + b"x", "needs"),
    "integers": (npy(np.ones((2, 2), dtype=np.int64)), "dtype '<i8'"),
    "objects": (npy(np.array([[{}]], dtype=object)), "dtype '|O'"),
    "records": (shaped("(3, 2)", "[('a', '<f4')]"), "dtype"),
    "big-endian": (npy(VECTORS.astype(">f4")), "dtype '>f4'"),
    "Fortran order": (npy(np.asfortranarray(VECTORS)), "Fortran"),
    "one dimension": (npy(VECTORS[0]), "shape (2,)"),
    "no rows": (npy(VECTORS[:0]), "shape (0, 2)"),
    "negative sides": (shaped("(-2, -3)"), "shape (-2, -3)"),
    "sides of no number": (shaped("('2', 3)"), "sides are whole numbers"),
    "no shape": (shaped("6"), "sides are whole numbers"),
    "sides beyond reason": (shaped("(99999999999, 99999999999)"), "needs"),
    "not finite": (npy(np.array([[1, np.nan]])), "nan at position 1"),
    "beyond float32": (npy(np.array([[1, 1e300]])), "1e+300 at position 1"),
    "broken header": (headed(b"{'descr': '<f4', ("), NO_FILE),
    "deep header": (headed(b"(" * 900), NO_FILE),
    "long header": (headed(b"-" * 9000 + b"1"), "header has 9001 bytes"),
    "header with NUL": (headed(b"{'a\0"), NO_FILE),
    "header of bytes": (headed(b"{'\xff\xfe': 1"), NO_FILE),
    "indented header": (headed(b"{\n   1\n 2"), NO_FILE),
    "open quotes": (headed(b"'" * 3), NO_FILE),
    "header of another kind": (headed(b"[1, 2]"), "header says [1, 2]"),
    "header with more": (headed(b"{'descr': '<f4'}"), "header says"),
    "header that calls": (headed(b"__import__('os')"), NO_FILE),
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
