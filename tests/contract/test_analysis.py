"""`/v1/analysis/concentration`, `density` and `calibrations`."""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from tests.contract.problems import expect_problem

C, D, K = "/v1/analysis/concentration", "/v1/analysis/density", "/v1/analysis/calibrations"
SAMPLES = np.random.default_rng(0).beta(8, 2, size=800).tolist()
TEXTS = [f"The {thing} was {how}." for thing in ("room", "train", "soup", "film", "price")
         for how in ("fine", "late", "cold")]  # fmt: skip


def ask(client: TestClient, path: str, *, status: int = 200, **body: Any) -> dict[str, Any]:
    answer = client.post(path, json=body)
    assert answer.status_code == status, answer.text
    reply: dict[str, Any] = answer.json()
    return reply


@pytest.fixture
def kept(client: TestClient) -> Iterator[str]:
    """Return the id of a calibration of the texts' own scores; it is deleted again."""
    stored = ask(client, D, status=201, texts=TEXTS, name="kept", seed=1)["calibration"]
    yield stored["id"]
    client.delete(f"{K}/{stored['id']}")


def test_a_probability_row(client: TestClient) -> None:
    reply = ask(client, C, rows=[[0.7, 0.2, 0.05, 0.05]], kind="probabilities", renyi=[0.5])
    metrics = reply["metrics"]
    assert metrics["entropy"] == pytest.approx([0.8711332706])
    assert metrics["gini"] == pytest.approx([0.525])
    assert metrics["renyi_0.5"] == pytest.approx([1.0974993])
    assert reply["shape"] == [1, 4]
    assert reply["summary"]["gini"]["mean"] == pytest.approx(0.525)
    assert reply["noise_sensitivity"] is None


def test_a_row_of_zeros_has_no_sparsity(client: TestClient) -> None:
    reply = ask(client, C, rows=[[3, -1, 0, 2], [0, 0, 0, 0]])
    assert reply["metrics"]["s_1_2"] == [pytest.approx(0.8017837257), None]
    assert reply["summary"]["s_1_2"]["mean"] == pytest.approx(0.8017837257)
    nothing = ask(client, C, rows=[[0, 0]])
    assert nothing["summary"]["hoyer"] == {"mean": None, "p10": None, "p50": None, "p90": None}


def test_attention_is_summed_up_by_head(client: TestClient) -> None:
    logits = np.random.default_rng(1).normal(size=(2, 3, 5, 7))
    logits[..., 0, 3:] = -np.inf
    buffer = io.BytesIO()
    np.save(buffer, logits)
    answer = client.post(
        C,
        content=buffer.getvalue(),
        headers={"Content-Type": "application/x-npy"},
        params={"kind": "logits", "top": "1"},
    )
    reply = answer.json()
    entropy = np.array(reply["metrics"]["entropy"])
    assert entropy.shape == (2, 3, 5)
    assert np.array(reply["summary"]["entropy"]["mean"]) == pytest.approx(entropy.mean(axis=-1))
    assert np.shape(reply["summary"]["entropy"]["p90"]) == (2, 3)
    assert np.array(reply["metrics"]["max_entropy_reduction"]).min() > 0


def test_noise_sensitivity_of_attention(client: TestClient) -> None:
    reply = ask(client, C, rows=[[0, 0], [0, None]], kind="logits", values=[[1], [3]], noise=0.5)
    # two equal keys: p² |v - o|² is 1/4 · 1 twice; one key has no error
    assert reply["noise_sensitivity"] == pytest.approx([np.expm1(0.25) / 2, 0])
    heads = np.random.default_rng(2).normal(size=(2, 3, 4))
    per_head = np.random.default_rng(3).normal(size=(2, 4, 5))
    found = ask(client, C, rows=heads.tolist(), kind="logits", values=per_head.tolist())
    single = ask(client, C, rows=heads[1].tolist(), kind="logits", values=per_head[1].tolist())
    assert found["noise_sensitivity"][1] == pytest.approx(single["noise_sensitivity"])


def test_a_density_is_read(client: TestClient) -> None:
    reply = ask(client, D, samples=SAMPLES, domain="bounded", seed=3, points=[0.2, 0.83],
                quantiles=[0.5])  # fmt: skip
    assert (reply["seed"], reply["samples"], reply["calibration"]) == (3, 800, None)
    assert len(reply["coefficients"]["real"]) == reply["order"]
    assert reply["quantiles"][0]["at"] == pytest.approx(np.median(SAMPLES), abs=0.02)
    low, high = reply["points"]
    assert low["cdf"] < 0.01
    assert 0.4 < high["cdf"] < 0.7
    assert high["pdf"] > 2
    assert reply["modes"][0]["at"] == pytest.approx(0.88, abs=0.06)
    tried = {each["order"]: each["log_likelihood"] for each in reply["held_out"]}
    assert max(tried, key=lambda order: tried[order]) == reply["order"]
    again = ask(client, D, samples=SAMPLES, domain="bounded", seed=3, points=[0.2, 0.83],
                quantiles=[0.5])  # fmt: skip
    assert again == reply


def test_domains(client: TestClient) -> None:
    assert ask(client, D, samples=SAMPLES, order=4)["domain"] == "real"
    bounded = ask(client, D, samples=SAMPLES, order=4.0, bounds=[-1, 3])
    assert (bounded["domain"], bounded["location"], bounded["scale"]) == ("bounded", -1, 4)
    assert bounded["held_out"] == []


@pytest.mark.parametrize(
    ("kind", "start"), [("image/png", b"\x89PNG"), ("image/svg+xml", b"<?xml")]
)
def test_a_picture_by_accept(client: TestClient, kind: str, start: bytes) -> None:
    body = {"samples": SAMPLES, "domain": "bounded", "seed": 1}
    answers = [client.post(D, json=body, headers={"Accept": kind}) for _ in range(2)]
    assert answers[0].headers["content-type"].startswith(kind)
    assert answers[0].content.startswith(start)
    assert answers[0].content == answers[1].content


