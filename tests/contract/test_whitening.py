"""`/v1/whitening/transforms`: fit, describe, apply, update, tune, take away."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx2
import numpy as np
import orjson
import pytest
from starlette.testclient import TestClient

from service.numerics.dtypes import Matrix32
from tests.contract.problems import expect_problem
from tests.support.graphs import open_graph, run_graph
from tests.support.transforms import TRANSFORMS, apply, embed, fit, npy, read_npy, slanted

TEXTS = [
    *("A cat sleeps.", "A dog barks.", "Rain falls on the roof.", "The stock rose.", "I like tea."),
    *("He plays chess.", "A plane lands.", "Music plays.", "She reads a book.", "It is hot."),
    *("Birds sing.", "Fish swim.", "The bus is late.", "We cook rice.", "They built a house."),
]


@pytest.fixture(scope="module")
def bound(client: TestClient) -> dict[str, Any]:
    """Return a transform of the default model."""
    return fit(client, name="bound", texts=TEXTS, beta=1, gamma=0.5, dimensions=64)


@pytest.fixture(scope="module")
def points(client: TestClient) -> dict[str, Any]:
    """Return a transform of vectors of unknown origin."""
    vectors = slanted(300, 8).tolist()
    return fit(client, name="points", vectors=vectors, beta=1, gamma=1, shrinkage="none")


def test_a_fit_says_what_it_made(client: TestClient, bound: dict[str, Any]) -> None:
    assert bound["id"] == f"bound@{bound['version']}"
    assert (bound["name"], bound["samples"], bound["dimensions"]) == ("bound", 15, 64)
    assert (bound["beta"], bound["gamma"]) == (1, 0.5)
    assert bound["input_dimensions"] == 384
    assert bound["model"] == "all-MiniLM-L6-v2"
    assert bound["pooling"] == "mean"
    assert len(bound["model_sha256"]) == len(bound["sha256"]) == 64
    assert bound["shrinkage"] == "ledoit_wolf"
    assert 0 < bound["shrinkage_intensity"] <= 1
    spectrum = bound["spectrum"]
    values = np.array(spectrum["eigenvalues"])
    assert len(values) == 384
    assert (np.diff(values) <= 0).all()
    assert spectrum["largest"] == values[0]
    assert spectrum["kept_share"] == pytest.approx(values[:64].sum() / values.sum())
    assert client.get(f"{TRANSFORMS}/{bound['id']}").json() == bound


def test_defaults_turn_and_do_not_stretch(client: TestClient) -> None:
    made = fit(client, name="defaults", texts=TEXTS)
    assert (made["beta"], made["gamma"], made["dimensions"]) == (0, 0, 384)
    assert made["shrinkage"] == "ledoit_wolf"
    whole = embed(client, TEXTS)
    turned = embed(client, TEXTS, transform="defaults")
    assert np.abs(whole @ whole.T - turned @ turned.T).max() < 1e-6


def test_covariance_becomes_the_identity_as_served(
    client: TestClient, points: dict[str, Any]
) -> None:
    vectors = slanted(300, 8)
    found = apply(client, points["id"], vectors=vectors.tolist(), normalize=False)
    assert np.abs(np.cov(found.T, bias=True) - np.eye(8)).max() < 1e-3
    assert np.abs(found.mean(axis=0)).max() < 1e-3
    units = apply(client, points["id"], vectors=vectors.tolist())
    assert np.allclose(np.linalg.norm(units, axis=1), 1, atol=1e-6)
    assert np.allclose(units, found / np.linalg.norm(found, axis=1, keepdims=True), atol=1e-6)


def test_every_form_of_vectors_gives_the_same_bytes(
    client: TestClient, points: dict[str, Any]
) -> None:
    vectors = slanted(20, 8, seed=4)
    expected = apply(client, points["id"], vectors=vectors.tolist())
    coded = {
        "shape": [20, 8],
        "dtype": "float32",
        "data": base64.b64encode(vectors.tobytes()).decode(),
    }
    assert apply(client, points["id"], vectors=coded).tobytes() == expected.tobytes()
    path = f"{TRANSFORMS}/{points['id']}/apply"
    raw = client.post(
        path,
        content=npy(vectors),
        headers={"Content-Type": "application/x-npy", "Accept": "application/x-npy"},
    )
    assert raw.status_code == 200
    assert raw.headers["content-type"] == "application/x-npy"
    assert raw.headers["x-transform"] == points["id"]
    assert int(raw.headers["content-length"]) == len(raw.content)
    assert read_npy(raw).tobytes() == expected.tobytes()
    base = client.post(path, json={"vectors": coded, "encoding_format": "base64"}).json()
    rows = [np.frombuffer(base64.b64decode(row), "<f4") for row in base["vectors"]]
    assert np.stack(rows).tobytes() == expected.tobytes()
    assert (base["dimensions"], base["model"], base["transform"]) == (8, None, points["id"])


def test_a_whole_fit_in_npy_with_the_rest_in_the_query(client: TestClient) -> None:
    vectors = slanted(50, 6)
    answer = client.post(
        f"{TRANSFORMS}?name=7up&beta=1&gamma=0.5&dimensions=3&shrinkage=oas",
        content=npy(vectors),
        headers={"Content-Type": "application/x-npy"},
    )
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"{TRANSFORMS}/7up@1"
    as_json = fit(
        client, name="as_json", vectors=vectors.tolist(), beta=1, gamma=0.5, dimensions=3,
        shrinkage="oas",
    )  # fmt: skip
    assert answer.json()["sha256"] == as_json["sha256"]


def test_texts_and_embeddings_go_the_same_way(client: TestClient, bound: dict[str, Any]) -> None:
    applied = apply(client, bound["id"], texts=TEXTS[:4])
    embedded = client.post(
        "/v1/embeddings", json={"input": TEXTS[:4], "transform": "bound", "dimensions": 64}
    )
    assert embedded.json()["transform"] == bound["id"]
    assert embedded.headers["x-transform"] == bound["id"]
    rows = np.array([item["embedding"] for item in embedded.json()["data"]])
    assert np.abs(rows - applied).max() < 1e-6
    # raw vectors of the same pooling through the same door
    raw = embed(client, TEXTS[:4], normalize=False)
    assert np.abs(apply(client, bound["id"], vectors=raw.tolist()) - applied).max() < 1e-5
    shorter = embed(client, TEXTS[:4], transform=bound["id"], dimensions=8)
    expected = applied[:, :8] / np.linalg.norm(applied[:, :8], axis=1, keepdims=True)
    assert np.abs(shorter - expected).max() < 1e-5
    assert np.abs(apply(client, bound["id"], texts=TEXTS[:4], dimensions=8) - shorter).max() < 1e-6


def test_a_transform_brings_its_model_and_its_pooling(client: TestClient) -> None:
    made = fit(client, name="cls", texts=TEXTS, pooling="cls", gamma=1, beta=1)
    raw = embed(client, TEXTS[:3], pooling="cls", normalize=False)
    expected = apply(client, made["id"], vectors=raw.tolist())
    assert np.abs(embed(client, TEXTS[:3], transform="cls") - expected).max() < 1e-5
    assert np.abs(embed(client, TEXTS[:3], transform="cls", pooling="cls") - expected).max() < 1e-5
    answer = client.post(
        "/v1/embeddings", json={"input": "A cat.", "transform": "cls", "pooling": "mean"}
    )
    expect_problem(answer, 409, "artefact_mismatch", "'cls'", "'mean'")


def test_similarity_takes_a_transform(client: TestClient, bound: dict[str, Any]) -> None:
    rows = apply(client, bound["id"], texts=TEXTS[:5])
    answer = client.post("/v1/similarity", json={"texts": TEXTS[:5], "transform": "bound"}).json()
    assert answer["transform"] == bound["id"]
    assert np.abs(np.array(answer["scores"]) - rows @ rows.T).max() < 1e-5
    pairs = [[TEXTS[0], TEXTS[1]], [TEXTS[2], TEXTS[2]]]
    answer = client.post("/v1/similarity", json={"pairs": pairs, "transform": "bound"}).json()
    assert np.allclose(answer["scores"], [rows[0] @ rows[1], 1], atol=1e-5)
    raw = embed(client, TEXTS[:5], normalize=False)
    body = {"vectors": raw.tolist(), "transform": bound["id"], "metric": "csls", "k": 2}
    through = client.post("/v1/similarity", json=body).json()["scores"]
    body = {"vectors": rows.tolist(), "metric": "csls", "k": 2}
    assert np.allclose(
        through, client.post("/v1/similarity", json=body).json()["scores"], atol=1e-5
    )


def test_updates_in_parts_are_one_fit(client: TestClient) -> None:
    vectors = slanted(90, 5)
    chosen = {"beta": 0.5, "gamma": 1, "dimensions": 4}
    whole = fit(client, name="whole", vectors=vectors.tolist(), **chosen)
    part = fit(client, name="parts", vectors=vectors[:20].tolist(), **chosen)
    for start, end in ((20, 21), (21, 90)):
        answer = client.post(
            f"{TRANSFORMS}/{part['id']}/update", json={"vectors": vectors[start:end].tolist()}
        )
        assert answer.status_code == 201, answer.text
        part = answer.json()
    assert part["id"] == "parts@3"
    for field in ("samples", "beta", "gamma", "dimensions", "shrinkage"):
        assert part[field] == whole[field]
    assert part["shrinkage_intensity"] == pytest.approx(whole["shrinkage_intensity"], rel=1e-9)
    found, expected = (np.array(each["spectrum"]["eigenvalues"]) for each in (part, whole))
    assert np.abs(found - expected).max() <= 1e-7 * expected[0]
    rows = [apply(client, name, vectors=vectors.tolist()) for name in ("parts@3", "whole")]
    assert np.abs(rows[0] - rows[1]).max() < 1e-5
    assert client.get(f"{TRANSFORMS}/parts@1").json()["samples"] == 20


def test_texts_can_be_added(client: TestClient) -> None:
    fit(client, name="grows", texts=TEXTS[:9])
    answer = client.post(f"{TRANSFORMS}/grows/update", json={"texts": TEXTS[9:]})
    assert answer.status_code == 201, answer.text
    expected = fit(client, name="grown", texts=TEXTS)
    found = np.array(answer.json()["spectrum"]["eigenvalues"])
    assert np.abs(found - expected["spectrum"]["eigenvalues"]).max() < 1e-6
    assert answer.json()["samples"] == 15


def test_lists_names_and_deletions(client: TestClient) -> None:
    first = fit(client, name="listed", vectors=[[1, 0], [0, 1], [2, 2]])
    second = fit(client, name="listed", vectors=[[1, 0], [0, 1], [2, 3]])
    assert (first["version"], second["version"]) == (1, 2)
    ids = {each["id"] for each in client.get(TRANSFORMS).json()["transforms"]}
    assert "listed@2" in ids
    assert "listed@1" not in ids
    both = client.get(TRANSFORMS, params={"name": "listed"}).json()["transforms"]
    assert [each["id"] for each in both] == ["listed@1", "listed@2"]
    assert "eigenvalues" not in both[0]["spectrum"]
    assert client.get(f"{TRANSFORMS}/listed").json()["id"] == "listed@2"
    assert client.delete(f"{TRANSFORMS}/listed@2").status_code == 204
    assert client.get(f"{TRANSFORMS}/listed").json()["id"] == "listed@1"
    gone = client.post(f"{TRANSFORMS}/listed@2/apply", json={"vectors": [[1, 2]]})
    expect_problem(gone, 404, "unknown_artefact", "'listed@2' was deleted")
    expect_problem(client.delete(f"{TRANSFORMS}/listed@2"), 404, "unknown_artefact")
    third = fit(client, name="listed", vectors=[[1, 0], [0, 1], [2, 3]])
    assert third["version"] == 3


def test_a_repeated_request_makes_nothing_new(client: TestClient) -> None:
    body = {"name": "once", "vectors": [[1, 0], [0, 1], [2, 2]]}
    headers = {"Idempotency-Key": "fit-once"}
    first, again = (client.post(TRANSFORMS, json=body, headers=headers) for _ in range(2))
    assert first.status_code == again.status_code == 201
    assert first.json() == again.json()
    assert fit(client, **body)["version"] == 2
    other = client.post(TRANSFORMS, json=body | {"gamma": 1}, headers=headers)
    expect_problem(other, 409, "conflict", "fit-once")


def test_progress_is_streamed(client: TestClient) -> None:
    answer = client.post(
        TRANSFORMS,
        json={"name": "streamed", "texts": TEXTS},
        headers={"Accept": "text/event-stream"},
    )
    events = read_events(answer)
    assert [name for name, _ in events][-1] == "result"
    stages = {body["stage"] for name, body in events if name == "progress"}
    assert stages == {"embed", "fit"}
    assert events[-1][1]["id"] == "streamed@1"
    wrong = client.post(
        f"{TRANSFORMS}/streamed/update",
        json={"vectors": [[1, 2]]},
        headers={"Accept": "text/event-stream"},
    )
    assert read_events(wrong)[-1][0] == "error"
    assert read_events(wrong)[-1][1]["code"] == "dimension_mismatch"


def read_events(answer: httpx2.Response) -> list[tuple[str, dict[str, Any]]]:
    assert answer.headers["content-type"].startswith("text/event-stream")
    found = []
    for block in answer.text.strip().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        found.append((lines["event"], json.loads(lines["data"])))
    return found


def test_the_spectrum_is_drawn(client: TestClient, points: dict[str, Any]) -> None:
    path = f"{TRANSFORMS}/{points['id']}"
    png = client.get(path, headers={"Accept": "image/png"})
    assert png.headers["content-type"] == "image/png"
    assert png.content.startswith(b"\x89PNG")
    svg = client.get(path, headers={"Accept": "image/svg+xml"})
    assert b"<svg" in svg.content
    assert svg.content == client.get(path, headers={"Accept": "image/svg+xml"}).content


def test_the_encoder_can_be_taken_away(client: TestClient, bound: dict[str, Any]) -> None:
    answer = client.get(f"{TRANSFORMS}/{bound['id']}/onnx")
    assert answer.status_code == 200
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert f'filename="{bound["id"]}.onnx"' in answer.headers["content-disposition"]
    session = open_graph(answer.content)
    assert {each.name for each in session.get_inputs()} == {"input_ids", "attention_mask"}
    ids = [[101, 1037, 4937, 102], [101, 3712, 2003, 2000, 2147, 102]]
    found = run_graph(session, ids, "sentence_embedding")[0]
    inner = [row[1:-1] for row in ids]
    answer = client.post("/v1/embeddings", json={"input": inner, "transform": bound["id"]})
    served = [item["embedding"] for item in answer.json()["data"]]
    assert found.shape == (2, 64)
    assert np.abs(found - served).max() < 1e-5
    properties = session.get_modelmeta().custom_metadata_map
    assert properties["isotrope.transform"] == bound["id"]
    assert properties["isotrope.model_sha256"] == bound["model_sha256"]


class TestTuning:
    def pairs(self, vectors: Matrix32) -> list[dict[str, Any]]:
        """Label rows by their quiet half; the loud half says nothing."""
        quiet = vectors[:, :4] / np.linalg.norm(vectors[:, :4], axis=1, keepdims=True)
        return [
            {"a": row, "b": row + 1, "score": float(quiet[row] @ quiet[row + 1])}
            for row in range(0, len(vectors), 2)
        ]

    def vectors(self) -> Matrix32:
        random = np.random.default_rng(8)
        scales = np.array([0.2] * 4 + [4] * 4)
        return (random.standard_normal((300, 8)) * scales).astype(np.float32)

    def test_a_gain_makes_a_new_version(self, client: TestClient) -> None:
        vectors = self.vectors()
        fit(client, name="tuned", vectors=vectors.tolist(), dimensions=6, shrinkage="none")
        body = {"pairs": self.pairs(vectors), "vectors": vectors.tolist(), "seed": 3}
        reply = client.post(f"{TRANSFORMS}/tuned/tune", json=body).json()
        assert reply["verdict"] == "gain"
        low, high = reply["gain_interval"]
        assert 0 < low < reply["gain"] < high
        assert reply["gain"] == pytest.approx(reply["held_out"] - reply["baseline"])
        best = reply["best"]
        assert best in reply["table"]
        assert best["spearman"] == max(cell["spearman"] for cell in reply["table"])
        # 3 betas, 5 gammas, all 8 dimensions and the transform's own 6
        assert len(reply["table"]) == 30
        assert reply["id"] == "tuned@2"
        made = client.get(f"{TRANSFORMS}/tuned").json()
        assert {name: made[name] for name in ("beta", "gamma", "dimensions")} == {
            name: best[name] for name in ("beta", "gamma", "dimensions")
        }
        assert (made["samples"], made["shrinkage"]) == (300, "none")
        again = client.post(f"{TRANSFORMS}/tuned@1/tune", json=body).json()
        assert again | {"id": ""} == reply | {"id": ""}

    def test_a_repeated_request_makes_one_version(self, client: TestClient) -> None:
        vectors = self.vectors()
        fit(client, name="retuned", vectors=vectors.tolist(), shrinkage="none")
        body = {"pairs": self.pairs(vectors), "vectors": vectors.tolist()}
        path, headers = f"{TRANSFORMS}/retuned@1/tune", {"Idempotency-Key": "tune-once"}
        first, again = (client.post(path, json=body, headers=headers) for _ in range(2))
        assert first.json() == again.json()
        assert first.json()["id"] == "retuned@2"
        assert client.get(f"{TRANSFORMS}/retuned").json()["id"] == "retuned@2"

    def test_no_gain_leaves_things_as_they_are(self, client: TestClient) -> None:
        vectors = self.vectors()
        fit(client, name="untuned", vectors=vectors.tolist())
        units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        pairs = [
            {"a": row, "b": row + 1, "score": float(units[row] @ units[row + 1])}
            for row in range(0, 300, 2)
        ]
        body = {
            "pairs": pairs,
            "vectors": vectors.tolist(),
            "grid": {"beta": [1], "gamma": [1], "dimensions": [8]},
        }
        reply = client.post(f"{TRANSFORMS}/untuned/tune", json=body).json()
        assert reply["baseline"] == pytest.approx(1)
        assert reply["verdict"] == "no_gain"
        assert reply["id"] == "untuned@1"
        assert 0 <= reply["seed"] < 2**63

    def test_texts(self, client: TestClient, bound: dict[str, Any]) -> None:
        scores = [4.5, 4, 3, 2, 1, 0, 0.5, 1.5, 2.5, 3.5]
        pairs = [
            {"a": TEXTS[row], "b": TEXTS[row + 1], "score": score}
            for row, score in enumerate(scores)
        ]
        body = {"pairs": pairs, "folds": 2, "seed": 1, "grid": {"dimensions": [64, 8]}}
        answer = client.post(f"{TRANSFORMS}/{bound['id']}/tune", json=body)
        assert answer.status_code == 200, answer.text
        rows = [
            client.post("/v1/similarity", json={"pairs": [[pair["a"], pair["b"]]]}).json()
            for pair in pairs
        ]
        raw = np.array([row["scores"][0] for row in rows])
        ranks, labels = raw.argsort().argsort(), np.array(scores).argsort().argsort()
        expected = np.corrcoef(ranks, labels)[0, 1]
        assert answer.json()["baseline"] == pytest.approx(expected)


def test_the_same_request_gives_the_same_bytes(client: TestClient, bound: dict[str, Any]) -> None:
    body = orjson.dumps({"texts": TEXTS[:3]})
    path = f"{TRANSFORMS}/{bound['id']}/apply"
    sent = {"Content-Type": "application/json"}
    first, again = (client.post(path, content=body, headers=sent).content for _ in range(2))
    assert first == again
