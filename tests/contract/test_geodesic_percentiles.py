"""Percentiles on queries of a corpus: those that `/v1/similarity` gives for the same pairs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from tests.contract.problems import expect_problem

TEXTS = [
    "The battery lasts two days.",
    "Battery life is poor.",
    "The beach was near the hotel.",
    "Breakfast was cold.",
    "It charges fast.",
    "The room was clean.",
]
QUERY = "How long does the battery last?"
CORPORA = "/v1/geodesic/corpora"


@pytest.fixture(scope="module")
def corpus(client: TestClient) -> Iterator[str]:
    """Return a corpus of the texts, and make a calibration of their likenesses beside it."""
    items = [{"id": str(at), "text": text} for at, text in enumerate(TEXTS)]
    made = client.post(CORPORA, json={"name": "percentiles", "items": items, "k": 3})
    assert made.status_code == 201, made.text
    law = client.post("/v1/analysis/density", json={"name": "likeness", "texts": TEXTS})
    assert law.status_code == 201, law.text
    yield "percentiles"
    client.delete(f"{CORPORA}/percentiles")


def query(client: TestClient, corpus: str, calibration: str) -> dict[str, object]:
    body = {"text": QUERY, "top": len(TEXTS), "calibration": calibration}
    answer = client.post(f"{CORPORA}/{corpus}/query", json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_hits_carry_the_percentile_of_their_likeness(client: TestClient, corpus: str) -> None:
    found = query(client, corpus, "likeness")
    assert str(found["calibration"]).startswith("likeness@")
    pairs = [[QUERY, hit["text"]] for hit in found["hits"]]  # type: ignore[attr-defined]
    told = client.post("/v1/similarity", json={"pairs": pairs, "calibration": "likeness"}).json()
    given = [hit["percentile"] for hit in found["hits"]]  # type: ignore[attr-defined]
    assert given == pytest.approx(told["percentiles"], abs=0.01)
    assert max(given) - min(given) > 1


def test_without_a_calibration_there_is_none(client: TestClient, corpus: str) -> None:
    found = client.post(f"{CORPORA}/{corpus}/query", json={"text": QUERY}).json()
    assert found["calibration"] is None
    assert {hit["percentile"] for hit in found["hits"]} == {None}


def test_an_unknown_calibration_is_not_found(client: TestClient, corpus: str) -> None:
    body = {"text": QUERY, "calibration": "nobodys"}
    answer = client.post(f"{CORPORA}/{corpus}/query", json=body)
    expect_problem(answer, 404, "unknown_artefact", "nobodys")


def test_a_calibration_of_cosines_fits_no_straight_lines(client: TestClient, corpus: str) -> None:
    items = [{"id": "x", "text": "A cat."}, {"id": "y", "text": "A dog."}]
    made = {"name": "straight", "items": items, "metric": "euclidean"}
    assert client.post(CORPORA, json=made).status_code == 201
    body = {"text": QUERY, "calibration": "likeness"}
    answer = client.post(f"{CORPORA}/straight/query", json=body)
    expect_problem(answer, 409, "artefact_mismatch", "'cosine'", "'euclidean'")
