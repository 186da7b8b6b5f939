"""The attention room over HTTP: worked numbers, all variants, pictures, noise, probes."""

from __future__ import annotations

import base64
import io
import json
import math
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from service.numerics.attention.forms import Heads
from service.numerics.attention.positions import RopeScheme, rope_tables
from service.numerics.attention.reference import Conditions, Path, attend
from service.numerics.seeds import generator

LAYER, CACHE, PROBE = (f"/v1/attention/{name}" for name in ("layer", "cache-size", "probe"))
EVERYTHING = [
    "output", "probabilities", "entropy", "concentration",
    "cache_bytes", "noise_sensitivity", "rank",
]  # fmt: skip


def coded(array: np.ndarray) -> dict[str, object]:
    data = base64.b64encode(array.tobytes()).decode()
    return {"shape": list(array.shape), "dtype": array.dtype.name, "data": data}


def decoded(value: dict[str, Any]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(value["data"]), value["dtype"]).reshape(value["shape"])


def layer(*shape: int, groups: int = 2, seed: int = 1) -> dict[str, Any]:
    """Return q of a shape (…, heads, n, d), and k and v of fewer heads."""
    rng = generator(seed, "contract")
    kept = (*shape[:-3], groups, *shape[-2:])
    arrays = (rng.standard_normal(each).astype(np.float32) for each in (shape, kept, kept))
    return {name: coded(array) for name, array in zip("qkv", arrays, strict=True)}


def post(client: TestClient, body: dict[str, Any], path: str = LAYER) -> dict[str, Any]:
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_worked_causal_layer(client: TestClient) -> None:
    # the second row scores ln 3 and 0, so it weighs 3/4 and 1/4
    body = {"variant": "mha", "q": [[[0], [math.log(3)]]], "k": [[[1], [0]]], "v": [[[4], [8]]]}
    found = post(client, body | {"causal": True, "scale": 1, "return": EVERYTHING})
    assert found["output"] == [[[4], [pytest.approx(5)]]]
    assert found["probabilities"] == [[[1, 0], [pytest.approx(0.75), pytest.approx(0.25)]]]
    entropy = -0.75 * math.log(0.75) - 0.25 * math.log(0.25)
    assert found["entropy"] == [[0, pytest.approx(entropy)]]
    assert found["normalized_entropy"] == [[None, pytest.approx(entropy / math.log(2))]]
    assert found["entropy_by_head"] == [pytest.approx(entropy / 2)]
    assert found["concentration"]["n_eff"] == [[1, pytest.approx(1 / 0.625)]]
    # (e - 1) (9/16 · 1 + 1/16 · 9), at one nat of noise
    expected = found["noise_sensitivity"]["expected"]
    assert expected == [[0, pytest.approx((math.e - 1) * 18 / 16, rel=1e-5)]]
    assert found["rank"]["numerical"] == [2]
    assert (found["cache_elements_per_token"], found["cache_bytes"]) == (2, 16)


@pytest.mark.parametrize("batched", [False, True])
def test_layers_equal_plain_arithmetic(client: TestClient, batched: bool) -> None:
    body = layer(*((2,) if batched else ()), 6, 9, 8)
    heads = Heads(*(decoded(body[name]).reshape(-1, *body[name]["shape"][-3:]) for name in "qkv"))
    tables = rope_tables(
        RopeScheme(), queries=np.arange(9), keys=np.arange(9), rope_dim=8, base=1e4
    )
    conditions = Conditions(tables=tables, scale=np.full(9, 8**-0.5), causal=True)
    expected = attend(heads, conditions, path=Path.HEADS).output
    asked = {"causal": True, "rope": "direct", "encoding_format": "base64", "return": ["output"]}
    found = decoded(post(client, body | asked)["output"])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected if batched else expected[0], atol=1e-5)
    raw = client.post(LAYER, json=body | asked, headers={"Accept": "application/x-npy"})
    np.testing.assert_array_equal(np.load(io.BytesIO(raw.content)), found)


def test_lists_and_base64_are_one(client: TestClient) -> None:
    body = layer(2, 4, 6)
    lists = {name: decoded(value).tolist() for name, value in body.items()}
    assert post(client, body) == post(client, lists)


