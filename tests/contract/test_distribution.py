"""`/v1/distribution`: values, forms of bodies and answers, seeds."""

from __future__ import annotations

import base64
import io
import math
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax
from starlette.testclient import TestClient

P, S = "/v1/distribution/probabilities", "/v1/distribution/sample"
M, D = "/v1/distribution/merge-contexts", "/v1/distribution/divergence"
NPY = "application/x-npy"
FIVE = [2.0, 1.0, 0.5, 0.0, -1.0]


def ask(client: TestClient, path: str, **body: Any) -> dict[str, Any]:
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    reply: dict[str, Any] = answer.json()
    return reply


def as_npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def coded(array: np.ndarray) -> dict[str, object]:
    return {
        "shape": list(array.shape),
        "dtype": array.dtype.name,
        "data": base64.b64encode(array.tobytes()).decode(),
    }


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("softmax", {}, [0.5630212, 0.2071239, 0.1256270, 0.0761966, 0.0280312]),
        ("gaussian", {}, [0.6687637, 0.1964860, 0.0919953, 0.0383223, 0.0044327]),
        ("logistic", {}, [0.4846118, 0.2286212, 0.1508399, 0.0973464, 0.0385807]),
        ("exponential", {}, [0.6733275, 0.1603537, 0.0923638, 0.0544439, 0.0195112]),
        ("uniform", {}, [1, 0, 0, 0, 0]),
        ("sparsemax", {}, [1, 0, 0, 0, 0]),
        ("entmax", {}, [0.8146494, 0.1620701, 0.0232805, 0, 0]),
        ("entmax", {"alpha": 1.25}, [0.693867, 0.192849, 0.083579, 0.029004, 0.0007004]),
        ("top_k", {"k": 2}, [0.7310586, 0.2689414, 0, 0, 0]),
        ("top_p", {"p": 0.7}, [0.7310586, 0.2689414, 0, 0, 0]),
        ("min_p", {"min_p": 0.3}, [0.7310586, 0.2689414, 0, 0, 0]),
    ],
)
def test_each_map(
    client: TestClient, name: str, options: dict[str, float], expected: list[float]
) -> None:
    reply = ask(client, P, logits=[FIVE], map=name, **options)
    found = reply["probabilities"][0]
    assert found == pytest.approx(expected, abs=1e-6)
    assert reply["map"] == name
    assert reply["support"] == [sum(p > 0 for p in found)]
    assert reply["entropy"] == pytest.approx([-sum(p * math.log(p) for p in found if p)])
    noise = name in {"gaussian", "logistic", "exponential", "uniform"}
    assert (reply["mass_defect"] is not None) == noise
    assert reply["indices"] is None


def test_scale_temperature_and_matched_variance_divide(client: TestClient) -> None:
    reply = ask(
        client, P, logits=[[1, 0]], map="gaussian", scale=2, temperature=3, match_variance=True
    )
    assert reply["divisor"] == pytest.approx(6 * math.pi / math.sqrt(6))
    gap = 1 / reply["divisor"] / math.sqrt(2)
    assert reply["probabilities"][0][0] == pytest.approx(0.5 * math.erfc(-gap / math.sqrt(2)))


def test_the_largest_entries_come_in_order(client: TestClient) -> None:
    reply = ask(client, P, logits=[[0, 3, 3, 1], [5, 0, 0, 0]], top=2)
    assert reply["indices"] == [[1, 2], [0, 1]]
    whole = softmax([[0, 3, 3, 1], [5, 0, 0, 0]], axis=1)
    assert reply["probabilities"][0] == pytest.approx([whole[0, 1], whole[0, 2]])
    assert reply["support"] == [4, 4]
    assert ask(client, P, logits=[[1, 2]], top=9)["indices"] == [[1, 0]]


def test_null_is_a_mask(client: TestClient) -> None:
    for name in ("softmax", "gaussian", "sparsemax", "top_p"):
        reply = ask(client, P, logits=[[0, None, 0]], map=name)
        assert reply["probabilities"] == [[0.5, 0, 0.5]]


@pytest.mark.parametrize("kind", ["<f4", "<f8"])
def test_lists_base64_and_npy_agree(client: TestClient, kind: str) -> None:
    logits = np.random.default_rng(0).normal(size=(3, 40)).astype(kind)
    logits[1, 5] = -np.inf
    expected = softmax(logits.astype(float), axis=1)
    by_base64 = ask(client, P, logits=coded(logits), temperature=1.0)
    assert np.allclose(by_base64["probabilities"], expected, atol=1e-7)
    headers = {"Content-Type": NPY, "Accept": NPY}
    answer = client.post(P, content=as_npy(logits), headers=headers)
    assert answer.status_code == 200
    array = np.load(io.BytesIO(answer.content), allow_pickle=False)
    assert array.dtype == np.dtype("<f4")
    assert np.allclose(array, expected, atol=1e-7)
    entropy = np.frombuffer(base64.b64decode(answer.headers["x-entropy"]), "<f8")
    assert entropy == pytest.approx(by_base64["entropy"])


def test_options_of_npy_bodies_stand_in_the_query(client: TestClient) -> None:
    headers = {"Content-Type": NPY}
    query = {"map": "top_k", "k": "1", "return": '["support"]'}
    reply = client.post(P, content=as_npy(np.eye(3)), headers=headers, params=query).json()
    assert reply["support"] == [1, 1, 1]
    assert reply["probabilities"] is None


def test_entropies_alone_come_as_an_array(client: TestClient) -> None:
    answer = client.post(
        P, json={"logits": [FIVE, FIVE], "return": ["entropy"]}, headers={"Accept": NPY}
    )
    array = np.load(io.BytesIO(answer.content))
    assert array.dtype == np.float64
    assert array == pytest.approx([1.2064892] * 2)


