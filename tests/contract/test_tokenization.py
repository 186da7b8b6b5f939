"""The tokenization routes over HTTP."""

from __future__ import annotations

import base64
import io
import itertools
import json
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings
from tests.support.lattices import SHIPPED

TEXTS = ["The quick brown fox.", "今天天气不错, 我们去公园玩。", "naïve café 🙂", ""]
BASE = "/v1/tokenization"


def post(client: TestClient, route: str, body: object, **headers: str) -> Any:
    return client.post(f"{BASE}/{route}", json=body, headers=headers)


def ok(client: TestClient, route: str, body: object) -> Any:
    found = post(client, route, body)
    assert found.status_code == 200, found.text
    return found.json()


def refused(client: TestClient, route: str, body: object, status: int, code: str) -> Any:
    found = post(client, route, body)
    assert found.status_code == status, found.text
    problem = found.json()
    assert problem["code"] == code
    return problem


def test_encode_and_decode(client: TestClient) -> None:
    found = ok(
        client,
        "encode",
        {"texts": TEXTS, "return": ["ids", "pieces", "offsets", "byte_offsets", "normalized"]},
    )
    assert found["tokenizer"] == "isotrope-unigram-32k"
    assert len(found["tokenizer_sha256"]) == 64
    for text, result in zip(TEXTS, found["results"], strict=True):
        assert "".join(result["pieces"][: len(text.split(" ")[0])]).startswith(
            result["normalized"][:1]
        )
        raw = text.encode()
        for (start, end), (first, last) in zip(
            result["offsets"], result["byte_offsets"], strict=True
        ):
            assert text[start:end].encode() == raw[first:last]
    ids = [result["ids"] for result in found["results"]]
    assert ok(client, "decode", {"ids": ids})["texts"] == TEXTS
    assert ok(client, "decode", {"ids": ids[0]})["texts"] == TEXTS[:1]


def test_tokenizers_of_models(client: TestClient) -> None:
    listed = client.get(f"{BASE}/tokenizers").json()["tokenizers"]
    by_id = {each["id"]: each for each in listed}
    assert by_id["isotrope-unigram-32k"]["default"]
    assert "all-MiniLM-L6-v2" in by_id
    found = ok(client, "encode", {"texts": ["unbelievable"], "tokenizer": "all-MiniLM-L6-v2"})
    assert found["results"][0]["pieces"] == ["unbelievable"]
    card = client.get("/v1/models/isotrope-unigram-32k").json()
    assert card["kind"] == "tokenizer"
    assert post(client, "encode", {"texts": ["a"], "tokenizer": "nothing"}).status_code == 404
    no_encoder = client.post("/v1/embeddings", json={"input": "a", "model": "isotrope-unigram-32k"})
    assert no_encoder.status_code in (404, 503)


@pytest.mark.parametrize(
    "method", ["sample", "sample_without_replacement", "nbest", "uniform", "viterbi_sampling_v1"]
)
def test_every_method_answers_and_repeats(client: TestClient, method: str) -> None:
    body = {"texts": TEXTS, "method": method, "num_samples": 3, "seed": 11}
    first, again = post(client, "sample", body), post(client, "sample", body)
    assert first.content == again.content
    found = first.json()
    assert found["seed"] == 11
    for result in found["results"]:
        assert result["entropy"] >= 0
        for sample in result["samples"]:
            assert sample["log_prob"] <= 0
            assert len(sample["ids"]) == len(sample["pieces"])


def test_a_drawn_seed_repeats_the_answer(client: TestClient) -> None:
    body = {"texts": ["unbelievable"], "alpha": 0.1, "num_samples": 20}
    first = ok(client, "sample", body)
    again = ok(client, "sample", body | {"seed": first["seed"]})
    assert again == first
    assert ok(client, "sample", body | {"seed": first["seed"] ^ 1})["results"] != first["results"]