def test_variants_share_keys_as_they_say(client: TestClient) -> None:
    body = layer(4, 7, 6) | {"causal": True}
    found = {
        name: post(client, body | {"variant": name})
        for name in ("gqa", "mqa", "mla", "mla_absorbed")
    }
    assert [(each["lossy"], each["kv_heads"]) for each in found.values()] == [
        (False, 2), (True, 1), (False, 1), (False, 1),
    ]  # fmt: skip
    # 2 heads of keys and values of 6; their mean; a latent of full rank 7
    cached = [each["cache_elements_per_token"] for each in found.values()]
    assert cached == [24, 12, 7, 7]
    assert [each["cache_bytes"] for each in found.values()] == [28 * each for each in cached]
    for name in ("mla", "mla_absorbed"):
        np.testing.assert_allclose(found[name]["output"], found["gqa"]["output"], atol=1e-4)
    cut = post(client, body | {"variant": "mla", "kv_rank": 3})
    assert cut["lossy"]
    assert 0.05 < cut["error"] < 1
    assert cut["cache_elements_per_token"] == 3


def test_hidden_states_with_weights(client: TestClient) -> None:
    rng = generator(3, "weights")
    x = rng.standard_normal((5, 6))
    grouped = {
        "w_q": rng.standard_normal((4, 6, 4)), "w_k": rng.standard_normal((2, 6, 4)),
        "w_v": rng.standard_normal((2, 6, 3)),
    }  # fmt: skip
    sent = {name: array.tolist() for name, array in grouped.items()}
    asked = {"causal": True, "rope": "ntk", "scale": "log_n"}
    by_weights = post(client, {"hidden": x.tolist(), "weights": sent} | asked)
    heads = {name: (x @ grouped[f"w_{name}"]).tolist() for name in "qkv"}
    by_heads = post(client, heads | asked)
    np.testing.assert_allclose(by_weights["output"], by_heads["output"], atol=1e-5)


def test_latent_weights_absorbed_and_not(client: TestClient) -> None:
    rng = generator(4, "latent")
    shapes = {
        "w_qc": (3, 6, 4), "w_qr": (3, 6, 2), "w_kv_down": (6, 5),
        "w_kc": (3, 5, 4), "w_kr": (6, 2), "w_v": (3, 5, 4),
    }  # fmt: skip
    weights = {name: rng.standard_normal(shape).tolist() for name, shape in shapes.items()}
    body = {"hidden": rng.standard_normal((8, 6)).tolist(), "weights": weights, "rope": "direct"}
    expanded, absorbed = (
        post(client, body | {"variant": name, "causal": True}) for name in ("mla", "mla_absorbed")
    )
    np.testing.assert_allclose(absorbed["output"], expanded["output"], atol=1e-4)
    assert (expanded["head_dim"], expanded["rope_dim"], expanded["kv_rank"]) == (6, 2, 5)
    assert absorbed["cache_elements_per_token"] == 7


def test_masks_hide_keys(client: TestClient) -> None:
    body = layer(2, 3, 4) | {"return": ["probabilities", "entropy"]}
    mask = [[True, False, True], [True, True, False], [False, False, True]]
    found = post(client, body | {"mask": mask, "causal": True})
    weights = np.array(found["probabilities"])
    assert (weights[:, ~(np.array(mask) & np.tril(np.ones((3, 3), bool)))] == 0).all()
    assert found["normalized_entropy"][0][0] is None
    assert found["normalized_entropy"][0][1] is not None


def test_noise_repeats_and_is_compared(client: TestClient) -> None:
    body = layer(2, 200, 8) | {"noise": {"sigma": 0.3, "seed": 5}}
    body |= {"return": ["output", "noise_sensitivity"]}
    once, twice = post(client, body), post(client, body)
    assert once == twice
    assert once["seed"] == 5
    clean = post(client, {**body, "noise": {"sigma": 0, "seed": 5}})
    noise = once["noise_sensitivity"]
    moved = np.square(np.array(once["output"]) - clean["output"]).sum(axis=-1)
    np.testing.assert_allclose(noise["observed"], moved, rtol=1e-3, atol=1e-8)
    assert np.mean(noise["observed"]) == pytest.approx(np.mean(noise["expected"]), rel=0.2)
    other = post(client, {**body, "noise": {"sigma": 0.3}})
    assert other["output"] != once["output"]
    assert post(client, body | {"noise": {"sigma": 0.3, "seed": other["seed"]}}) == other


