"""Distances along the manifold, over HTTP."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import numpy as np
import orjson
import pytest
from starlette.testclient import TestClient

from tests.contract.problems import expect_problem

PAIRWISE, CORPORA = "/v1/geodesic/pairwise", "/v1/geodesic/corpora"
EIGHTH = math.pi / 4
# Five directions an eighth of a turn apart: the way round is four steps, and straight it is π.
FAN = [[math.cos(step * EIGHTH), math.sin(step * EIGHTH)] for step in range(5)]
TEXTS = [
    "The battery lasts two days.", "Battery life is great.", "It needs charging every evening.",
    "The hotel was near the beach.", "Our room had a view of the sea.", "Breakfast was cold.",
    "The camera takes sharp pictures.", "Photos in the dark are blurred.", "The screen is bright.",
]  # fmt: skip


@pytest.fixture
def name(client: TestClient) -> Iterator[str]:
    chosen = f"c-{uuid4().hex[:12]}"
    yield chosen
    client.delete(f"{CORPORA}/{chosen}")


def fan_items() -> list[dict[str, Any]]:
    return [{"id": f"p{at}", "vector": vector} for at, vector in enumerate(FAN)]


def make(client: TestClient, name: str, items: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    response = client.post(CORPORA, json={"name": name, "items": items, **more})
    assert response.status_code == 201, response.text
    made: dict[str, Any] = response.json()
    return made


def test_the_way_round_is_the_sum_of_its_steps(client: TestClient) -> None:
    found = client.post(PAIRWISE, json={"vectors": FAN, "k": 1, "paths": True}).json()
    assert found["geodesic"][0] == pytest.approx([0, 1 * EIGHTH, 2 * EIGHTH, 3 * EIGHTH, math.pi])
    assert found["direct"][1] == pytest.approx([EIGHTH, 0, EIGHTH, 2 * EIGHTH, 3 * EIGHTH])
    assert found["hops"][4] == [4, 3, 2, 1, 0]
    assert found["components"] == 1
    assert found["labels"] == [0] * 5
    assert found["graph"] == {"edges": 4, "k_effective": 1}
    assert found["paths"][4] == [0, 1, 2, 3, 4]
    assert found["paths"][20] == [4, 3, 2, 1, 0]
    assert (found["metric"], found["model"], found["model_sha256"]) == ("angular", None, None)


def test_straight_lines_are_shorter_than_the_way(client: TestClient) -> None:
    body = {"vectors": FAN, "k": 1, "metric": "euclidean", "pairs": [[0, 4], [4, 2], [3, 3]]}
    found = client.post(PAIRWISE, json={**body, "paths": True}).json()
    side = 2 * math.sin(EIGHTH / 2)
    assert found["geodesic"] == pytest.approx([4 * side, 2 * side, 0])
    assert found["direct"] == pytest.approx([2, math.sqrt(2), 0], abs=1e-6)
    assert found["hops"] == [4, 2, 0]
    assert found["paths"] == [[0, 1, 2, 3, 4], [4, 3, 2], [3]]


def test_no_path_is_null(client: TestClient) -> None:
    vectors = [[1, 0], [1, 0.1], [0, 1], [0.1, 1]]
    response = client.post(PAIRWISE, json={"vectors": vectors, "k": 1})
    assert b"Infinity" not in response.content
    found = response.json()
    assert found["geodesic"][0][2] is None
    assert found["hops"][0] == [0, 1, None, None]
    assert (found["components"], found["labels"]) == (2, [0, 0, 1, 1])
    assert found["direct"][0][2] == pytest.approx(math.pi / 2)
    bridged = client.post(PAIRWISE, json={"vectors": vectors, "k": 1, "bridge": "mst"}).json()
    assert bridged["components"] == 1
    assert bridged["geodesic"][0][2] == pytest.approx(math.pi / 2)
    assert bridged["hops"][0][2] == 3
    pair = {"vectors": vectors, "k": 1, "pairs": [[0, 3]], "paths": True}
    apart = client.post(PAIRWISE, json=pair).json()
    assert (apart["geodesic"], apart["hops"], apart["paths"]) == ([None], [None], [None])


def test_texts_are_embedded(client: TestClient) -> None:
    found = client.post(PAIRWISE, json={"texts": TEXTS, "k": 3}).json()
    assert found["model"] == "all-MiniLM-L6-v2"
    assert len(found["model_sha256"]) == 64
    assert found["usage"]["prompt_tokens"] > len(TEXTS)
    vectors = client.post("/v1/embeddings", json={"input": TEXTS}).json()["data"]
    body = {"vectors": [each["embedding"] for each in vectors], "k": 3}
    again = client.post(PAIRWISE, json=body).json()
    assert np.allclose(found["geodesic"], again["geodesic"], atol=1e-5)


def test_matrices_go_out_as_base64_and_npy(client: TestClient) -> None:
    body = {"vectors": FAN, "k": 1}
    plain = client.post(PAIRWISE, json=body).json()
    coded = client.post(PAIRWISE, json={**body, "encoding_format": "base64"}).json()
    for field, dtype in (("geodesic", "<f4"), ("direct", "<f4"), ("hops", "<i4")):
        raw = base64.b64decode(coded[field]["data"])
        matrix = np.frombuffer(raw, dtype).reshape(coded[field]["shape"])
        assert np.allclose(matrix, plain[field])
    npy = client.post(PAIRWISE, json=body, headers={"Accept": "application/x-npy"})
    assert np.allclose(np.load(io.BytesIO(npy.content)), plain["geodesic"])
    buffer = io.BytesIO()
    np.save(buffer, np.array(FAN, np.float32))
    sent = client.post(
        f"{PAIRWISE}?k=1",
        content=buffer.getvalue(),
        headers={"Content-Type": "application/x-npy"},
    )
    assert np.allclose(sent.json()["geodesic"], plain["geodesic"], atol=1e-6)


def test_k_is_cut_to_the_others_there_are(client: TestClient) -> None:
    found = client.post(PAIRWISE, json={"vectors": FAN, "k": 50}).json()
    assert found["graph"]["k_effective"] == 4
    assert np.allclose(found["geodesic"], found["direct"], atol=1e-6)
    one = client.post(PAIRWISE, json={"vectors": [[1, 2]]}).json()
    assert (one["geodesic"], one["hops"], one["graph"]["k_effective"]) == ([[0]], [[0]], 0)


def test_equal_items_have_distance_0(client: TestClient) -> None:
    found = client.post(PAIRWISE, json={"vectors": [[1, 2]] * 30, "k": 3}).json()
    finite = [x for row in found["geodesic"] for x in row if x is not None]
    assert set(finite) == {0}


def test_progress_is_streamed(client: TestClient) -> None:
    response = client.post(
        PAIRWISE, json={"vectors": FAN, "k": 1}, headers={"Accept": "text/event-stream"}
    )
    assert response.headers["content-type"].startswith("text/event-stream")
    events = [block.split("\n") for block in response.text.strip().split("\n\n")]
    assert events[0][0] == "event: progress"
    assert events[-1][0] == "event: result"
    assert orjson.loads(events[-1][1].removeprefix("data: "))["components"] == 1


def test_a_corpus_from_beginning_to_end(client: TestClient, name: str) -> None:
    items = [
        {"id": f"t{at}", "text": text, "metadata": {"at": at}} for at, text in enumerate(TEXTS)
    ]
    made = make(client, name, items[:7], k=3)
    assert (made["id"], made["items"], made["version"]) == (name, 7, 1)
    assert (made["neighbours"], made["recall"], made["dimensions"]) == ("exact", 1, 384)
    assert made["model"] == "all-MiniLM-L6-v2"
    grown = client.post(f"{CORPORA}/{name}/items", json={"items": items[7:]}).json()
    assert (grown["items"], grown["version"]) == (9, 2)
    assert client.get(f"{CORPORA}/{name}").json() == grown
    listed = client.get(CORPORA).json()["data"]
    assert grown in listed
    found = client.post(
        f"{CORPORA}/{name}/query", json={"text": "How long does the battery last?", "top": 4}
    ).json()
    assert found["version"] == 2
    assert found["hits"][0]["id"] in {"t0", "t1"}
    assert found["hits"][0]["metadata"] == {"at": int(found["hits"][0]["id"][1])}
    assert [hit["hops"] for hit in found["hits"]][:3] == [1, 1, 1]
    assert [hit["geodesic"] for hit in found["hits"]] == sorted(
        hit["geodesic"] for hit in found["hits"]
    )
    gone = client.delete(f"{CORPORA}/{name}/items/t0").json()
    assert (gone["items"], gone["version"]) == (8, 3)
    assert client.delete(f"{CORPORA}/{name}").status_code == 204
    assert client.get(f"{CORPORA}/{name}").status_code == 404
    assert client.post(f"{CORPORA}/{name}/query", json={"text": "a"}).status_code == 404
    assert name not in [each["id"] for each in client.get(CORPORA).json()["data"]]
    again = make(client, name, items[:2])
    assert (again["items"], again["version"]) == (2, 5)


def test_a_query_walks_along_the_graph(client: TestClient, name: str) -> None:
    make(client, name, fan_items(), k=1)
    ask = {"vector": [math.cos(-0.1), math.sin(-0.1)], "top": 5}
    hits = client.post(f"{CORPORA}/{name}/query", json=ask).json()["hits"]
    assert [hit["id"] for hit in hits] == ["p0", "p1", "p2", "p3", "p4"]
    assert [hit["hops"] for hit in hits] == [1, 2, 3, 4, 5]
    expected = [0.1 + step * EIGHTH for step in range(5)]
    assert [hit["geodesic"] for hit in hits] == pytest.approx(expected, abs=1e-5)
    assert hits[4]["direct"] == pytest.approx(math.pi - 0.1, abs=1e-5)
    near = client.post(f"{CORPORA}/{name}/query", json={**ask, "max_distance": 1.0}).json()["hits"]
    assert [hit["id"] for hit in near] == ["p0", "p1"]
    coded = base64.b64encode(np.array(ask["vector"], "<f4").tobytes()).decode()
    same = client.post(f"{CORPORA}/{name}/query", json={"vector": coded, "top": 5}).json()["hits"]
    assert [hit["id"] for hit in same] == [hit["id"] for hit in hits]


def test_a_query_makes_no_shortcut(client: TestClient, name: str) -> None:
    """It hangs on both ends of the fan, and the way between them stays what it was."""
    make(client, name, fan_items(), k=2, max_edge=1.0)
    ask = {"vector": [0, -1], "top": 5}
    assert client.post(f"{CORPORA}/{name}/query", json=ask).json()["hits"] == []
    ask = {"vector": [math.cos(-0.2), math.sin(-0.2)], "top": 5}
    client.post(f"{CORPORA}/{name}/query", json=ask)
    way = client.post(f"{CORPORA}/{name}/path", json={"source": "p0", "target": "p4"}).json()
    assert way["geodesic"] == pytest.approx(math.pi, abs=1e-5)


def test_a_path_explains_a_distance(client: TestClient, name: str) -> None:
    vectors = [[1, 0], [0.9, 0.3], [0.2, 1], [0, 1]]
    items = [{"id": f"p{at}", "vector": vector} for at, vector in enumerate(vectors)]
    make(client, name, items, k=3, max_edge=0.7)
    joined = client.post(f"{CORPORA}/{name}/path", json={"source": "p0", "target": "p1"}).json()
    assert [step["id"] for step in joined["steps"]] == ["p0", "p1"]
    assert joined["steps"][0]["step"] is None
    assert joined["bottleneck"]["target"] == "p1"
    assert joined["geodesic"] == pytest.approx(joined["direct"])
    apart = client.post(f"{CORPORA}/{name}/path", json={"source": "p0", "target": "p3"}).json()
    assert (apart["steps"], apart["bottleneck"], apart["geodesic"]) == ([], None, None)
    itself = client.post(f"{CORPORA}/{name}/path", json={"source": "p2", "target": "p2"}).json()
    assert ([step["id"] for step in itself["steps"]], itself["geodesic"]) == (["p2"], 0)
    client.post(f"{CORPORA}/{name}/items", json={"items": [{"id": "m", "vector": [0.6, 0.7]}]})
    way = client.post(f"{CORPORA}/{name}/path", json={"source": "p0", "target": "p3"}).json()
    assert [step["id"] for step in way["steps"]] == ["p0", "p1", "m", "p2", "p3"]
    steps = [step["step"] for step in way["steps"][1:]]
    assert sum(steps) == pytest.approx(way["geodesic"], abs=1e-5)
    assert way["bottleneck"] == {"source": "p1", "target": "m", "step": max(steps)}


def test_an_item_is_replaced(client: TestClient, name: str) -> None:
    make(client, name, fan_items(), k=1)
    moved = {"id": "p4", "vector": [1, 0.001], "metadata": {"moved": True}}
    reply = client.post(f"{CORPORA}/{name}/items", json={"items": [moved]}).json()
    assert reply["items"] == 5
    hits = client.post(f"{CORPORA}/{name}/query", json={"vector": [1, 0.001], "top": 1}).json()
    assert hits["hits"][0]["id"] == "p4"
    assert hits["hits"][0]["metadata"] == {"moved": True}


def test_clusters_follow_the_graph(client: TestClient, name: str) -> None:
    draw = np.random.default_rng(0)
    groups = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    vectors = [np.array(groups[at % 3]) + draw.normal(size=3) / 20 for at in range(45)]
    make(client, name, [{"id": str(at), "vector": v.tolist()} for at, v in enumerate(vectors)], k=5)
    for body in ({"method": "agglomerative", "clusters": 3}, {"min_cluster_size": 6}):
        found = client.post(f"{CORPORA}/{name}/clusters", json=body).json()
        assert (found["clusters"], len(found["items"])) == (3, 45)
        labels = {each["id"]: each["cluster"] for each in found["items"]}
        for group in range(3):
            kept = {labels[str(at)] for at in range(group, 45, 3)} - {None}
            assert len(kept) == 1
        assert found["noise"] == sum(label is None for label in labels.values())
    few = client.post(f"{CORPORA}/{name}/clusters", json={"min_cluster_size": 99}).json()
    assert (few["clusters"], few["noise"]) == (0, 45)


def test_a_map_as_numbers_and_as_pictures(client: TestClient, name: str) -> None:
    make(client, name, fan_items(), k=1)
    found = client.get(f"{CORPORA}/{name}/map").json()
    along = [item["x"] for item in found["items"]]
    assert np.allclose(np.abs(np.diff(along)), EIGHTH, atol=1e-4)
    assert np.allclose([item["y"] for item in found["items"]], 0, atol=1e-2)
    assert (found["placed"], found["explained"]) == (5, pytest.approx(1, abs=1e-3))
    for media, start in (("image/png", b"\x89PNG"), ("image/svg+xml", b"<?xml")):
        drawn = client.get(f"{CORPORA}/{name}/map", headers={"Accept": media})
        assert drawn.headers["content-type"].startswith(media)
        assert drawn.content.startswith(start)
        same = client.get(f"{CORPORA}/{name}/map", headers={"Accept": media})
        assert same.content == drawn.content


def test_items_apart_are_not_on_the_map(client: TestClient, name: str) -> None:
    vectors = [[1, 0], [1, 0.1], [1, 0.2], [0, 1], [0.1, 1]]
    items = [{"id": f"{at}", "vector": vector} for at, vector in enumerate(vectors)]
    made = make(client, name, items, k=1)
    assert made["components"] == 2
    found = client.get(f"{CORPORA}/{name}/map").json()
    assert found["placed"] == 3
    assert [item["x"] is None for item in found["items"]] == [False] * 3 + [True] * 2


def test_a_key_makes_a_repeated_request_harmless(client: TestClient, name: str) -> None:
    body = {"name": name, "items": fan_items()}
    key = {"Idempotency-Key": "first"}
    first = client.post(CORPORA, json=body, headers=key)
    again = client.post(CORPORA, json=body, headers=key)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    expect_problem(client.post(CORPORA, json=body), 409, "conflict")
    other = {"Idempotency-Key": "second"}
    expect_problem(client.post(CORPORA, json=body, headers=other), 409, "conflict")


def test_building_a_corpus_streams_its_progress(client: TestClient, name: str) -> None:
    body = {"name": name, "items": [{"id": "a", "text": "A cat."}, {"id": "b", "text": "A dog."}]}
    response = client.post(CORPORA, json=body, headers={"Accept": "text/event-stream"})
    assert "event: progress" in response.text
    assert '"stage":"embed"' in response.text
    last = response.text.strip().split("\n\n")[-1].split("\n")
    assert last[0] == "event: result"
    assert orjson.loads(last[1].removeprefix("data: "))["items"] == 2


def test_a_whitening_comes_before_the_graph(client: TestClient, name: str) -> None:
    fit = {"name": f"w-{name}", "texts": TEXTS, "dimensions": 4}
    transform = client.post("/v1/whitening/transforms", json=fit).json()["id"]
    whitened = client.post("/v1/embeddings", json={"input": TEXTS, "transform": transform}).json()
    vectors = [each["embedding"] for each in whitened["data"]]
    expected = client.post(PAIRWISE, json={"vectors": vectors, "k": 3}).json()
    found = client.post(PAIRWISE, json={"texts": TEXTS, "k": 3, "transform": transform}).json()
    assert (found["transform"], expected["transform"]) == (transform, None)
    assert np.allclose(found["geodesic"], expected["geodesic"], atol=1e-5)
    items = [{"id": str(at), "text": text} for at, text in enumerate(TEXTS)]
    made = make(client, name, items[:6], k=3, transform=f"w-{name}")
    assert (made["transform"], made["dimensions"]) == (transform, 4)
    client.post(f"{CORPORA}/{name}/items", json={"items": items[6:]})
    ask = {"text": TEXTS[7], "top": 1}
    hit = client.post(f"{CORPORA}/{name}/query", json=ask).json()["hits"][0]
    assert (hit["id"], hit["geodesic"]) == ("7", pytest.approx(0, abs=1e-5))
    client.delete(f"/v1/whitening/transforms/{transform}")
    body = {"texts": TEXTS, "transform": transform}
    expect_problem(client.post(PAIRWISE, json=body), 404, "unknown_artefact")


SPOT = [[0, 0], [0.1, 0], [2, 0], [2, 2.1]]


@pytest.mark.parametrize(("hubness", "labels"), [("none", [0] * 4), ("csls", [0, 0, 1, 1])])
def test_a_dense_spot_does_not_catch_what_lies_around_it(
    client: TestClient, name: str, hubness: str, labels: list[int]
) -> None:
    how = {"k": 1, "metric": "euclidean", "hubness": hubness}
    found = client.post(PAIRWISE, json={"vectors": SPOT, **how}).json()
    assert found["labels"] == labels
    made = make(
        client, name, [{"id": str(at), "vector": row} for at, row in enumerate(SPOT)], **how
    )
    assert (made["hubness"], made["components"]) == (hubness, len(set(labels)))
    path = client.post(f"{CORPORA}/{name}/path", json={"source": "1", "target": "2"}).json()
    assert (path["geodesic"] is None) == (hubness == "csls")
    query = client.post(f"{CORPORA}/{name}/query", json={"vector": [2, 1]}).json()
    assert [hit["id"] for hit in query["hits"]] == (
        ["2", "3"] if hubness == "csls" else ["2", "1", "0", "3"]
    )