def test_samples_do_not_depend_on_their_company(client: TestClient) -> None:
    texts = [f"text number {number} 天气 unbelievable" for number in range(64)]
    body = {"alpha": 0.2, "num_samples": 2, "seed": 5, "seed_scope": "content"}
    whole = ok(client, "sample", body | {"texts": texts})["results"]
    turned = ok(client, "sample", body | {"texts": texts[::-1]})["results"]
    assert turned[::-1] == whole

    def alone(text: str) -> Any:
        return ok(client, "sample", body | {"texts": [text]})["results"][0]

    for threads in (1, 7):
        with ThreadPoolExecutor(threads) as pool:
            assert list(pool.map(alone, texts[:16])) == whole[:16]
    by_index = body | {"seed_scope": "index"}
    assert (
        ok(client, "sample", by_index | {"texts": texts})["results"][:7]
        == ok(client, "sample", by_index | {"texts": texts[:7]})["results"]
    )


def test_another_replica_gives_the_same_bytes(
    client: TestClient, settings: Settings, tmp_path: Path
) -> None:
    body = {"texts": TEXTS, "alpha": 0.3, "num_samples": 4, "seed": 99}
    here = post(client, "sample", body).content
    other = settings.model_copy(update={"data_location": str(tmp_path)})
    with TestClient(create_app(other)) as replica:
        assert post(replica, "sample", body).content == here


def test_flat_arrays_lines_and_npy_hold_the_same_paths(client: TestClient) -> None:
    body = {"texts": TEXTS, "alpha": 0.3, "num_samples": 3, "seed": 4}
    lists = ok(client, "sample", body)
    paths = [sample["ids"] for result in lists["results"] for sample in result["samples"]]
    flat = ok(client, "sample", body | {"format": "flat"})["flat"]
    ids = np.frombuffer(base64.b64decode(flat["ids"]["data"]), "<i4")
    offsets = np.frombuffer(base64.b64decode(flat["offsets"]["data"]), "<i8")
    assert [ids[a:b].tolist() for a, b in itertools.pairwise(offsets)] == paths
    log_probs = np.frombuffer(base64.b64decode(flat["log_probs"]["data"]), "<f8")
    assert log_probs.tolist() == [
        sample["log_prob"] for result in lists["results"] for sample in result["samples"]
    ]
    streamed = post(client, "sample", body, Accept="application/x-ndjson")
    lines = [json.loads(line) for line in streamed.text.splitlines()]
    assert [line["ids"] for line in lines] == paths
    assert [(line["text"], line["sample"]) for line in lines[:4]] == [
        (0, 0),
        (0, 1),
        (0, 2),
        (1, 0),
    ]
    assert streamed.headers["x-seed"] == "4"
    table = np.load(io.BytesIO(post(client, "sample", body, Accept="application/x-npy").content))
    assert table[:, 1].tolist() == [each for path in paths for each in path]
    assert table[-1, 0] == max(place for place, path in enumerate(paths) if path)


def test_dropout_on_a_bpe_tokenizer(client: TestClient, tmp_path: Path) -> None:
    identity = upload(client, "bpe-for-tests", bpe_file()).json()["id"]
    best = ok(client, "encode", {"texts": ["low lower"], "tokenizer": identity})["results"][0]
    body = {"texts": ["low lower"], "tokenizer": identity, "method": "bpe_dropout", "seed": 1}
    none = ok(client, "sample", body | {"dropout": 0.0})["results"][0]["samples"][0]
    assert none["ids"] == best["ids"]
    full = ok(client, "sample", body | {"dropout": 1.0})["results"][0]["samples"][0]
    assert full["pieces"] == list("low") + list("Ġlower")
    problem = refused(client, "sample", body | {"alpha": 0.5}, 422, "invalid_input")
    assert problem["errors"][0]["pointer"] == "/alpha"
    refused(client, "sample", body | {"method": "sample", "alpha": 0.5}, 422, "invalid_input")
    refused(client, "sample", body | {"return": ["log_prob"]}, 422, "invalid_input")
    uniform = ok(client, "sample", body | {"method": "uniform", "num_samples": 2})
    assert uniform["results"][0]["samples"][0]["log_prob"] < 0
    assert client.delete(f"{BASE}/tokenizers/{identity}").status_code == 204
    assert post(client, "encode", {"texts": ["a"], "tokenizer": identity}).status_code == 404


