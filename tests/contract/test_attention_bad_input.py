"""What can be sent wrong to the attention room: a 4xx problem that names it."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import numpy as np
import pytest
from starlette.testclient import TestClient

from tests.contract.problems import expect_problem

L, C, P = (f"/v1/attention/{name}" for name in ("layer", "cache-size", "probe"))
INVALID, MISMATCH, INFINITE = "invalid_input", "dimension_mismatch", "not_finite"
TOO_MANY = "too_many_items"


def coded(array: np.ndarray) -> dict[str, object]:
    data = base64.b64encode(array.tobytes()).decode()
    return {"shape": list(array.shape), "dtype": array.dtype.name, "data": data}


def qkv(
    heads: int = 2, kv_heads: int = 1, tokens: int = 3, size: int = 4, **other: object
) -> dict[str, object]:
    q, k = (coded(np.ones((each, tokens, size), np.float32)) for each in (heads, kv_heads))
    return {"q": q, "k": k, "v": k, **other}


def ones(*shape: int) -> object:
    return np.ones(shape).tolist()


GROUPED = {"w_q": ones(2, 4, 3), "w_k": ones(1, 4, 3), "w_v": ones(1, 4, 3)}
LATENT = {
    "w_qc": ones(2, 4, 3), "w_kv_down": ones(4, 5), "w_kc": ones(2, 5, 3), "w_v": ones(2, 5, 3),
}  # fmt: skip
HIDDEN = {"hidden": ones(3, 4), "weights": GROUPED}
NAN = coded(np.array([[[np.nan, 1.0]]]))
INF = coded(np.array([[[1.0, np.inf]]], dtype=np.float32))


@pytest.fixture(autouse=True)
def goes_on(client: TestClient) -> Iterator[None]:
    """Check after every case that the room still answers."""
    yield
    assert client.post(L, json=qkv()).status_code == 200


BODIES: dict[str, tuple[str, object, str, str]] = {
    # name: path, body, code, part of the detail
    "nothing": (L, {}, INVALID, "none of them came"),
    "q alone": (L, {"q": ones(1, 2, 2)}, INVALID, "q came"),
    "both sources": (L, qkv() | HIDDEN, INVALID, "hidden, k, q, v, weights came"),
    "hidden alone": (L, {"hidden": ones(3, 4)}, INVALID, "hidden came"),
    "null q": (L, qkv() | {"q": None}, INVALID, "At /q"),
    "groups": (L, qkv(5, 2), MISMATCH, "5 query heads cannot share 2 key heads"),
    "mla groups": (L, qkv(5, 2, variant="mla"), MISMATCH, "cannot share 2"),
    "mha heads": (L, qkv(4, 2, variant="mha"), MISMATCH, "mha has a key head for each"),
    "odd rope": (L, qkv(size=3, rope="direct"), MISMATCH, "3 numbers of a head cannot turn"),
    "odd rope dim": (L, qkv(rope={"name": "pi", "dim": 3}), INVALID, "/rope"),
    "rope dim": (L, qkv(rope={"name": "pi", "dim": 6}), MISMATCH, "6 numbers of a head should"),
    "ntk of one pair": (L, qkv(size=2, rope="ntk"), MISMATCH, "at least 4"),
    "factor": (L, qkv(rope={"name": "pi", "factor": 0.5}), INVALID, "factor"),
    "factor unread": (L, qkv(rope={"name": "direct", "factor": 2}), INVALID, "not read factor"),
    "mixing unread": (L, qkv(rope={"name": "pi", "mixing": 0.5}), INVALID, "not read mixing"),
    "mixing": (L, qkv(rope={"name": "ntk_mixed", "mixing": 2}), INVALID, "mixing"),
    "window": (L, qkv(rope={"name": "rerope", "window": 0}), INVALID, "window"),
    "window unread": (L, qkv(rope={"name": "pi", "window": 4}), INVALID, "not read window"),
    "base": (L, qkv(rope={"name": "direct", "base": 1}), INVALID, "base"),
    "unknown rope": (L, qkv(rope="yarn"), INVALID, "'yarn'"),
    "unknown scale": (L, qkv(scale="cube"), INVALID, "'cube'"),
    "scale 0": (L, qkv(scale=0), INVALID, "/scale"),
    "scale < 0": (L, qkv(scale=-1), INVALID, "/scale"),
    "scale true": (L, qkv(scale=True), INVALID, "/scale"),
    "scale length": (L, qkv(scale={"name": "log_n", "length": 1}), INVALID, "length"),
    "sqrt length": (L, qkv(scale={"name": "sqrt", "length": 9}), INVALID, "not read length"),
    "unknown variant": (L, qkv(variant="nsa"), INVALID, "'nsa'"),
    "unknown field": (L, qkv(casual=True), INVALID, "/casual"),
    "unknown part": (L, qkv(**{"return": ["logits"]}), INVALID, "'logits'"),
    "nothing to return": (L, qkv(**{"return": []}), INVALID, "/return"),
    "empty mask row": (
        L,
        qkv(mask=[[True] * 3, [False] * 3, [True] * 3]),
        INVALID,
        "Row 1 of the mask leaves no key",
    ),
    "mask row empty when causal": (
        L,
        qkv(mask=[[False, True, True]] * 3, causal=True),
        INVALID,
        "Row 0 of the mask leaves no key to see, being causal",
    ),
    "mask size": (L, qkv(mask=[[True]]), MISMATCH, "The mask has the shape (1, 1)"),
    "mask ragged": (L, qkv(mask=[[True], [True]]), INVALID, "row 0 must be a list of 2"),
    "mask of numbers": (L, qkv(mask=[[1]]), INVALID, "other than true and false"),
    "NaN": (L, qkv() | {"q": NAN}, INVALID, "at [0, 0, 0] stands nan"),
    "infinity": (L, qkv() | {"v": INF}, INVALID, "at [0, 0, 1] stands inf"),
    "huge": (L, qkv() | {"k": [[[1e9]]]}, INVALID, "of size 1e+08 at most"),
    "huge product": (
        L,
        {"hidden": [[1e8] * 4], "weights": GROUPED},
        INFINITE,
        "x w_q holds a number of size 4e+08",
    ),
    "flat": (L, qkv() | {"q": [1, 2]}, INVALID, "must have 3 to 4 axes"),
    "ragged": (L, qkv() | {"q": [[[1, 2], [1]]]}, INVALID, "different lengths"),
    "text": (L, qkv() | {"q": [[["a"]]]}, INVALID, "no number"),
    "one token fewer": (L, qkv() | {"k": ones(1, 2, 4)}, MISMATCH, "k has the shape (1, 2, 4)"),
    "other size": (L, qkv() | {"k": ones(1, 3, 2)}, MISMATCH, "k has the shape (1, 3, 2)"),
    "other kv heads": (L, qkv() | {"v": ones(2, 3, 4)}, MISMATCH, "v has the shape (2, 3, 4)"),
    "half a batch": (L, qkv() | {"q": ones(1, 2, 3, 4)}, MISMATCH, "all with a batch axis"),
    "weights missing": (
        L,
        {"hidden": ones(3, 4), "weights": {"w_q": ones(2, 4, 3)}},
        INVALID,
        "w_k, w_v is missing",
    ),
    "w_qr alone": (
        L,
        {"hidden": ones(3, 4), "variant": "mla", "weights": LATENT | {"w_qr": ones(2, 4, 2)}},
        INVALID,
        "w_kr is missing",
    ),
    "weights of two": (
        L,
        {"hidden": ones(3, 4), "weights": GROUPED | {"w_kc": ones(2, 5, 3)}},
        INVALID,
        "belong to two layers",
    ),
    "grouped weights for mla": (L, HIDDEN | {"variant": "mla"}, INVALID, "mla takes the weights"),
    "latent weights for gqa": (
        L,
        {"hidden": ones(3, 4), "weights": LATENT},
        INVALID,
        "gqa takes the weights",
    ),
    "weights of another width": (
        L,
        {"hidden": ones(3, 5), "weights": GROUPED},
        MISMATCH,
        "w_q has the shape (2, 4, 3)",
    ),
    "rank too high": (L, qkv(variant="mla", kv_rank=9), MISMATCH, "a rank of at most 3"),
    "rank 0": (L, qkv(variant="mla", kv_rank=0), INVALID, "kv_rank"),
    "rank unread": (L, qkv(kv_rank=2), INVALID, "kv_rank belongs to mla"),
    "absorbed and turned": (
        L,
        qkv(variant="mla_absorbed", rope="direct"),
        INVALID,
        "cannot be absorbed",
    ),
    "noise of l2": (
        L,
        qkv(normaliser="l2", **{"return": ["noise_sensitivity"]}),
        INVALID,
        "a formula of softmax",
    ),
    "sigma": (L, qkv(noise={"sigma": -1}), INVALID, "sigma"),
    "seed": (L, qkv(noise={"sigma": 1, "seed": -1}), INVALID, "seed"),
    "cache groups": (
        C,
        {"q_heads": 9, "kv_heads": 4, "head_dim": 64},
        MISMATCH,
        "9 query heads cannot share 4",
    ),
    "cache heads": (C, {"q_heads": 0, "head_dim": 64}, INVALID, "q_heads"),
    "cache dtype": (C, {"q_heads": 1, "head_dim": 64, "dtype": "int4"}, INVALID, "'int4'"),
    "cache of a planet": (
        C,
        {"q_heads": 2**20, "head_dim": 2**20, "tokens": 2**40, "sequences": 2**40},
        INVALID,
        "above 2^53",
    ),
    "probe of one token": (P, {"tokens": 1}, INVALID, "tokens"),
    "probe of odd heads": (P, {"head_dim": 3}, INVALID, "head_dim"),
    "probe ntk": (P, {"head_dim": 2, "rope": "ntk"}, MISMATCH, "at least 4"),
}


@pytest.mark.parametrize(("path", "body", "code", "part"), BODIES.values(), ids=list(BODIES))
def test_a_bad_body_is_a_422_that_names_the_fault(
    client: TestClient, path: str, body: object, code: str, part: str
) -> None:
    expect_problem(client.post(path, json=body), 422, code, part)


LARGE: dict[str, tuple[dict[str, object], str]] = {
    "tokens": (qkv(1, 1, 4097, 2), "4097 tokens"),
    "scores": (qkv(65, 1, 1024, 2), "scores (batch × heads × tokens²)"),
    "weights shown": (qkv(1, 1, 513, 2, **{"return": ["probabilities"]}), "513 tokens with prob"),
    "rank": (qkv(1, 1, 513, 2, **{"return": ["rank"]}), "513 tokens with rank"),
    "a long latent": (qkv(2, 2, 1025, 300, variant="mla"), "smaller side is 1025"),
}


@pytest.mark.parametrize(("body", "part"), LARGE.values(), ids=list(LARGE))
def test_what_is_too_large_is_a_413(client: TestClient, body: dict[str, object], part: str) -> None:
    expect_problem(client.post(L, json=body), 413, TOO_MANY, part)