def test_rerope_bounds_what_direct_does_not(client: TestClient) -> None:
    body = layer(2, 12, 8) | {"causal": True}
    direct = post(client, body | {"rope": "direct"})["output"]
    wide = post(client, body | {"rope": {"name": "rerope", "window": 12}})["output"]
    narrow = post(client, body | {"rope": {"name": "rerope", "window": 3}})["output"]
    np.testing.assert_allclose(wide, direct, atol=1e-5)
    np.testing.assert_allclose(np.array(narrow)[:, :4], np.array(direct)[:, :4], atol=1e-5)
    assert not np.allclose(np.array(narrow)[:, 4:], np.array(direct)[:, 4:], atol=1e-3)


def test_the_answer_says_what_was_used(client: TestClient) -> None:
    body = layer(2, 3, 4) | {"rope": {"name": "leaky_rerope", "factor": 4}, "scale": 0.5}
    found = post(client, body)
    rope = {"name": "leaky_rerope", "factor": 4, "mixing": None, "window": 512}
    assert found["rope"] == rope
    assert found["scale"] == {"name": "value", "length": None, "value": 0.5}


@pytest.mark.parametrize(
    ("kind", "starts"), [("image/png", b"\x89PNG"), ("image/svg+xml", b"<?xml")]
)
def test_pictures(client: TestClient, kind: str, starts: bytes) -> None:
    for path, body in ((LAYER, layer(14, 5, 4)), (CACHE, {"q_heads": 9, "head_dim": 64})):
        answer = client.post(path, json=body, headers={"Accept": kind})
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"].startswith(kind)
        assert answer.content.startswith(starts)


def test_progress_is_told(client: TestClient) -> None:
    answer = client.post(LAYER, json=layer(2, 3, 4), headers={"Accept": "text/event-stream"})
    assert "event: progress" in answer.text
    result = answer.text.split("event: result")[1]
    assert json.loads(result.split("data: ")[1])["variant"] == "gqa"


def test_cache_sizes_of_a_published_model(client: TestClient) -> None:
    body = {"q_heads": 9, "kv_heads": 3, "head_dim": 64, "kv_rank": 192, "rope_dim": 64}
    found = post(client, body | {"layers": 30, "tokens": 8192, "sequences": 2}, CACHE)
    rows = {row["variant"]: row for row in found["variants"]}
    assert list(rows) == ["mha", "gqa", "mqa", "mla", "mla_absorbed"]
    assert rows["gqa"]["bytes_per_token"] == 46_080
    assert rows["gqa"]["bytes"] == 46_080 * 8192 * 2
    assert rows["mla"]["share_of_mha"] == pytest.approx(256 / 1152)
    fewer = post(client, {"q_heads": 9, "head_dim": 64, "dtype": "float16"}, CACHE)
    assert [(row["variant"], row["bytes"]) for row in fewer["variants"]] == [
        ("mha", 2304), ("mqa", 256),
    ]  # fmt: skip


def test_equal_tokens_are_told_apart_by_l2_and_markers_only(client: TestClient) -> None:
    found = post(client, {"tokens": 32, "heads": 2, "head_dim": 16, "seed": 7}, PROBE)
    spread = {
        (row["normaliser"], row["causal"], row["marker"]): row["variance"]
        for row in found["position"]
    }
    assert spread["softmax", False, False] < 1e-28
    assert spread["softmax", True, False] < 1e-28
    told_apart = [value for key, value in spread.items() if key[0] == "l2" or key[2]]
    assert min(told_apart) > 1e-6


def test_near_uniform_weights_keep_their_rank_when_causal(client: TestClient) -> None:
    body = {"tokens": 64, "heads": 2, "head_dim": 8, "rope": "none", "scale": 0.01, "seed": 7}
    causal, both = post(client, body, PROBE)["rank"]
    assert (causal["causal"], both["causal"]) == (True, False)
    assert causal["numerical_rank"] == [64, 64]
    assert max(both["numerical_rank"]) < 64
    assert min(causal["smallest_singular_value"]) > 1e4 * max(both["smallest_singular_value"])
    # all but uniform: the diagonal is 1/1, 1/2, … 1/64
    assert causal["log_determinant"][0] == pytest.approx(-math.lgamma(65), rel=0.02)


def test_variants_are_described(client: TestClient) -> None:
    found = client.get("/v1/attention/variants").json()
    assert {row["variant"] for row in found["variants"]} == {
        "mha", "gqa", "mqa", "mla", "mla_absorbed",
    }  # fmt: skip
    assert found["rope"][0] == "none"
    assert found["limits"]["max_tokens"] == 4096