def test_analysis_adds_up(client: TestClient) -> None:
    body = {"text": "unbelievable 天气", "alpha": 0.4, "nbest": 3}
    found = ok(client, "analyze", body)
    assert found["results"][0]["entropy"] == found["entropy"]
    marginals = found["boundary_marginals"]
    assert len(marginals) == len(found["normalized"]) + 1
    assert marginals[0] == pytest.approx(1.0)
    assert marginals[-1] == pytest.approx(1.0)
    for place, chance in enumerate(marginals[:-1]):
        starting = math.fsum(
            each["probability"] for each in found["pieces"] if each["start"] == place
        )
        assert starting == pytest.approx(chance, abs=1e-9)
    probable = math.fsum(each["probability"] for each in found["pieces"])
    assert probable == pytest.approx(found["expected_tokens"], rel=1e-9)
    best = found["nbest"][0]
    for given in (best["ids"], best["pieces"]):
        score = ok(client, "analyze", body | {"segmentation": given})["score"]
        assert score["log_prob"] == pytest.approx(best["log_prob"], abs=1e-9)
    refused(client, "analyze", body | {"segmentation": ["un", "x"]}, 422, "invalid_input")
    refused(client, "analyze", {"texts": ["a"], "segmentation": ["a"]}, 422, "invalid_input")
    refused(client, "analyze", {}, 422, "invalid_input")


def test_a_picture_of_the_lattice(client: TestClient) -> None:
    drawn = post(client, "analyze", {"text": "a<b 天气"}, Accept="image/svg+xml")
    assert drawn.headers["content-type"].startswith("image/svg+xml")
    assert drawn.text.startswith("<svg")
    assert "a&lt;b" in drawn.text or "&lt;" in drawn.text
    again = post(client, "analyze", {"text": "a<b 天气"}, Accept="image/svg+xml")
    assert again.content == drawn.content
    long = post(client, "analyze", {"text": "a" * 500}, Accept="image/svg+xml")
    assert long.status_code == 413


def test_continuation(client: TestClient) -> None:
    found = ok(client, "continue", {"text": "今天天", "top_k": 4})
    assert found["stable_text"] + found["suffix"].removeprefix("\u2581") == "今天天"
    chances = [each["log_prob"] for each in found["candidates"]]
    assert chances == sorted(chances, reverse=True)
    assert len(found["candidates"]) == 4
    assert {each["id"] for each in found["candidates"]} <= set(found["allowed_ids"])
    whole = ok(client, "continue", {"text": "今天天", "top_k": 10_000})["candidates"]
    assert math.fsum(math.exp(each["log_prob"]) for each in whole) == pytest.approx(1.0)
    back = ok(client, "continue", {"text": "The unbeliev", "backoff": 2})
    assert back["removed_tokens"] == 2
    none = ok(client, "continue", {"text": "The end.", "backoff": 0})
    assert none["suffix"] == ""
    assert none["allowed_ids"] is None
    space = ok(client, "continue", {"text": "hello "})
    assert space["suffix"].endswith("\u2581")


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"alpha": -0.1}, 422), ({"alpha": 1e9}, 422), ({"alpha": "1"}, 422),
        ({"dropout": 0.1}, 422), ({"method": "uniform", "alpha": 0.5}, 422),
        ({"method": "bpe_dropout"}, 422), ({"seed": -1}, 422), ({"seed": 2**63}, 422),
        ({"seed": 1.5}, 422), ({"num_samples": 0}, 422), ({"num_samples": 5000}, 422),
        ({"method": "nbest", "num_samples": 513}, 413), ({"texts": []}, 422),
        ({"texts": ["a"] * 257}, 413), ({"texts": ["a" * (2**20 + 1)]}, 413),
        ({"texts": ["a" * 2**20], "num_samples": 65}, 413),
        ({"texts": ["a" * 2**17], "method": "nbest", "num_samples": 64}, 413),
        ({"return": ["everything"]}, 422), ({"return": ["inclusion_log_prob"]}, 422),
        ({"format": "flat", "return": ["pieces"]}, 422), ({"unknown": 1}, 422),
        ({"tokenizer": "nobody"}, 404), ({"tokenizer": "nobody@1"}, 404),
        ({"seed_scope": "batch"}, 422), ({"tokenizer": "../../etc/passwd"}, 404),
    ],
)  # fmt: skip
def test_bad_requests(client: TestClient, change: dict[str, object], status: int) -> None:
    found = post(client, "sample", {"texts": ["unbelievable"]} | change)
    assert found.status_code == status, found.text
    assert found.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "raw",
    [
        b'{"texts": ["a"], "alpha": NaN}',
        b'{"texts": ["a"], "alpha": Infinity}',
        b'{"texts": ["a"], "alpha": 1e999}',
        b'{"texts": ["\\ud800"]}',
        b'{"texts": ["a"], "texts": ',
    ],
)
def test_bad_json(client: TestClient, raw: bytes) -> None:
    found = client.post(f"{BASE}/sample", content=raw, headers={"Content-Type": "application/json"})
    assert found.status_code == 422
    assert found.headers["content-type"] == "application/problem+json"


