"""`POST /v1/embeddings`: every field of the request and of the reply."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from tests.contract.problems import expect_problem

TEXTS = ["A man is playing a guitar.", "", "猫が座っている。", "a\x00b"]
DIMENSIONS = 384
MAX_TOKENS = 256
NPY = {"Accept": "application/x-npy"}
POOLINGS = ["mean", "cls", "first_last", "embedding"]


def embed(client: TestClient, **body: Any) -> dict[str, Any]:
    answer = client.post("/v1/embeddings", json=body)
    assert answer.status_code == 200, answer.text
    reply: dict[str, Any] = answer.json()
    return reply


def rows(reply: dict[str, Any]) -> np.ndarray[Any, Any]:
    return np.array([item["embedding"] for item in reply["data"]], dtype=np.float32)


def test_reply_has_the_fields_of_openai_and_ours(client: TestClient) -> None:
    reply = embed(client, input=TEXTS)
    assert set(reply) == {
        *("object", "data", "model", "model_sha256", "transform", "usage", "truncated")
    }
    assert reply["object"] == "list"
    assert reply["model"] == "all-MiniLM-L6-v2"
    assert len(reply["model_sha256"]) == 64
    assert [item["index"] for item in reply["data"]] == [0, 1, 2, 3]
    assert {item["object"] for item in reply["data"]} == {"embedding"}
    assert all(len(item["embedding"]) == DIMENSIONS for item in reply["data"])
    assert reply["usage"]["prompt_tokens"] == reply["usage"]["total_tokens"] > 0
    assert reply["truncated"] == []
    assert np.allclose(np.linalg.norm(rows(reply), axis=1), 1, atol=1e-6)


def test_headers_say_what_npy_cannot(client: TestClient) -> None:
    answer = client.post("/v1/embeddings", json={"input": "word " * 400}, headers=NPY)
    reply = embed(client, input="word " * 400)
    assert answer.headers["x-model"] == reply["model"]
    assert answer.headers["x-model-sha256"] == reply["model_sha256"]
    assert answer.headers["x-execution-provider"] == "cpu"
    assert answer.headers["x-prompt-tokens"] == str(MAX_TOKENS)
    assert answer.headers["x-truncated-inputs"] == "1"


@pytest.mark.parametrize("options", [{}, {"dimensions": 100}, {"normalize": False}])
def test_float_base64_and_npy_agree_to_the_bit(client: TestClient, options: dict[str, Any]) -> None:
    floats = rows(embed(client, input=TEXTS, **options))
    coded = embed(client, input=TEXTS, encoding_format="base64", **options)
    raw = [base64.b64decode(item["embedding"], validate=True) for item in coded["data"]]
    answer = client.post("/v1/embeddings", json={"input": TEXTS, **options}, headers=NPY)
    assert answer.headers["content-type"] == "application/x-npy"
    array = np.load(io.BytesIO(answer.content), allow_pickle=False)
    assert array.dtype == np.dtype("<f4")
    assert array.shape == floats.shape == (4, options.get("dimensions", DIMENSIONS))
    assert array.tobytes() == floats.tobytes() == b"".join(raw)


def test_a_large_reply_is_the_same_as_small_ones(client: TestClient) -> None:
    # above some size the reply is written in the compute pool
    texts = [f"sentence number {number}" for number in range(80)]
    many = rows(embed(client, input=texts))
    for number in (0, 40, 79):
        alone = rows(embed(client, input=texts[number], truncate="left"))[0]
        assert np.abs(many[number] - alone).max() <= 1e-5


def test_one_text_and_a_list_of_one_are_the_same(client: TestClient) -> None:
    assert (
        rows(embed(client, input="Hello")).tobytes()
        == rows(embed(client, input=["Hello"])).tobytes()
    )


def test_token_ids_stand_for_their_text(client: TestClient) -> None:
    text = rows(embed(client, input="hello world"))
    ids = [7592, 2088]  # the pieces `hello` and `world` of this vocabulary
    for given in (ids, [ids], [7592.0, 2088]):
        assert np.abs(rows(embed(client, input=given)) - text).max() <= 1e-6
    assert len(embed(client, input=[ids, ids])["data"]) == 2


@pytest.mark.parametrize("pooling", POOLINGS)
def test_poolings_differ_and_may_stay_unnormalised(client: TestClient, pooling: str) -> None:
    unit = rows(embed(client, input="A cat sat.", pooling=pooling))
    raw = rows(embed(client, input="A cat sat.", pooling=pooling, normalize=False))
    assert np.allclose(raw / np.linalg.norm(raw), unit, atol=1e-6)
    assert abs(np.linalg.norm(raw) - 1) > 1e-3
    others = [p for p in POOLINGS if p != pooling]
    for other in others:
        assert np.abs(unit - rows(embed(client, input="A cat sat.", pooling=other))).max() > 1e-3


def test_fewer_dimensions_are_the_first_ones_at_length_one(client: TestClient) -> None:
    whole = rows(embed(client, input="A cat sat."))[0]
    for wanted in (1, 64, 64.0, DIMENSIONS):
        cut = rows(embed(client, input="A cat sat.", dimensions=wanted))[0]
        first = whole[: int(wanted)]
        assert np.allclose(cut, first / np.linalg.norm(first), atol=1e-6)
    raw = rows(embed(client, input="A cat sat.", normalize=False))[0]
    cut_raw = rows(embed(client, input="A cat sat.", dimensions=8, normalize=False))[0]
    assert np.array_equal(cut_raw, raw[:8])


@pytest.mark.parametrize("side", ["left", "right"])
def test_what_was_cut_is_reported(client: TestClient, side: str) -> None:
    words = [f"{word}" for word in ["cat", "dog"] for _ in range(300)]
    reply = embed(client, input=["short", " ".join(words)], truncate=side)
    kept = MAX_TOKENS - 2
    assert reply["truncated"] == [{"index": 1, "dropped_tokens": 600 - kept}]
    chosen = words[:kept] if side == "right" else words[-kept:]
    expected = rows(embed(client, input=" ".join(chosen)))[0]
    assert np.abs(rows(reply)[1] - expected).max() <= 1e-5


def test_a_megabyte_is_cut_or_refused(client: TestClient) -> None:
    text = "word " * 200_000
    assert embed(client, input=text)["truncated"] == [{"index": 0, "dropped_tokens": 199_746}]
    answer = client.post("/v1/embeddings", json={"input": text, "truncate": "error"})
    expect_problem(answer, 422, "sequence_too_long", "200000", "254")


def test_accepted_oddities(client: TestClient) -> None:
    # JSON lets the last of two equal keys win; NUL, empty and blank texts are texts
    answer = client.post(
        "/v1/embeddings",
        content=b'{"input": "first", "input": "second"}',
        headers={"Content-Type": "application/vnd.api+json"},
    )
    assert rows(answer.json()).tobytes() == rows(embed(client, input="second")).tobytes()
    reply = embed(client, input=["a\x00b", "", "   "], user="somebody", model=None, pooling=None)
    assert len(reply["data"]) == 3


@pytest.mark.parametrize("model", ["../../etc", "..", ".", "/etc", "nope", "a" * 5000, "a\x00b"])
def test_models_that_are_not_there(client: TestClient, model: str) -> None:
    answer = client.post("/v1/embeddings", json={"input": "a", "model": model})
    expect_problem(answer, 404, "unknown_model", repr(model)[1:10], "all-MiniLM-L6-v2")
