"""What can be sent wrong to the distribution room: a 4xx problem that names it."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator

import numpy as np
import orjson
import pytest
from starlette.testclient import TestClient

from tests.contract.problems import expect_problem

JSON, NPY = {"Content-Type": "application/json"}, {"Content-Type": "application/x-npy"}
P, S = "/v1/distribution/probabilities", "/v1/distribution/sample"
M, D = "/v1/distribution/merge-contexts", "/v1/distribution/divergence"
C, F = "/v1/analysis/concentration", "/v1/analysis/density"
K = "/v1/analysis/calibrations"
INVALID, INFINITE = "invalid_input", "not_finite"
MISMATCH, EMPTY = "dimension_mismatch", "empty_input"


@pytest.fixture(autouse=True)
def goes_on(client: TestClient) -> Iterator[None]:
    """Check after every case that the room still answers."""
    yield
    assert client.post(P, json={"logits": [[1, 2]]}).status_code == 200


def coded(array: np.ndarray, **other: object) -> dict[str, object]:
    data = base64.b64encode(array.tobytes()).decode()
    return {"shape": list(array.shape), "dtype": array.dtype.name, "data": data, **other}


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


NAN = coded(np.array([[0, 1], [np.nan, 2]]))
INF = coded(np.array([[0, np.inf]], dtype="<f4"))
ROW = [[2, 1, 0]]
TOO_DEEP: object = [[[1]]]

BODIES: dict[str, tuple[str, object, str, str]] = {
    # name: path, body, code, part of the detail
    "NaN": (P, {"logits": NAN}, INFINITE, "Row 1 of the logits holds nan at position 0"),
    "plus infinity": (P, {"logits": INF}, INFINITE, "Row 0 of the logits holds inf at position 1"),
    "all masked": (P, {"logits": [[1], [None]]}, INFINITE, "Row 1 of the logits is masked every"),
    "no rows": (P, {"logits": []}, INVALID, "there is an empty list"),
    "empty row": (P, {"logits": [[]]}, INVALID, "there is an empty list"),
    "ragged": (P, {"logits": [[1, 2], [1]]}, INVALID, "the rows have different lengths: [1, 2]"),
    "flat": (P, {"logits": [1, 2]}, INVALID, "the shape is (2,); it must have 2 axes"),
    "deep": (P, {"logits": TOO_DEEP}, INVALID, "nested more than 2 deep"),
    "mixed": (P, {"logits": [[1], 2]}, INVALID, "no number"),
    "text": (P, {"logits": [[1, "2"]]}, INVALID, "row 0 holds '2' at position 1"),
    "true": (P, {"logits": [[1, True]]}, INVALID, "row 0 holds True at position 1"),
    "null logits": (P, {"logits": None}, INVALID, "got None"),
    "no logits": (P, {}, INVALID, "At /logits: Field required"),
    "unknown field": (P, {"logits": ROW, "temprature": 1}, INVALID, "/temprature"),
    "unknown map": (P, {"logits": ROW, "map": "gumbel"}, INVALID, "'gumbel'"),
    "temperature 0": (P, {"logits": ROW, "temperature": 0}, INVALID, "must be above 0"),
    "temperature < 0": (P, {"logits": ROW, "temperature": -1}, INVALID, "got -1"),
    "scale 0": (P, {"logits": ROW, "map": "gaussian", "scale": 0}, INVALID, "must be above 0"),
    "alpha < 1": (
        P,
        {"logits": ROW, "map": "entmax", "alpha": 0.5},
        INVALID,
        "equal to 1 (got 0.5",
    ),
    "alpha unread": (P, {"logits": ROW, "alpha": 2}, INVALID, "'softmax' does not read alpha"),
    "scale unread": (P, {"logits": ROW, "map": "top_k", "scale": 2}, INVALID, "not read scale"),
    "k 0": (P, {"logits": ROW, "map": "top_k", "k": 0}, INVALID, "got 0"),
    "p 0": (P, {"logits": ROW, "map": "top_p", "p": 0}, INVALID, "got 0"),
    "p > 1": (P, {"logits": ROW, "map": "top_p", "p": 1.5}, INVALID, "got 1.5"),
    "nodes 3": (P, {"logits": ROW, "map": "gaussian", "nodes": 3}, INVALID, "got 3"),
    "top 0": (P, {"logits": ROW, "top": 0}, INVALID, "got 0"),
    "return nothing": (P, {"logits": ROW, "return": []}, INVALID, "got []"),
    "return odd": (P, {"logits": ROW, "return": ["logits"]}, INVALID, "'logits'"),
    "coded short": (P, {"logits": coded(np.ones(3), shape=[2, 2])}, INVALID, "needs 32"),
    "coded int": (P, {"logits": coded(np.ones((1, 2), "<i4"))}, INVALID, "dtype is 'int32'"),
    "coded side 0": (P, {"logits": coded(np.ones(0), shape=[0, 2])}, INVALID, "[0, 2]"),
    "coded side": (P, {"logits": coded(np.ones(1), shape=[True, 1])}, INVALID, "[True, 1]"),
    "coded vast": (P, {"logits": coded(np.ones(1), shape=[10**18] * 2)}, INVALID, "8 bytes"),
    "coded axes": (P, {"logits": coded(np.ones(4))}, INVALID, "must have 2 axes"),
    "coded garbage": (P, {"logits": coded(np.ones((1, 1)), data="*")}, INVALID, "not base64"),
    "coded number": (P, {"logits": coded(np.ones((1, 1)), data=7)}, INVALID, "base64 string"),
    "coded field": (P, {"logits": {"shape": [1, 1]}}, INVALID, "shape, dtype and data"),
    "noise": (S, {"logits": ROW, "noise": "softmax"}, INVALID, "'softmax'"),
    "draws 0": (S, {"logits": ROW, "draws": 0}, INVALID, "got 0"),
    "draws all": (
        S,
        {"logits": [[1, None, 2]], "draws": 3, "without_replacement": True},
        INVALID,
        "3 draws without replacement were asked for and a row has 2 open",
    ),
    "seed": (S, {"logits": ROW, "seed": -1}, INVALID, "whole number from 0"),
    "beta < -1": (
        M,
        {"conditional": ROW, "unconditional": [1, 2, 3], "beta": -1.5},
        INVALID,
        "equal to -1 (got -1.5)",
    ),
    "eta < 0": (M, {"conditional": ROW, "unconditional": [1, 2, 3], "eta": -1}, INVALID, "got -1"),
    "vocabularies": (M, {"conditional": ROW, "unconditional": [1, 2]}, MISMATCH, "have 3 entries"),
    "masked background": (
        M,
        {"conditional": ROW, "unconditional": [None] * 3},
        INFINITE,
        "masked everywhere",
    ),
    "previous": (
        M,
        {"conditional": ROW, "unconditional": [1, 2, 3], "previous_index": 1},
        INVALID,
        "previous_index is 1 and there are 1 contexts",
    ),
    "no token": (
        M,
        {"conditional": [[9, 0], [0, 9]], "unconditional": [0, 0], "pooling": "mean"},
        INVALID,
        "No token has mass in all 2 contexts",
    ),
    "no t": (D, {"s": ROW}, EMPTY, "there is no t"),
    "shapes": (D, {"s": ROW, "t": [[1, 2]]}, MISMATCH, "(1, 3) and t has (1, 2)"),
    "one mask": (D, {"s": [[1, None]], "t": [[1, 2]]}, INVALID, "masked at position 1 on one side"),
    "emo bare": (D, {"s": ROW, "kind": "emo", "targets": [0]}, EMPTY, "needs embeddings"),
    "emo short": (
        D,
        {"s": ROW, "kind": "emo", "targets": [0], "embeddings": [[1]]},
        MISMATCH,
        "There are 1 embeddings and the rows of s have 3 entries",
    ),
    "emo aimless": (
        D,
        {"s": [[1]], "kind": "emo", "embeddings": [[1]]},
        INVALID,
        "exactly one of t and targets",
    ),
    "emo target": (
        D,
        {"s": [[1]], "kind": "emo", "embeddings": [[1]], "targets": [1]},
        INVALID,
        "Target 0 is 1 and the rows of s have 1 entries",
    ),
    "emo targets": (
        D,
        {"s": [[1]], "kind": "emo", "embeddings": [[1]], "targets": [0, 0]},
        MISMATCH,
        "There are 2 targets and 1 rows",
    ),
    "emo zero": (
        D,
        {"s": [[1, 1]], "kind": "emo", "embeddings": [[1], [0]], "targets": [0]},
        INVALID,
        "Vector 1 is all zeros",
    ),
    "sum": (C, {"rows": [[0.5, 0.4]], "kind": "probabilities"}, INVALID, "Row 0 .* sums to 0.9"),
    "negative": (C, {"rows": [[1.5, -0.5]], "kind": "probabilities"}, INVALID, "holds -0.5"),
    "vector null": (C, {"rows": [[1, None]]}, INFINITE, "At /rows/0/1 stands -inf"),
    "orders": (C, {"rows": ROW, "orders": [[2, 1]]}, INVALID, "a pair is [q, p] with 0 < q < p"),
    "renyi": (C, {"rows": ROW, "renyi": [-1]}, INVALID, "got -1"),
    "values of vectors": (C, {"rows": ROW, "values": ROW}, INVALID, "of the kind 'vector'"),
    "values": (
        C,
        {"rows": ROW, "kind": "logits", "values": ROW},
        MISMATCH,
        "The rows have the shape (1, 3) and the values (1, 3)",
    ),
    "five axes": (C, {"rows": [[[[[1]]]]]}, INVALID, "nested more than 4 deep"),
    "no samples": (F, {}, INVALID, "give exactly one of samples and texts"),
    "both": (F, {"samples": [1, 2], "texts": ["a"]}, INVALID, "give exactly one"),
    "sample NaN": (F, {"samples": coded(np.array([0, np.nan]))}, INFINITE, "/samples/1 stands nan"),
    "sample null": (F, {"samples": [1, None]}, INVALID, "holds None"),
    "point NaN": (
        F,
        {"samples": [1, 2], "points": coded(np.array([np.inf]))},
        INFINITE,
        "/points/0 stands inf",
    ),
    "equal": (F, {"samples": [2, 2, 2]}, INVALID, "All 3 samples are 2"),
    "outside": (F, {"samples": [2], "domain": "bounded"}, INVALID, "Sample 0 is 2 and the bounds"),
    "bounds": (F, {"samples": [2], "bounds": [1, 1]}, INVALID, "the second must be larger"),
    "real bounds": (
        F,
        {"samples": [1, 2], "domain": "real", "bounds": [0, 3]},
        INVALID,
        "bounds belong to a bounded domain",
    ),
    "order 65": (F, {"samples": [1, 2], "order": 65}, INVALID, "got 65"),
    "quantile 1": (F, {"samples": [1, 2], "quantiles": [1]}, INVALID, "got 1"),
    "model of samples": (F, {"samples": [1, 2], "model": "x"}, INVALID, "there are none"),
    "two texts": (F, {"texts": ["a", "b"]}, INVALID, "2 texts came; a calibration compares"),
    "name": (F, {"samples": [1, 2], "name": "a/b"}, INVALID, "'a/b'"),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_bad_body_is_a_422_that_names_the_fault(client: TestClient, name: str) -> None:
    path, body, code, part = BODIES[name]
    answer = client.post(path, content=orjson.dumps(body), headers=JSON)
    expect_problem(answer, 422, code, *part.split(" .* "))


@pytest.mark.parametrize("text", [b"[[NaN, 1]]", b"[[1, Infinity]]", b"[[1e400]]"])
def test_json_has_no_infinity(client: TestClient, text: bytes) -> None:
    answer = client.post(P, content=b'{"logits": ' + text + b"}", headers=JSON)
    expect_problem(answer, 422, INVALID, "not valid JSON")


@pytest.mark.parametrize(
    ("body", "part"),
    [
        (npy(np.array([[1.0, np.nan]])), "holds nan at position 1"),
        (npy(np.ones(3)), "must have 2 axes"),
        (npy(np.ones((0, 3))), "none empty"),
        (npy(np.ones((2, 2), "<i8")), "has dtype"),
        (npy(np.ones((2, 2)))[:-1], "needs"),
        (b"", "no .npy file"),
    ],
)
def test_a_bad_npy_body(client: TestClient, body: bytes, part: str) -> None:
    answer = client.post(P, content=body, headers=NPY)
    expect_problem(answer, 422, answer.json()["code"], part)


def test_a_bad_query_of_an_npy_body(client: TestClient) -> None:
    body = npy(np.ones((1, 2)))
    for query in ({"temperature": "0"}, {"temperature": "cold"}, {"colour": "1"}):
        answer = client.post(P, content=body, headers=NPY, params=query)
        expect_problem(answer, 422, INVALID, next(iter(query)))


def test_many_numbers_and_draws_are_too_many(client: TestClient) -> None:
    wide = npy(np.zeros((2, 8_400_000), "<f4"))
    answer = client.post(P, content=wide, headers=NPY)
    expect_problem(answer, 413, "too_many_items", "16800000 numbers", "16777216")
    answer = client.post(S, json={"logits": ROW, "draws": 1_000_001})
    expect_problem(answer, 413, "too_many_items", "1000001 draws")
    answer = client.post(F, json={"samples": [1, 2], "points": [0.0] * 100_001})
    expect_problem(answer, 413, "too_many_items", "100001 points")
    answer = client.post(F, json={"texts": ["a"] * 20_001})
    expect_problem(answer, 413, "too_many_items", "20001 texts")


def test_unknown_artefacts(client: TestClient) -> None:
    expect_problem(client.get(f"{K}/nobody@3"), 404, "unknown_artefact", "nobody@3")
    expect_problem(client.delete(f"{K}/nobody"), 404, "unknown_artefact", "nobody")
    answer = client.post(f"{K}/nobody/percentiles", json={"scores": [1]})
    expect_problem(answer, 404, "unknown_artefact", "nobody")
    texts = ["a", "b", "c"]
    answer = client.post(F, json={"texts": texts, "transform": "nothing"})
    expect_problem(answer, 404, "unknown_artefact", "nothing")
    answer = client.post(F, json={"texts": texts, "model": "nothing"})
    expect_problem(answer, 404, "unknown_model", "nothing")


def test_a_deadline_stops_a_long_map(client: TestClient) -> None:
    rows = npy(np.random.default_rng(0).normal(size=(60, 100_000)).astype("<f4"))
    headers = {**NPY, "X-Request-Timeout-Ms": "300"}
    answer = client.post(P, content=rows, headers=headers, params={"map": "gaussian"})
    expect_problem(answer, 504, "deadline_exceeded")