def test_a_large_text_is_sampled(client: TestClient) -> None:
    found = ok(
        client, "sample", {"texts": ["天气 weather " * 60_000], "seed": 1, "return": ["ids"]}
    )
    assert len(found["results"][0]["samples"][0]["ids"]) > 100_000


def bpe_file() -> bytes:
    from tokenizers import Tokenizer, models, pre_tokenizers

    pieces = ["l", "o", "w", "e", "r", "Ġ", "lo", "low", "er"]
    made = Tokenizer(
        models.BPE(
            vocab={piece: number for number, piece in enumerate(pieces)},
            merges=[("l", "o"), ("lo", "w"), ("e", "r")],
        )
    )
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return made.to_str().encode()


def upload(client: TestClient, name: str, content: bytes, **headers: str) -> Any:
    return client.post(
        f"{BASE}/tokenizers",
        files={"file": ("tokenizer", content, "application/octet-stream")},
        data={"name": name},
        headers=headers,
    )


def test_an_upload_lives_until_it_is_deleted(client: TestClient) -> None:
    made = upload(client, "mine", SHIPPED.read_bytes())
    assert made.status_code == 201, made.text
    card = made.json()
    assert card["kind"] == "unigram"
    assert card["pieces"] == 32_000
    body = {"texts": TEXTS, "alpha": 0.3, "seed": 3}
    # The same file under another name draws the same: a stream hangs on the content.
    mine = ok(client, "sample", body | {"tokenizer": card["id"]})["results"]
    assert mine == ok(client, "sample", body)["results"]
    ids = [each["id"] for each in client.get(f"{BASE}/tokenizers").json()["tokenizers"]]
    assert card["id"] in ids
    assert client.delete(f"{BASE}/tokenizers/{card['id']}").status_code == 204
    assert client.delete(f"{BASE}/tokenizers/{card['id']}").status_code == 404
    assert client.delete(f"{BASE}/tokenizers/isotrope-unigram-32k").status_code == 409
    assert upload(client, "isotrope-unigram-32k", b"x").status_code == 409


@pytest.mark.parametrize(
    "content", [b"", b"x", b"{}", SHIPPED.read_bytes()[:-5], b"PK\x03\x04" + b"\0" * 100]
)
def test_an_upload_that_fails_leaves_nothing(client: TestClient, content: bytes) -> None:
    before = client.get(f"{BASE}/tokenizers").json()
    found = upload(client, "broken", content)
    assert found.status_code == 422, found.text
    assert client.get(f"{BASE}/tokenizers").json() == before


def test_an_upload_may_come_twice(client: TestClient) -> None:
    key = {"Idempotency-Key": "tokenizer-upload-1"}
    content = bpe_file()
    boundary = "boundary-of-this-test"
    body = (
        (
            f'--{boundary}\r\nContent-Disposition: form-data; name="name"\r\n\r\ntwice\r\n'
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="t"\r\n\r\n'
        ).encode()
        + content
        + f"\r\n--{boundary}--\r\n".encode()
    )
    headers = key | {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    first = client.post(f"{BASE}/tokenizers", content=body, headers=headers)
    again = client.post(f"{BASE}/tokenizers", content=body, headers=headers)
    assert first.status_code == again.status_code == 201, again.text
    assert first.json()["id"] == again.json()["id"]
    client.delete(f"{BASE}/tokenizers/{first.json()['id']}")
