"""`POST /v1/similarity`: pairs, texts and vectors."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from tests.contract.problems import expect_problem

TEXTS = ["A man plays a guitar.", "Someone makes music.", "The train is late."]


def compare(client: TestClient, **body: Any) -> dict[str, Any]:
    answer = client.post("/v1/similarity", json=body)
    assert answer.status_code == 200, answer.text
    reply: dict[str, Any] = answer.json()
    return reply


def test_pairs_give_one_cosine_each(client: TestClient) -> None:
    pairs = [[TEXTS[0], TEXTS[1]], [TEXTS[0], TEXTS[2]], [TEXTS[0], TEXTS[0]]]
    reply = compare(client, pairs=pairs)
    assert set(reply) == {
        *("scores", "metric", "transform", "percentiles", "calibration"),
        *("model", "model_sha256", "usage"),
    }
    assert reply["metric"] == "cosine"
    assert reply["model"] == "all-MiniLM-L6-v2"
    close, far, same = reply["scores"]
    assert close > far + 0.2
    assert same == pytest.approx(1, abs=1e-6)


def test_texts_give_the_full_matrix(client: TestClient) -> None:
    scores = np.array(compare(client, texts=TEXTS)["scores"], dtype=np.float32)
    assert scores.shape == (3, 3)
    assert np.array_equal(scores, scores.T)
    assert np.array_equal(np.diag(scores), np.ones(3, dtype=np.float32))
    pair = compare(client, pairs=[[TEXTS[0], TEXTS[1]]])["scores"][0]
    assert scores[0, 1] == pytest.approx(pair, abs=1e-6)


def test_vectors_as_lists_and_as_base64_agree(client: TestClient) -> None:
    vectors = np.array([[1, 0], [3, 4], [0, -2]], dtype="<f4")
    coded = {
        "shape": [3, 2],
        "dtype": "float32",
        "data": base64.b64encode(vectors.tobytes()).decode(),
    }
    expected = [[1, 0.6, 0], [0.6, 1, -0.8], [0, -0.8, 1]]
    for given in (vectors.tolist(), coded, coded | {"shape": [3.0, 2.0]}):
        reply = compare(client, vectors=given)
        assert np.allclose(reply["scores"], expected, atol=1e-6)
        assert (reply["model"], reply["model_sha256"]) == (None, None)
        assert reply["usage"] == {"prompt_tokens": 0, "total_tokens": 0}


def test_extreme_vectors_still_have_an_angle(client: TestClient) -> None:
    reply = compare(client, vectors=[[3e38, 3e38], [3e38, -3e38], [1e-44, 1e-44]])
    assert np.allclose(reply["scores"], [[1, 0, 1], [0, 1, 0], [1, 0, 1]], atol=1e-6)


def test_npy_holds_the_scores(client: TestClient) -> None:
    answer = client.post(
        "/v1/similarity", json={"texts": TEXTS}, headers={"Accept": "application/x-npy"}
    )
    array = np.load(io.BytesIO(answer.content), allow_pickle=False)
    assert (
        array.tobytes() == np.array(compare(client, texts=TEXTS)["scores"], dtype="<f4").tobytes()
    )


def test_pooling_and_truncate_count(client: TestClient) -> None:
    pair = [[TEXTS[0], TEXTS[1]]]
    assert (
        compare(client, pairs=pair, pooling="cls")["scores"]
        != compare(client, pairs=pair)["scores"]
    )
    long = [["cat " * 400, "a"]]
    answer = client.post("/v1/similarity", json={"pairs": long, "truncate": "error"})
    expect_problem(answer, 422, "sequence_too_long", "400")
    answer = client.post("/v1/similarity", json={"pairs": long})
    assert answer.headers["x-truncated-inputs"] == "1"
