"""What a client can send wrong: a 4xx problem that names it, and a service that goes on."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import numpy as np
import orjson
import pytest
from starlette.testclient import TestClient

from tests.contract.problems import expect_problem

JSON = {"Content-Type": "application/json"}
LIMIT = 96 * 2**20
EMBEDDINGS, SIMILARITY = "/v1/embeddings", "/v1/similarity"


@pytest.fixture(autouse=True)
def goes_on(client: TestClient) -> Iterator[None]:
    """Check after every case that the service still answers."""
    yield
    assert client.post(EMBEDDINGS, json={"input": "still there"}).status_code == 200


def coded(*numbers: float, shape: list[int]) -> bytes:
    data = base64.b64encode(np.array(numbers, dtype="<f4").tobytes()).decode()
    return orjson.dumps({"vectors": {"shape": shape, "dtype": "float32", "data": data}})


E, S = EMBEDDINGS, SIMILARITY
INVALID, MISMATCH = "invalid_input", "dimension_mismatch"
BODIES: dict[str, tuple[str, bytes, str, str]] = {
    # name: path, body, code, part of the detail
    "cut off": (E, b'{"input": ', INVALID, "not valid JSON, at character 10"),
    "no body": (E, b"", INVALID, "body is empty"),
    "null body": (E, b"null", INVALID, "got None"),
    "list body": (E, b"[1]", INVALID, "got [1]"),
    "text body": (E, b'"x"', INVALID, "got 'x'"),
    "empty object": (E, b"{}", INVALID, "At /input: Field required"),
    "lone surrogate escaped": (E, b'{"input": "\\ud800"}', INVALID, "surrogate"),
    "lone surrogate raw": (E, b'{"input": "\xed\xa0\x80"}', INVALID, "UTF-8"),
    "invalid UTF-8": (E, b'{"input": "\xff"}', INVALID, "UTF-8"),
    "UTF-16": (E, '{"input": "a"}'.encode("utf-16"), INVALID, "UTF-8"),
    "byte order mark": (E, b'\xef\xbb\xbf{"input": "a"}', INVALID, "BOM"),
    "raw NUL": (E, b'{"input": "a\x00b"}', INVALID, "character 12"),
    "NaN": (E, b'{"input": NaN}', INVALID, "character 10"),
    "1e400": (E, b'{"input": [1e400]}', INVALID, "infinity"),
    "huge integer": (E, b'{"input": [1' + b"0" * 30 + b"]}", MISMATCH, "1000"),
    "nested": (E, b'{"input":' + b"[" * 1000 + b"]" * 1000 + b"}", INVALID, "[[["),
    "nested deep": (E, b'{"input":' + b"[" * 10**5, INVALID, "depth"),
    "nested field": (
        E,
        b'{"x":' * 900 + b"1" + b"}" * 900,
        INVALID,
        "2 places",
    ),
    "unknown field": (E, b'{"input": "a", "inptu": 1}', INVALID, "/inptu"),
    "null input": (E, b'{"input": null}', INVALID, "got None"),
    "number input": (E, b'{"input": 7}', INVALID, "got 7"),
    "object input": (E, b'{"input": {"a": 1}}', INVALID, "{'a': 1}"),
    "empty list": (E, b'{"input": []}', INVALID, "got []"),
    "empty ids": (E, b'{"input": [[]]}', INVALID, "got [[]]"),
    "ids among which none": (E, b'{"input": [[1], []]}', INVALID, "[[1], []]"),
    "mixed list": (E, b'{"input": ["a", 1]}', INVALID, "['a', 1]"),
    "list of null": (E, b'{"input": [null]}', INVALID, "[None]"),
    "list of lists of texts": (E, b'{"input": [["a"]]}', INVALID, "[['a']]"),
    "boolean ids": (E, b'{"input": [true]}', INVALID, "[True]"),
    "fractional ids": (E, b'{"input": [1.5]}', INVALID, "[1.5]"),
    "negative ids": (E, b'{"input": [-1]}', INVALID, "[-1]"),
    "id beyond": (E, b'{"input": [30522]}', MISMATCH, "30522"),
    "dimensions 0": (E, b'{"input": "a", "dimensions": 0}', INVALID, "got 0"),
    "dimensions -1": (E, b'{"input": "a", "dimensions": -1}', INVALID, "got -1"),
    "dimensions 385": (E, b'{"input":"a","dimensions":385}', MISMATCH, "385"),
    "dimensions 1e30": (
        E,
        b'{"input":"a","dimensions":1e30}',
        MISMATCH,
        "1000",
    ),
    "dimensions true": (E, b'{"input":"a","dimensions":true}', INVALID, "True"),
    'dimensions "8"': (E, b'{"input":"a","dimensions":"8"}', INVALID, "'8'"),
    "dimensions 8.5": (E, b'{"input":"a","dimensions":8.5}', INVALID, "8.5"),
    "unknown format": (
        E,
        b'{"input":"a","encoding_format":"hex"}',
        INVALID,
        "'hex'",
    ),
    "unknown pooling": (E, b'{"input":"a","pooling":"max"}', INVALID, "'max'"),
    "unknown side": (E, b'{"input":"a","truncate":"middle"}', INVALID, "'middle'"),
    "normalize 1": (E, b'{"input":"a","normalize":1}', INVALID, "got 1"),
    "model 7": (E, b'{"input":"a","model":7}', INVALID, "got 7"),
    "model empty": (E, b'{"input":"a","model":""}', INVALID, "got ''"),
    "nothing to compare": (S, b"{}", "empty_input", "pairs, texts and vectors"),
    "two to compare": (
        S,
        b'{"texts":["a"],"pairs":[["a","b"]]}',
        INVALID,
        "pairs and texts",
    ),
    "no pairs": (S, b'{"pairs": []}', INVALID, "got []"),
    "single": (S, b'{"pairs": [["a","b"],["a"]]}', INVALID, "pair 1 has 1"),
    "pair of numbers": (S, b'{"pairs": [[1,2]]}', INVALID, "got 1"),
    "no texts": (S, b'{"texts": []}', INVALID, "got []"),
    "null texts": (S, b'{"texts": null}', INVALID, "got None"),
    "null vectors": (S, b'{"vectors": null}', INVALID, "got None"),
    "unknown metric": (S, b'{"texts":["a"],"metric":"dot"}', INVALID, "'dot'"),
    "vectors NaN": (S, b'{"vectors": [[NaN, 1]]}', INVALID, "character 14"),
    "vectors Infinity": (S, b'{"vectors": [[Infinity]]}', INVALID, "character 14"),
    "vectors 1e400": (S, b'{"vectors": [[1e400]]}', INVALID, "infinity"),
    "vectors 1e39": (S, b'{"vectors": [[1, 1e39]]}', INVALID, "1e+39 at position 1"),
    "coded NaN": (
        S,
        coded(1, float("nan"), shape=[1, 2]),
        INVALID,
        "nan at position",
    ),
    "coded Infinity": (S, coded(float("-inf"), shape=[1, 1]), INVALID, "-inf"),
    "ragged": (S, b'{"vectors": [[1], [1, 2]]}', INVALID, "[1, 2]"),
    "zero vector": (
        S,
        b'{"vectors": [[1, 1], [0, 0]]}',
        INVALID,
        "Vector 1 is all zero",
    ),
    "no vectors": (S, b'{"vectors": []}', INVALID, "got []"),
    "empty vector": (S, b'{"vectors": [[]]}', INVALID, "got [[]]"),
    "vector of true": (S, b'{"vectors": [[true, 1]]}', INVALID, "True"),
    "vector of text": (S, b'{"vectors": [["1", 1]]}', INVALID, "'1'"),
    "flat vector": (S, b'{"vectors": [1, 2]}', INVALID, "[1, 2]"),
    "coded short": (S, coded(1, 2, 3, shape=[2, 2]), INVALID, "12 bytes"),
    "coded shape 0": (S, coded(shape=[0, 2]), INVALID, "[0, 2]"),
    "coded shape true": (S, coded(1, shape=[True, 1]), INVALID, "[True, 1]"),
    "coded vast": (S, coded(1, shape=[10**18, 10**18]), INVALID, "4 bytes"),
    "not base64": (
        S,
        b'{"vectors": {"shape": [1,1], "dtype": "float32", "data": "*"}}',
        INVALID,
        "base64",
    ),
    "float64": (
        S,
        b'{"vectors": {"shape": [1,1], "dtype": "float64", "data": ""}}',
        INVALID,
        "'float64'",
    ),
    "coded field missing": (S, b'{"vectors": {"shape": [1,1]}}', INVALID, "dtype"),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_bad_body_is_a_422_that_names_the_fault(client: TestClient, name: str) -> None:
    path, body, code, part = BODIES[name]
    expect_problem(client.post(path, content=body, headers=JSON), 422, code, part)


@pytest.mark.parametrize(
    ("path", "pointer"), [(EMBEDDINGS, "/input"), (SIMILARITY, "/texts"), (SIMILARITY, "/pairs")]
)
def test_a_hundred_thousand_items_are_too_many(client: TestClient, path: str, pointer: str) -> None:
    items: list[object] = [["a", "b"] if pointer == "/pairs" else "a"] * 100_000
    problem = expect_problem(
        client.post(path, json={pointer[1:]: items}), 413, "too_many_items", "100000", "2048"
    )
    assert problem["errors"] == [
        {"pointer": pointer, "detail": "holds 100000 items, at most 2048 are allowed"}
    ]


def test_many_vectors_are_too_many(client: TestClient) -> None:
    body = {"vectors": [[1.0]] * 2049}
    expect_problem(client.post(SIMILARITY, json=body), 413, "too_many_items", "2049")


@pytest.mark.parametrize("path", [EMBEDDINGS, SIMILARITY, "/v1/models", "/v9"])
def test_a_body_beyond_the_limit_is_too_large(client: TestClient, path: str) -> None:
    body = b'{"input": "' + b"word " * 21_000_000 + b'"}'
    answer = client.post(path, content=body, headers=JSON)
    expect_problem(answer, 413, "body_too_large", str(len(body)), str(LIMIT))


def test_a_body_without_a_length_is_counted_while_it_comes(client: TestClient) -> None:
    answer = client.post(EMBEDDINGS, content=iter([b"x" * 2**20] * 97), headers=JSON)
    expect_problem(answer, 413, "body_too_large", f"at least {97 * 2**20}", str(LIMIT))


@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data", "application/x-json"])
def test_other_content_types_are_refused(client: TestClient, kind: str) -> None:
    answer = client.post(EMBEDDINGS, content=b'{"input": "a"}', headers={"Content-Type": kind})
    expect_problem(answer, 415, "unsupported_media_type", repr(kind))


def test_a_missing_content_type_is_refused(client: TestClient) -> None:
    expect_problem(client.post(EMBEDDINGS, content=b"{}"), 415, "unsupported_media_type")


@pytest.mark.parametrize("coding", ["gzip", "br", "gzip, identity"])
def test_a_compressed_body_is_refused(client: TestClient, coding: str) -> None:
    headers = JSON | {"Content-Encoding": coding}
    answer = client.post(EMBEDDINGS, content=b"\x1f\x8b\x08", headers=headers)
    expect_problem(answer, 415, "unsupported_media_type", coding)


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", EMBEDDINGS, "POST"),
        ("DELETE", SIMILARITY, "POST"),
        ("POST", "/v1/models", "GET"),
        ("PUT", "/v1/models/x", "GET"),
        ("PATCH", "/livez", "GET"),
        ("OPTIONS", "/v1/info", "GET"),
    ],
)
def test_a_wrong_method_names_the_right_one(
    client: TestClient, method: str, path: str, allow: str
) -> None:
    answer = client.request(method, path)
    expect_problem(answer, 405, "method_not_allowed", method, allow)
    assert answer.headers["allow"] == allow


@pytest.mark.parametrize(
    "path", ["/v9", "/v1/embeddings/x", "/docs/assets/none.js", "/v1/models/a%2Fb"]
)
def test_unknown_paths(client: TestClient, path: str) -> None:
    expect_problem(client.get(path), 404, "unknown_route")


@pytest.mark.parametrize("text", ["abc", "0", "-1", "1.5", "", "1e3", "٣", "9999999999", "007"])
def test_a_timeout_that_is_no_number_is_refused(client: TestClient, text: str) -> None:
    headers = {"X-Request-Timeout-Ms": text.encode()}
    answer = client.post(EMBEDDINGS, json={"input": "a"}, headers=headers)  # type: ignore[arg-type]
    expect_problem(answer, 422, "invalid_input", "X-Request-Timeout-Ms")


def test_many_faults_are_counted_and_a_score_of_them_listed(client: TestClient) -> None:
    body = {"input": "a"} | {f"field/{number}~": 1 for number in range(50)}
    problem = expect_problem(client.post(EMBEDDINGS, json=body), 422, "invalid_input", "50 places")
    errors = problem["errors"]
    assert isinstance(errors, list)
    assert len(errors) == 20
    assert errors[0]["pointer"] == "/field~10~0"
