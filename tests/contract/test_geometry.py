"""`POST /v1/analysis/geometry`, and similarities that take hubs down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.numerics.hubness import Metric, occurrences
from service.numerics.seeds import generator
from service.numerics.vectors import wide_unit_rows
from service.settings import Settings
from tests.contract.problems import expect_problem
from tests.support.transforms import embed, fit, npy, slanted

PATH = "/v1/analysis/geometry"
TEXTS = ["A cat sleeps.", "A dog barks.", "Rain falls.", "The stock rose.", "I like tea."]


def describe(client: TestClient, **body: Any) -> dict[str, Any]:
    answer = client.post(PATH, json=body)
    assert answer.status_code == 200, answer.text
    reply: dict[str, Any] = answer.json()
    return reply


def test_points_on_a_circle(client: TestClient) -> None:
    turns = np.radians([0, 10, 20, 90])
    vectors = np.stack([np.cos(turns), np.sin(turns)], axis=1)
    reply = describe(client, vectors=vectors.tolist(), k=1, reductions=[], seed=4)
    assert set(reply["hubness"]) == {"raw"}
    raw = reply["hubness"]["raw"]
    assert (raw["robin_hood"], raw["antihub_share"], raw["max_occurrence"]) == (0.25, 0.25, 2)
    assert raw["skewness"] == 0
    assert raw["hubs"] == [{"index": 1, "occurrences": 2}]
    assert (reply["samples"], reply["dimensions"], reply["k"]) == (4, 2, 1)
    assert (reply["hubness_samples"], reply["seed"], reply["whitened"]) == (4, 4, None)
    cosines = vectors @ vectors.T
    assert reply["mean_cosine"] == pytest.approx((cosines.sum() - 4) / 12, abs=1e-6)
    variances = np.linalg.eigvalsh(np.cov(vectors.T, bias=True))
    shares = variances / variances.sum()
    assert reply["isoscore"] == pytest.approx(1 / (shares**2).sum() - 1, abs=1e-6)
    assert reply["effective_rank"] == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))


def test_whitening_takes_hubs_down(client: TestClient) -> None:
    random = np.random.default_rng(0)
    vectors = random.standard_normal((300, 40)) * np.geomspace(1, 0.05, 40) + 0.5
    every = ["centering", "whitening", "csls", "mutual_proximity", "local_scaling"]
    reply = describe(client, vectors=vectors.tolist(), reductions=every)
    assert list(reply["hubness"]) == ["raw", *every]
    raw = reply["hubness"]["raw"]
    for name in every:
        assert reply["hubness"][name]["robin_hood"] < raw["robin_hood"], name
    assert reply["whitened"]["isoscore"] > 0.8
    assert reply["isoscore"] < 0.5
    assert abs(reply["whitened"]["mean_cosine"]) < 0.02 < reply["mean_cosine"]
    assert reply["k"] == 10
    by_default = describe(client, vectors=vectors.tolist())
    assert set(by_default["hubness"]) == {"raw", *every} - {"centering"}


def test_texts_and_a_transform_set_beside(client: TestClient) -> None:
    made = fit(client, name="beside", texts=TEXTS, beta=1, gamma=1, dimensions=3)
    reply = describe(client, texts=TEXTS, transform="beside", k=2, reductions=["whitening"])
    assert reply["model"] == "all-MiniLM-L6-v2"
    assert reply["model_sha256"] == made["model_sha256"]
    raw = embed(client, TEXTS, normalize=False)
    same = describe(
        client, vectors=raw.tolist(), transform=made["id"], k=2, reductions=["whitening"]
    )
    assert same["isoscore"] == pytest.approx(reply["isoscore"], abs=1e-5)
    assert same["whitened"] == pytest.approx(reply["whitened"], abs=1e-4)
    answer = client.post(
        PATH, json={"texts": TEXTS, "transform": "beside", "model": "all-MiniLM-L6-v2-int8"}
    )
    expect_problem(answer, 409, "artefact_mismatch", "all-MiniLM-L6-v2-int8")


def test_few_vectors_have_fewer_neighbours(client: TestClient) -> None:
    assert describe(client, vectors=[[1, 0], [0, 1], [1, 2]])["k"] == 2
    answer = client.post(PATH, json={"vectors": [[1, 0], [0, 1], [1, 2]], "k": 3})
    problem = expect_problem(answer, 422, "dimension_mismatch", "3 neighbours")
    assert problem["errors"] == [{"pointer": "/k", "detail": "must be below 3"}]
    answer = client.post(PATH, json={"vectors": [[1, 0], [0, 1]]})
    expect_problem(answer, 422, "dimension_mismatch", "at least 3")
    answer = client.post(PATH, json={"vectors": [[1, 0], [0, 0], [1, 2]]})
    expect_problem(answer, 422, "invalid_input", "Vector 1")
    answer = client.post(PATH, json={"vectors": [[1, 2]] * 5})
    expect_problem(answer, 422, "invalid_input", "All 5 vectors are the same")


def test_a_vector_at_the_mean_of_all(client: TestClient) -> None:
    vectors = [[1, 0], [0, 1], [2, 2], [1, 1]]
    reply = describe(client, vectors=vectors)
    assert reply["whitened"] is None
    assert list(reply["left_out"]) == ["whitening"]
    assert "Vector 3 is all zeros" in reply["left_out"]["whitening"]
    assert set(reply["hubness"]) == {"raw", "csls", "mutual_proximity", "local_scaling"}
    line = describe(client, vectors=[[1], [2], [3]])
    assert "Vector 1" in line["left_out"]["whitening"]


def test_a_stream_beside_a_picture_is_a_stream(client: TestClient) -> None:
    answer = client.post(
        PATH,
        json={"vectors": slanted(60, 5).tolist(), "reductions": ["centering", "whitening", "csls"]},
        headers={"Accept": "text/event-stream, image/png"},
    )
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert "event: result" in answer.text
    assert "left_out" in answer.text


def test_one_direction_has_no_isotropy(client: TestClient) -> None:
    vectors = [[1, 1], [1, 1.2], [1.1, 1], [2, 2.1]]
    fit(client, name="line", vectors=vectors, dimensions=1)
    reply = describe(client, vectors=vectors, transform="line", reductions=["whitening"])
    assert reply["whitened"] is None
    assert reply["hubness"]["whitening"]["max_occurrence"] == 3


def test_it_comes_as_npy_and_goes_as_a_picture(client: TestClient) -> None:
    body = npy(slanted(60, 5))
    sent = {"Content-Type": "application/x-npy"}
    path = f'{PATH}?k=3&reductions=["csls"]&seed=1'
    reply = client.post(path, content=body, headers=sent).json()
    assert set(reply["hubness"]) == {"raw", "csls"}
    for media, start in (("image/png", b"\x89PNG"), ("image/svg+xml", b"<?xml")):
        drawn = client.post(path, content=body, headers=sent | {"Accept": media})
        assert drawn.headers["content-type"].startswith(media)
        assert drawn.content.startswith(start)


def test_of_many_vectors_some_are_drawn(models_dir: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SERVICE_WHITENING_MAX_HUBNESS_SAMPLES", "30")
        settings = Settings(
            models_dir=models_dir,
            data_location=str(tmp_path),
            preload_models=(),
            access_log=False,
            log_level="error",
        )
        app = create_app(settings)
    vectors = slanted(90, 4)
    body = {"vectors": vectors.tolist(), "k": 2, "seed": 11, "reductions": []}
    with TestClient(app) as client:
        reply = describe(client, **body)
        assert describe(client, **body) == reply
        other = describe(client, **body | {"seed": 12})
    assert (reply["samples"], reply["hubness_samples"]) == (90, 30)
    assert other["hubness"] != reply["hubness"]
    assert other["isoscore"] == reply["isoscore"]
    drawn = np.sort(generator(11, "whitening", "hubness").choice(90, size=30, replace=False))
    counts = occurrences(wide_unit_rows(vectors[drawn]), k=2, metrics=[], progress=lambda *_: None)[
        Metric.COSINE
    ]
    hubs = reply["hubness"]["raw"]["hubs"]
    assert hubs
    # they are named by their place in the request
    assert all(counts[drawn == hub["index"]] == [hub["occurrences"]] for hub in hubs)


@pytest.mark.parametrize("metric", ["csls", "mutual_proximity", "local_scaling"])
def test_similarities_depend_on_the_company(client: TestClient, metric: str) -> None:
    body = {"texts": TEXTS, "metric": metric, "k": 2}
    scores = np.array(client.post("/v1/similarity", json=body).json()["scores"])
    assert scores.shape == (5, 5)
    assert np.array_equal(scores, scores.T)
    # the same pool, given as pairs
    pairs = [[TEXTS[0], TEXTS[1]], [TEXTS[2], TEXTS[3]], [TEXTS[4], TEXTS[0]]]
    body = {"pairs": pairs, "metric": metric, "k": 2}
    reply = client.post("/v1/similarity", json=body).json()
    assert reply["metric"] == metric
    assert np.allclose(reply["scores"], [scores[0, 1], scores[2, 3], scores[4, 0]], atol=1e-5)
    vectors = embed(client, TEXTS).tolist()
    body = {"vectors": vectors, "metric": metric, "k": 2}
    assert np.allclose(client.post("/v1/similarity", json=body).json()["scores"], scores, atol=1e-5)
    alone = client.post("/v1/similarity", json={"texts": ["A cat."], "metric": metric})
    expect_problem(alone, 422, "invalid_input", metric, "Give at least 2")
    far = client.post("/v1/similarity", json={"texts": TEXTS, "metric": metric, "k": 5})
    expect_problem(far, 422, "dimension_mismatch", "5 neighbours")