def test_scores_of_texts_are_calibrated(client: TestClient, kept: str) -> None:
    answer = client.get(f"{K}/{kept}").json()
    assert answer["id"] == kept
    assert answer["scored"]["model"] == "all-MiniLM-L6-v2"
    assert answer["scored"]["pairs"] == len(list(combinations(TEXTS, 2)))
    assert (answer["location"], answer["scale"]) == (-1, 2)
    matrix = np.array(client.post("/v1/similarity", json={"texts": TEXTS}).json()["scores"])
    scores = matrix[np.triu_indices(len(TEXTS), 1)]
    found = ask(client, f"{K}/{kept}/percentiles", scores=scores.tolist())
    empirical = 100 * (scores[:, np.newaxis] > scores).mean(axis=1)
    assert np.abs(np.array(found["percentiles"]) - empirical).max() < 12
    assert found["id"] == kept


def test_pairs_are_drawn_once_each_and_by_the_seed(client: TestClient) -> None:
    one, again, other = (
        ask(client, D, texts=TEXTS, pairs=20, order=6, seed=seed) for seed in (1, 1, 2)
    )
    assert one == again
    assert one["samples"] == 20
    assert one["coefficients"] != other["coefficients"]


def test_versions_of_a_name(client: TestClient) -> None:
    first = ask(client, D, status=201, samples=SAMPLES, order=4, name="versions")["calibration"]
    second = ask(client, D, status=201, samples=SAMPLES, order=6, name="versions")["calibration"]
    assert (first["id"], second["id"]) == ("versions@1", "versions@2")
    assert client.get(f"{K}/versions").json() == second
    listed = client.get(K).json()["calibrations"]
    assert second in listed
    assert client.get(K, params={"name": "versions"}).json()["calibrations"] == [first, second]
    assert client.delete(f"{K}/versions@2").status_code == 204
    assert client.get(f"{K}/versions").json() == first
    expect_problem(client.get(f"{K}/versions@2"), 404, "unknown_artefact", "versions@2")
    client.delete(f"{K}/versions")


def test_the_same_idempotency_key_makes_one_version(client: TestClient) -> None:
    body = {"samples": SAMPLES, "order": 4, "name": "once", "seed": 1}
    headers = {"Idempotency-Key": "calibration-once"}
    answers = [client.post(D, json=body, headers=headers).json() for _ in range(2)]
    assert answers[0] == answers[1]
    client.delete(f"{K}/once")


def test_progress_of_a_calibration(client: TestClient) -> None:
    body = {"texts": TEXTS, "seed": 1}
    events = client.post(D, json=body, headers={"Accept": "text/event-stream"}).text
    stages = [line for line in events.splitlines() if line.startswith('data: {"stage"')]
    assert any('"embed"' in line for line in stages)
    assert any('"order"' in line for line in stages)
    assert "event: result" in events


def test_similarity_says_percentiles_where_a_calibration_is_named(
    client: TestClient, kept: str
) -> None:
    plain = ask(client, "/v1/similarity", texts=TEXTS)
    assert (plain["percentiles"], plain["calibration"]) == (None, None)
    reply = ask(client, "/v1/similarity", texts=TEXTS, calibration="kept")
    assert reply["scores"] == plain["scores"]
    assert reply["calibration"] == kept
    found = ask(client, f"{K}/{kept}/percentiles", scores=reply["scores"][1])["percentiles"]
    assert reply["percentiles"][1] == pytest.approx(found, abs=1e-4)
    assert np.diag(reply["percentiles"]).min() > 99.9
    pairs = ask(client, "/v1/similarity", pairs=[TEXTS[:2]], calibration=kept)
    assert pairs["percentiles"] == pytest.approx([reply["percentiles"][0][1]], abs=1e-3)
    assert ask(client, "/v1/similarity", vectors=[[1, 0], [0, 1]], calibration=kept)["percentiles"]


def test_a_calibration_of_other_scores_is_refused(client: TestClient, kept: str) -> None:
    for other, part in (
        ({"metric": "csls"}, "metric 'cosine'"),
        ({"pooling": "cls"}, "pooling 'mean'"),
        ({"model": "multilingual-e5-small"}, "model_sha256"),
    ):
        body = {"texts": TEXTS, "calibration": kept, **other}
        expect_problem(client.post("/v1/similarity", json=body), 409, "artefact_mismatch", part)
    body = {"texts": TEXTS, "calibration": "nobody"}
    expect_problem(client.post("/v1/similarity", json=body), 404, "unknown_artefact", "nobody")


def test_scores_through_a_transform_have_a_calibration_of_their_own(client: TestClient) -> None:
    made = client.post(
        "/v1/whitening/transforms", json={"name": "halves", "texts": TEXTS, "dimensions": 8}
    ).json()["id"]
    stored = ask(client, D, status=201, texts=TEXTS, transform="halves", name="whitened", seed=1)
    calibration = stored["calibration"]
    assert calibration["scored"]["transform"] == made
    reply = ask(client, "/v1/similarity", texts=TEXTS, transform=made, calibration="whitened")
    above = np.array(reply["percentiles"])[np.triu_indices(len(TEXTS), 1)]
    assert 35 < above.mean() < 65
    body = {"texts": TEXTS, "calibration": "whitened"}
    expect_problem(client.post("/v1/similarity", json=body), 409, "artefact_mismatch", made)
    client.delete(f"{K}/whitened")
    client.delete(f"/v1/whitening/transforms/{made}")
