"""What a client of the geodesic room can send wrong."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from starlette.testclient import TestClient

from service.capabilities.geodesic.pipeline import shelf
from service.capabilities.geodesic.pipeline.corpus import Corpus
from tests.contract.problems import expect_problem

PAIRWISE, CORPORA = "/v1/geodesic/pairwise", "/v1/geodesic/corpora"
INVALID = "invalid_input"
TWO = [{"id": "a", "vector": [1, 0]}, {"id": "b", "vector": [0, 1]}]

PAIRWISE_BODIES: dict[str, tuple[dict[str, Any], int, str, str]] = {
    "nothing": ({}, 422, "empty_input", "Give one of texts and vectors"),
    "both": ({"texts": ["a"], "vectors": [[1]]}, 422, INVALID, "exactly one"),
    "no texts": ({"texts": []}, 422, INVALID, "/texts"),
    "k of 0": ({"vectors": [[1, 2]], "k": 0}, 422, INVALID, "/k"),
    "k of -1": ({"vectors": [[1, 2]], "k": -1}, 422, INVALID, "/k"),
    "k of a half": ({"vectors": [[1, 2]], "k": 1.5}, 422, INVALID, "/k"),
    "k of true": ({"vectors": [[1, 2]], "k": True}, 422, INVALID, "/k"),
    "huge k": ({"vectors": [[1, 2]], "k": 10**9}, 422, INVALID, "/k"),
    "zeros": ({"vectors": [[1, 2], [0, 0]]}, 422, INVALID, "Vector 1 is all zeros"),
    "null": ({"vectors": [[1, None]]}, 422, INVALID, "no number"),
    "text in a vector": ({"vectors": [["1"]]}, 422, INVALID, "no number"),
    "unequal lengths": ({"vectors": [[1], [1, 2]]}, 422, INVALID, "different lengths"),
    "too long to square": (
        {"vectors": [[1e20, 1]], "metric": "euclidean"}, 422, INVALID, "length 1e+20",
    ),
    "metric": ({"vectors": [[1]], "metric": "cosine"}, 422, INVALID, "/metric"),
    "graph": ({"vectors": [[1]], "graph": "all"}, 422, INVALID, "/graph"),
    "bridge": ({"vectors": [[1]], "bridge": True}, 422, INVALID, "/bridge"),
    "negative edge": ({"vectors": [[1]], "max_edge": -1}, 422, INVALID, "/max_edge"),
    "hubness unknown": ({"vectors": [[1]], "hubness": "centring"}, 422, INVALID, "/hubness"),
    "no pairs": ({"vectors": [[1]], "pairs": []}, 422, INVALID, "/pairs"),
    "a pair of one": ({"vectors": [[1]], "pairs": [[0]]}, 422, INVALID, "pair 0 is [0]"),
    "a pair of text": ({"vectors": [[1]], "pairs": [["0", 0]]}, 422, INVALID, "pair 0 names"),
    "a pair below 0": ({"vectors": [[1]], "pairs": [[0, -1]]}, 422, INVALID, "pair 0 names -1"),
    "a pair beyond": ({"vectors": [[1]], "pairs": [[0, 1]]}, 422, INVALID, "Pair 0 names item 1"),
    "unknown field": ({"vectors": [[1]], "kk": 1}, 422, INVALID, "/kk"),
    "unknown model": ({"texts": ["a"], "model": "none"}, 404, "unknown_model", "none"),
    "5,001 vectors": ({"vectors": [[1]] * 5001}, 413, "too_many_items", "/v1/geodesic/corpora"),
    "5,001 texts": ({"texts": ["a"] * 5001}, 413, "too_many_items", "5000"),
    "all paths of 201": (
        {"vectors": [[1]] * 201, "paths": True}, 413, "too_many_items", "Name the pairs",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", PAIRWISE_BODIES)
def test_pairwise_refuses(client: TestClient, case: str) -> None:
    body, status, code, part = PAIRWISE_BODIES[case]
    expect_problem(client.post(PAIRWISE, json=body), status, code, part)


def test_numbers_that_are_not_finite(client: TestClient) -> None:
    json = {"Content-Type": "application/json"}
    sent = client.post(PAIRWISE, content=b'{"vectors": [[NaN, 1]]}', headers=json)
    expect_problem(sent, 422, INVALID, "not valid JSON")
    data = base64.b64encode(np.array([np.nan, 1], "<f4").tobytes()).decode()
    coded = {"shape": [1, 2], "dtype": "float32", "data": data}
    expect_problem(client.post(PAIRWISE, json={"vectors": coded}), 422, INVALID, "finite")
    buffer = io.BytesIO()
    np.save(buffer, np.array([[np.inf, 1]], np.float32))
    npy = {"Content-Type": "application/x-npy"}
    sent = client.post(PAIRWISE, content=buffer.getvalue(), headers=npy)
    expect_problem(sent, 422, INVALID, "finite")


CREATIONS: dict[str, tuple[dict[str, Any], int, str, str]] = {
    "no items": ({"items": []}, 422, INVALID, "/items"),
    "no name": ({"name": None, "items": TWO}, 422, INVALID, "/name"),
    "a path for a name": ({"name": "../up", "items": TWO}, 422, INVALID, "/name"),
    "a long name": ({"name": "a" * 65, "items": TWO}, 422, INVALID, "/name"),
    "neither text nor vector": ({"items": [{"id": "a"}]}, 422, INVALID, "neither text nor"),
    "an empty id": ({"items": [{"id": "", "text": "a"}]}, 422, INVALID, "/items/0/id"),
    "a number for an id": ({"items": [{"id": 1, "text": "a"}]}, 422, INVALID, "/items/0/id"),
    "an id twice": ({"items": [TWO[0], TWO[1], TWO[0]]}, 422, INVALID, "0 and 2 both"),
    "zeros": ({"items": [{"id": "a", "vector": [0, 0]}]}, 422, INVALID, "all zeros"),
    "an empty vector": ({"items": [{"id": "a", "vector": []}]}, 422, INVALID, "vector"),
    "no base64": ({"items": [{"id": "a", "vector": "!"}]}, 422, INVALID, "base64"),
    "half a number": ({"items": [{"id": "a", "vector": "AAA="}]}, 422, INVALID, "2 bytes"),
    "unequal lengths": (
        {"items": [TWO[0], {"id": "b", "vector": [1]}]}, 422, "dimension_mismatch", "[1, 2]",
    ),
    "texts beside other vectors": (
        {"items": [TWO[0], {"id": "b", "text": "a"}]}, 422, "dimension_mismatch", "[2, 384]",
    ),
    "k of 0": ({"items": TWO, "k": 0}, 422, INVALID, "/k"),
    "unknown field": ({"items": TWO, "size": 1}, 422, INVALID, "/size"),
    "metadata of text": ({"items": [{**TWO[0], "metadata": "a"}]}, 422, INVALID, "metadata"),
}  # fmt: skip


@pytest.mark.parametrize("case", CREATIONS)
def test_a_corpus_is_refused(client: TestClient, case: str) -> None:
    body, status, code, part = CREATIONS[case]
    expect_problem(client.post(CORPORA, json={"name": "never", **body}), status, code, part)
    assert client.get(f"{CORPORA}/never").status_code == 404


@pytest.fixture(scope="module")
def two(client: TestClient) -> Iterator[str]:
    name = f"two-{uuid4().hex[:8]}"
    assert client.post(CORPORA, json={"name": name, "items": TWO}).status_code == 201
    yield f"{CORPORA}/{name}"
    client.delete(f"{CORPORA}/{name}")


ASKED: dict[str, tuple[str, dict[str, Any], int, str, str]] = {
    "nothing": ("query", {}, 422, "empty_input", "text and vector"),
    "both": ("query", {"text": "a", "vector": [1, 0]}, 422, INVALID, "exactly one"),
    "text": ("query", {"text": "a"}, 409, "conflict", "was made of vectors"),
    "other length": ("query", {"vector": [1]}, 422, "dimension_mismatch", "1 numbers"),
    "zeros": ("query", {"vector": [0, 0]}, 422, INVALID, "all zeros"),
    "top of 0": ("query", {"vector": [1, 0], "top": 0}, 422, INVALID, "/top"),
    "too many": ("query", {"vector": [1, 0], "top": 1001}, 422, INVALID, "/top"),
    "negative": ("query", {"vector": [1, 0], "max_distance": -1}, 422, INVALID, "/max_distance"),
    "unknown source": ("path", {"source": "x", "target": "a"}, 404, "unknown_item", "'x'"),
    "unknown target": ("path", {"source": "a", "target": "x"}, 404, "unknown_item", "'x'"),
    "no target": ("path", {"source": "a"}, 422, INVALID, "/target"),
    "method": ("clusters", {"method": "kmeans"}, 422, INVALID, "/method"),
    "size": ("clusters", {"min_cluster_size": 1}, 422, INVALID, "/min_cluster_size"),
    "add text": ("items", {"items": [{"id": "c", "text": "a"}]}, 409, "conflict", "vectors"),
    "add other length": (
        "items", {"items": [{"id": "c", "vector": [1]}]}, 422, "dimension_mismatch", "have 2",
    ),
    "add nothing": ("items", {"items": []}, 422, INVALID, "/items"),
}  # fmt: skip


@pytest.mark.parametrize("case", ASKED)
def test_a_corpus_refuses(client: TestClient, two: str, case: str) -> None:
    operation, body, status, code, part = ASKED[case]
    expect_problem(client.post(f"{two}/{operation}", json=body), status, code, part)
    assert client.get(two).json()["version"] == 1


def test_what_is_not_there(client: TestClient, two: str) -> None:
    expect_problem(client.delete(f"{two}/items/zzz"), 404, "unknown_item", "'zzz'")
    for name in ("missing", "two@1", "a b", "%2e%2e"):
        for path in ("", "/map"):
            answer = client.get(f"{CORPORA}/{name}{path}")
            assert answer.status_code == 404, answer.text
        expect_problem(client.delete(f"{CORPORA}/{name}"), 404, "unknown_artefact")
        query = client.post(f"{CORPORA}/{name}/query", json={"vector": [1]})
        expect_problem(query, 404, "unknown_artefact")


def test_a_corpus_of_another_encoder(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"old-{uuid4().hex[:8]}"
    body = {"name": name, "items": [{"id": "a", "text": "A cat."}]}
    assert client.post(CORPORA, json=body).status_code == 201
    # As after an update of the encoder behind the same name.
    current = shelf.Shelf.current

    async def aged(self: shelf.Shelf) -> Corpus:
        corpus = await current(self)
        return replace(corpus, making=replace(corpus.making, model_sha256="0" * 64))

    monkeypatch.setattr(shelf.Shelf, "current", aged)
    asked = client.post(f"{CORPORA}/{name}/query", json={"text": "A cat."})
    expect_problem(asked, 409, "conflict", "000000000000", "Make the corpus again")
    monkeypatch.undo()
    assert client.post(f"{CORPORA}/{name}/query", json={"text": "A cat."}).status_code == 200
    client.delete(f"{CORPORA}/{name}")


def test_the_smallest_corpora(client: TestClient) -> None:
    name = f"one-{uuid4().hex[:8]}"
    one = {"name": name, "items": TWO[:1]}
    assert client.post(CORPORA, json=one).status_code == 201
    url = f"{CORPORA}/{name}"
    assert client.post(f"{url}/query", json={"vector": [0, 1]}).json()["hits"][0]["id"] == "a"
    assert client.post(f"{url}/clusters", json={}).json()["noise"] == 1
    merged = client.post(f"{url}/clusters", json={"method": "agglomerative"}).json()
    assert merged["clusters"] == 1
    assert client.get(f"{url}/map").json()["items"] == [{"id": "a", "x": 0, "y": 0}]
    assert client.delete(f"{url}/items/a").json()["items"] == 0
    assert client.post(f"{url}/query", json={"vector": [0, 1]}).json()["hits"] == []
    assert client.post(f"{url}/clusters", json={}).json()["items"] == []
    assert client.get(f"{url}/map").json()["items"] == []
    assert client.get(f"{url}/map", headers={"Accept": "image/png"}).status_code == 200
    back = client.post(f"{url}/items", json={"items": TWO}).json()
    assert (back["items"], back["components"]) == (2, 1)
    client.delete(url)


def test_equal_items_everywhere(client: TestClient) -> None:
    name = f"same-{uuid4().hex[:8]}"
    items = [{"id": str(at), "vector": [1, 1]} for at in range(30)]
    assert client.post(CORPORA, json={"name": name, "items": items, "k": 3}).status_code == 201
    url = f"{CORPORA}/{name}"
    hits = client.post(f"{url}/query", json={"vector": [1, 1], "top": 3}).json()["hits"]
    assert [hit["geodesic"] for hit in hits] == [0, 0, 0]
    assert client.get(f"{url}/map").json()["placed"] >= 4
    for body in ({}, {"method": "agglomerative", "clusters": 2}):
        assert client.post(f"{url}/clusters", json=body).status_code == 200
    client.delete(url)