def test_encoded_rows_are_float32(client: TestClient) -> None:
    reply = ask(client, P, logits=[FIVE], encoding_format="base64", map="gaussian")
    row = np.frombuffer(base64.b64decode(reply["probabilities"][0]), "<f4")
    assert row[0] == pytest.approx(0.6687637)


def test_extremes_are_probabilities(client: TestClient) -> None:
    for name in ("softmax", "gaussian", "logistic", "exponential", "uniform", "entmax"):
        reply = ask(client, P, logits=[[1e300, -1e300, 1e-300], [7, None, None]], map=name)
        assert reply["probabilities"] == [[1, 0, 0], [1, 0, 0]]


def test_progress_streams_and_ends_in_the_same_body(client: TestClient) -> None:
    body = {"logits": [FIVE] * 3, "map": "gaussian"}
    plain = client.post(P, json=body).text
    events = client.post(P, json=body, headers={"Accept": "text/event-stream"}).text
    assert "event: progress" in events
    assert events.rstrip().endswith(f"event: result\ndata: {plain}")


def test_draws_repeat_with_their_seed(client: TestClient) -> None:
    body = {"logits": [FIVE, FIVE[::-1]], "draws": 50}
    drawn = ask(client, S, **body)
    again = ask(client, S, **body, seed=drawn["seed"])
    assert again == drawn
    assert drawn["perturbed"] is None
    assert np.shape(drawn["indices"]) == (2, 50)
    assert ask(client, S, **body, seed=1)["indices"] != ask(client, S, **body, seed=2)["indices"]


def test_a_rows_draws_do_not_depend_on_the_rows_after_it(client: TestClient) -> None:
    alone = ask(client, S, logits=[FIVE], draws=20, seed=4)["indices"][0]
    beside = ask(client, S, logits=[FIVE, [1e9] * 5], draws=20, seed=4)["indices"][0]
    assert alone == beside


def test_draws_without_replacement_differ_and_fall(client: TestClient) -> None:
    reply = ask(
        client,
        S,
        logits=[[*FIVE, None]],
        draws=5,
        without_replacement=True,
        seed=1,
        **{"return": ["indices", "perturbed"]},
    )
    assert sorted(reply["indices"][0]) == [0, 1, 2, 3, 4]
    assert reply["perturbed"][0] == sorted(reply["perturbed"][0], reverse=True)


def test_draws_as_npy_are_int64(client: TestClient) -> None:
    body = {"logits": [FIVE], "draws": 4, "seed": 9, "noise": "gaussian"}
    answer = client.post(S, json=body, headers={"Accept": NPY})
    array = np.load(io.BytesIO(answer.content))
    assert array.dtype == np.int64
    assert array.tolist() == ask(client, S, **body)["indices"]
    assert answer.headers["x-seed"] == "9"


CONTEXTS = np.log([[0.4, 0.3, 0.2, 0.1], [0.85, 0.05, 0.05, 0.05], [0.25] * 4])
BACKGROUND = np.log([0.5, 0.2, 0.2, 0.1])


def test_the_worked_example_of_context_merging(client: TestClient) -> None:
    body = {"conditional": CONTEXTS.tolist(), "unconditional": BACKGROUND.tolist(), "top_p": 1}
    reply = ask(client, M, **body)
    assert reply["index"] == 1
    assert np.exp(reply["log_probabilities"]) == pytest.approx(
        [0.89591817, 0.03263564, 0.03263564, 0.03881054], abs=1e-8
    )
    top = ask(client, M, **body, top=2)
    assert top["indices"] == [0, 3]
    assert top["log_probabilities"] == [reply["log_probabilities"][at] for at in (0, 3)]
    pooled = ask(client, M, **body, pooling="mean", beta=2)
    assert pooled["index"] is None


def test_cut_tokens_are_null_in_json_and_minus_infinity_elsewhere(client: TestClient) -> None:
    body = {"conditional": coded(CONTEXTS), "unconditional": coded(BACKGROUND)}
    assert ask(client, M, **body)["log_probabilities"][3] is None
    raw = base64.b64decode(ask(client, M, **body, encoding_format="base64")["log_probabilities"])
    assert np.isneginf(np.frombuffer(raw, "<f4")[3])
    answer = client.post(M, json=body, headers={"Accept": NPY})
    assert np.isneginf(np.load(io.BytesIO(answer.content))[3])
    assert answer.headers["x-index"] == "1"


def test_divergences(client: TestClient) -> None:
    s, t = [[1.0, 2.0, None]], [[3.0, -1.0, None]]
    p, q = softmax([1, 2]), softmax([3, -1])
    value = float((p - q) @ (np.array([1, 2]) - np.array([3, -1])))
    reply = ask(client, D, s=s, t=t, **{"return": ["value", "terms"]})
    assert reply["value"] == pytest.approx([value])
    assert sum(reply["terms"][0]) == pytest.approx(value)
    assert ask(client, D, s=s, t=t, kind="sigmoid")["terms"] is None
    labels = ask(client, D, s=[[1, -1, 0], [2, 3, -4]], kind="multi_label")
    assert labels["labels"] == [[0], [0, 1]]
    assert labels["probabilities"][0] == pytest.approx([0.8807971, 0.1192029, 0.5])
    one = ask(
        client, D, s=[[0, 0, 0]], kind="emo", targets=[1], embeddings=[[1, 0], [0, 1], [1, 1]]
    )
    assert one["bound"] == "exact"
    assert one["value"] == pytest.approx([(1 + 1 - math.sqrt(0.5)) / 3])
    many = ask(client, D, s=[[0, 0]], t=[[0, 0]], kind="emo", embeddings=[[1, 0], [0, 1]])
    assert (many["bound"], many["value"]) == ("upper", [0.5])
