"""What the whitening routes refuse, with which number, and that nothing changes by it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings
from tests.contract.problems import expect_problem
from tests.support.transforms import TRANSFORMS, fit, npy, slanted

INT8 = "all-MiniLM-L6-v2-int8"
POINTS = [[1, 0], [0, 1], [2, 2]]
TEXTS = ["A cat sleeps.", "A dog barks.", "Rain falls."]
PAIRS = [{"a": TEXTS[row % 3], "b": TEXTS[(row + 1) % 3], "score": row} for row in range(10)]
ROWS = [{"a": row % 3, "b": (row + 1) % 3, "score": row} for row in range(10)]


@pytest.fixture(scope="module", autouse=True)
def existing(client: TestClient) -> None:
    fit(client, name="vec", vectors=POINTS)
    fit(client, name="txt", texts=TEXTS, dimensions=8)


FITS: dict[str, tuple[dict[str, Any], int, str, str]] = {
    "no name": ({"vectors": POINTS}, 422, "invalid_input", "/name"),
    "bad name": ({"name": "a b", "vectors": POINTS}, 422, "invalid_input", "'a b'"),
    "name with a version": ({"name": "a@1", "vectors": POINTS}, 422, "invalid_input", "'a@1'"),
    "nothing": ({"name": "x"}, 422, "invalid_input", "exactly one of texts and vectors"),
    "both": (
        {"name": "x", "texts": TEXTS, "vectors": POINTS}, 422, "invalid_input", "exactly one",
    ),
    "ragged": ({"name": "x", "vectors": [[1, 2], [3]]}, 422, "invalid_input", "[1, 2]"),
    "zero": ({"name": "x", "vectors": [[1, 2], [0, 0]]}, 422, "invalid_input", "Vector 1 is all"),
    "constant": ({"name": "x", "vectors": [[1, 2]] * 4}, 422, "invalid_input", "All 4 vectors"),
    "one": ({"name": "x", "vectors": [[1, 2]]}, 422, "invalid_input", "1 vector came"),
    "one text": ({"name": "x", "texts": ["a"]}, 422, "invalid_input", "1 vector came"),
    "k beyond d": (
        {"name": "x", "vectors": POINTS, "dimensions": 3},
        422, "dimension_mismatch", "3 dimensions",
    ),
    "k beyond n - 1": (
        {"name": "x", "vectors": [[1, 2, 3], [4, 5, 7]], "shrinkage": "none", "dimensions": 2},
        422, "dimension_mismatch", "2 samples span only 1",
    ),
    "all k beyond n - 1": (
        {"name": "x", "vectors": [[1, 2, 3], [4, 5, 7]], "shrinkage": "none"},
        422, "dimension_mismatch", "2 samples span only 1",
    ),
    "k of 0": ({"name": "x", "vectors": POINTS, "dimensions": 0}, 422, "invalid_input", "got 0"),
    "beta": ({"name": "x", "vectors": POINTS, "beta": 1.5}, 422, "invalid_input", "1.5"),
    "gamma": ({"name": "x", "vectors": POINTS, "gamma": -0.1}, 422, "invalid_input", "-0.1"),
    "shrinkage": ({"name": "x", "vectors": POINTS, "shrinkage": "lw"}, 422, "invalid_input", "lw"),
    "unknown field": ({"name": "x", "vectors": POINTS, "k": 1}, 422, "invalid_input", "/k"),
    "unknown model": ({"name": "x", "texts": TEXTS, "model": "no"}, 404, "unknown_model", "'no'"),
    "unknown pooling": (
        {"name": "x", "texts": TEXTS, "model": "use-multilingual-3", "pooling": "cls"},
        422, "invalid_input", "'cls'",
    ),
    "pooling without a model": (
        {"name": "x", "vectors": POINTS, "pooling": "cls"}, 422, "invalid_input", "without a model",
    ),
    "vectors of another model": (
        {"name": "x", "vectors": POINTS, "model": INT8}, 422, "dimension_mismatch", "gives 384",
    ),
    "too long a text": (
        {"name": "x", "texts": ["cat " * 900, "a"], "truncate": "error"},
        422, "sequence_too_long", "90",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FITS)
def test_fits(client: TestClient, case: str) -> None:
    body, status, code, part = FITS[case]
    before = everything(client)
    answer = client.post(TRANSFORMS, json=body)
    problem = expect_problem(answer, status, code)
    assert part in json.dumps(problem, ensure_ascii=False)
    assert everything(client) == before


CALLS: dict[str, tuple[str, dict[str, Any], int, str, str]] = {
    "apply to nobody": ("none/apply", {"vectors": POINTS}, 404, "unknown_artefact", "'none'"),
    "apply to no version": ("vec@99/apply", {"vectors": POINTS}, 404, "unknown_artefact", "vec@99"),
    "apply to no id": ("a@b/apply", {"vectors": POINTS}, 404, "unknown_artefact", "name@3"),
    "other dimension": (
        "vec/apply", {"vectors": [[1, 2, 3]]}, 422, "dimension_mismatch", "takes 2",
    ),
    "more dimensions": (
        "vec/apply", {"vectors": POINTS, "dimensions": 3}, 422, "dimension_mismatch", "keeps 2",
    ),
    "zero": ("vec/apply", {"vectors": [[1, 2], [0, 0]]}, 422, "invalid_input", "Vector 1"),
    "texts without an encoder": ("vec/apply", {"texts": TEXTS}, 409, "artefact_mismatch", "no enc"),
    "texts of another encoder": (
        "txt/apply", {"texts": TEXTS, "model": INT8}, 409, "artefact_mismatch", INT8,
    ),
    "vectors of another encoder": (
        "txt/apply",
        {"vectors": [[1] * 384], "model": INT8}, 409, "artefact_mismatch", INT8,
    ),
    "vectors of an unknown model": (
        "txt/apply", {"vectors": [[1] * 384], "model": "no"}, 404, "unknown_model", "'no'",
    ),
    "huge": ("vec/apply", {"vectors": [[3e38, 3e38]]}, 422, "invalid_input", "so long"),
    "update of nobody": ("none/update", {"vectors": POINTS}, 404, "unknown_artefact", "'none'"),
    "update with another dimension": (
        "vec/update", {"vectors": [[1, 2, 3]]}, 422, "dimension_mismatch", "takes 2",
    ),
    "update with zeros": ("vec/update", {"vectors": [[0, 0]]}, 422, "invalid_input", "Vector 0"),
    "update with texts": ("vec/update", {"texts": TEXTS}, 409, "artefact_mismatch", "no encoder"),
    "update with texts of a model": (
        "vec/update", {"texts": TEXTS, "model": INT8}, 409, "artefact_mismatch", "no encoder",
    ),
    "apply to texts of a model": (
        "vec/apply", {"texts": TEXTS, "model": INT8}, 409, "artefact_mismatch", "no encoder",
    ),
    "update from another encoder": (
        "txt/update", {"texts": TEXTS, "model": INT8}, 409, "artefact_mismatch", INT8,
    ),
    "update with vectors of another encoder": (
        "txt/update",
        {"vectors": [[1] * 384], "model": INT8}, 409, "artefact_mismatch", INT8,
    ),
    "update with vectors of nobody": (
        "vec/update", {"vectors": POINTS, "model": "nope"}, 404, "unknown_model", "'nope'",
    ),
    "update of the unbound with a model": (
        "vec/update", {"vectors": POINTS, "model": INT8}, 409, "artefact_mismatch", "no encoder",
    ),
    "a side of a grid too long": (
        "vec/tune",
        {"pairs": ROWS, "vectors": POINTS, "grid": {"beta": [row / 1500 for row in range(1500)]}},
        422, "invalid_input", "/grid/beta",
    ),
    "a row of zeros": (
        "vec/tune", {"pairs": ROWS, "vectors": [[1, 2], [3, 4], [0, 0]]},
        422, "invalid_input", "/vectors/2",
    ),
    "a pair that is none": (
        "txt/tune", {"pairs": [{"a": [], "b": "x", "score": 1}, *PAIRS]},
        422, "invalid_input", '"/pairs/0/a"',
    ),
    "tune nobody": ("none/tune", {"pairs": PAIRS}, 404, "unknown_artefact", "'none'"),
    "few pairs": ("txt/tune", {"pairs": PAIRS[:9]}, 422, "invalid_input", "10"),
    "constant labels": (
        "txt/tune",
        {"pairs": [pair | {"score": 3} for pair in PAIRS]}, 422, "invalid_input", "10 scores are 3",
    ),
    "many folds": ("txt/tune", {"pairs": PAIRS, "folds": 6}, 422, "invalid_input", "6 folds"),
    "one fold": ("txt/tune", {"pairs": PAIRS, "folds": 1}, 422, "invalid_input", "got 1"),
    "texts to tune vectors": ("vec/tune", {"pairs": PAIRS}, 409, "artefact_mismatch", "no encoder"),
    "rows without vectors": ("vec/tune", {"pairs": ROWS}, 422, "invalid_input", "row numbers"),
    "texts with vectors": (
        "vec/tune", {"pairs": PAIRS, "vectors": POINTS}, 422, "invalid_input", "need no vectors",
    ),
    "row that is not there": (
        "vec/tune", {"pairs": ROWS, "vectors": POINTS[:2]}, 422, "invalid_input", "row 2",
    ),
    "tuning vectors of another dimension": (
        "vec/tune", {"pairs": ROWS, "vectors": [[1, 2, 3]] * 3}, 422, "dimension_mismatch", "takes",
    ),
    "grid beyond d": (
        "txt/tune",
        {"pairs": PAIRS, "grid": {"dimensions": [385]}}, 422, "dimension_mismatch", "385",
    ),
    "grid of beta": (
        "txt/tune", {"pairs": PAIRS, "grid": {"beta": [2]}}, 422, "invalid_input", "/grid/beta/0",
    ),
    "grid too large": (
        "txt/tune",
        {"pairs": PAIRS, "grid": {"gamma": [row / 600 for row in range(600)]}},
        413, "too_many_items", "500",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CALLS)
def test_calls(client: TestClient, case: str) -> None:
    path, body, status, code, part = CALLS[case]
    before = everything(client)
    answer = client.post(f"{TRANSFORMS}/{path}", json=body)
    problem = expect_problem(answer, status, code)
    assert part in json.dumps(problem, ensure_ascii=False)
    assert everything(client) == before


@pytest.mark.parametrize(
    ("body", "part"),
    [
        (b'{"name": "x", "vectors": [[1, NaN], [1, 2]]}', "character"),
        (b'{"name": "x", "vectors": [[1, 1e999], [1, 2]]}', "infinity"),
        (b'{"name": "x", "vectors": [[1, 1e39], [1, 2]]}', "1e+39 at position 1"),
    ],
)
def test_numbers_that_are_not_finite(client: TestClient, body: bytes, part: str) -> None:
    sent = {"Content-Type": "application/json"}
    expect_problem(client.post(TRANSFORMS, content=body, headers=sent), 422, "invalid_input", part)
    matrix = np.array([[1, np.nan], [1, 2]], dtype=np.float32)
    raw = client.post(
        f"{TRANSFORMS}?name=x", content=npy(matrix), headers={"Content-Type": "application/x-npy"}
    )
    expect_problem(raw, 422, "invalid_input", "nan at position 1")


def test_the_onnx_of_what_has_no_encoder(client: TestClient) -> None:
    expect_problem(client.get(f"{TRANSFORMS}/vec/onnx"), 409, "artefact_mismatch", "no encoder")
    expect_problem(client.get(f"{TRANSFORMS}/none/onnx"), 404, "unknown_artefact", "'none'")
    expect_problem(client.get(f"{TRANSFORMS}/none"), 404, "unknown_artefact", "'none'")


@pytest.mark.parametrize(
    ("body", "status", "code", "part"),
    [
        ({"input": "a", "transform": "none"}, 404, "unknown_artefact", "'none'"),
        ({"input": "a", "transform": "vec"}, 409, "artefact_mismatch", "no encoder"),
        ({"input": "a", "transform": "txt", "model": INT8}, 409, "artefact_mismatch", INT8),
        ({"input": "a", "transform": "txt", "dimensions": 9}, 422, "dimension_mismatch", "keeps 8"),
        ({"input": "a", "transform": "txt", "pooling": "cls"}, 409, "artefact_mismatch", "'cls'"),
    ],
)
def test_embeddings(
    client: TestClient, body: dict[str, Any], status: int, code: str, part: str
) -> None:
    expect_problem(client.post("/v1/embeddings", json=body), status, code, part)


@pytest.mark.parametrize(
    ("body", "status", "code", "part"),
    [
        ({"vectors": [[1, 2, 3]], "transform": "vec"}, 422, "dimension_mismatch", "takes 2"),
        ({"texts": TEXTS, "transform": "vec"}, 409, "artefact_mismatch", "no encoder"),
        ({"vectors": [[1, 2]], "model": "nope"}, 404, "unknown_model", "'nope'"),
        (
            {"vectors": [[1] * 384], "transform": "txt", "model": INT8},
            *(409, "artefact_mismatch", INT8),
        ),
        (
            {"vectors": [[1] * 384], "transform": "txt", "pooling": "cls"},
            *(409, "artefact_mismatch", "'cls'"),
        ),
        ({"texts": TEXTS, "transform": "none"}, 404, "unknown_artefact", "'none'"),
    ],
)
def test_similarity(
    client: TestClient, body: dict[str, Any], status: int, code: str, part: str
) -> None:
    expect_problem(client.post("/v1/similarity", json=body), status, code, part)


@pytest.fixture(scope="module")
def small(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a client of a service with small limits."""
    data = str(tmp_path_factory.mktemp("small"))
    limits = {
        "MAX_SAMPLES": "5", "MAX_VECTOR_BYTES": "4000", "MAX_APPLY_TEXTS": "2", "MAX_PAIRS": "12",
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for name, value in limits.items():
            patch.setenv(f"SERVICE_WHITENING_{name}", value)
        settings = Settings(
            models_dir=models_dir, data_location=data, access_log=False, log_level="error"
        )
        app = create_app(settings)
    with TestClient(app, raise_server_exceptions=False) as opened:
        yield opened


def test_too_much_in_one_call(small: TestClient) -> None:
    fit(small, name="t", texts=TEXTS, dimensions=4)
    fit(small, name="v", vectors=POINTS)
    many = slanted(6, 2).tolist()
    for path in (TRANSFORMS, f"{TRANSFORMS}/v/update"):
        name = {"name": "x"} if path == TRANSFORMS else {}
        answer = small.post(path, json=name | {"vectors": many})
        expect_problem(answer, 413, "too_many_items", "6 vectors came", "carries 5", "/update")
    answer = small.post(TRANSFORMS, json={"name": "x", "texts": ["a"] * 6})
    expect_problem(answer, 413, "too_many_items", "6 texts came")
    answer = small.post(TRANSFORMS, json={"name": "x", "vectors": slanted(2, 501).tolist()})
    expect_problem(answer, 413, "payload_too_large", "4008 bytes", "/update")
    answer = small.post(f"{TRANSFORMS}/t/apply", json={"texts": TEXTS})
    expect_problem(answer, 413, "too_many_items", "3 texts")
    answer = small.post(f"{TRANSFORMS}/t/tune", json={"pairs": PAIRS + PAIRS[:3]})
    expect_problem(answer, 413, "too_many_items", "13 pairs")


@pytest.mark.parametrize("path", [f"{TRANSFORMS}?name=x", "/v1/analysis/geometry"])
def test_4097_dimensions(client: TestClient, path: str) -> None:
    sent = {"Content-Type": "application/x-npy"}
    answer = client.post(path, content=npy(slanted_wide(4097)), headers=sent)
    expect_problem(answer, 413, "payload_too_large", "4097 dimensions", "4096")


def slanted_wide(dimensions: int) -> Any:
    return np.random.default_rng(0).standard_normal((3, dimensions)).astype(np.float32)


def everything(client: TestClient) -> list[dict[str, Any]]:
    answer: httpx2.Response = client.get(TRANSFORMS)
    found: list[dict[str, Any]] = answer.json()["transforms"]
    return found
