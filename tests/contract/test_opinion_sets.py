"""`/v1/opinions/sets`: reviews that come one by one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings
from tests.contract.problems import expect_problem
from tests.support.reviews import HOTEL

SETS = "/v1/opinions/sets"
REVIEWS = [{"id": f"r{n}", "text": text, "rating": 3.0} for n, text in enumerate(HOTEL)]


@pytest.fixture
def name(client: TestClient) -> Iterator[str]:
    """Return the name of an empty set."""
    assert client.post(SETS, json={"name": "hotel"}).status_code == 201
    yield "hotel"
    client.delete(f"{SETS}/hotel")


def add(client: TestClient, name: str, reviews: list[dict[str, Any]]) -> dict[str, Any]:
    answer = client.post(f"{SETS}/{name}/reviews", json={"reviews": reviews})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def of_set(client: TestClient, name: str, **body: Any) -> dict[str, Any]:
    answer = client.post(f"{SETS}/{name}/summarize", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def at_once(client: TestClient, reviews: list[dict[str, Any]], **body: Any) -> dict[str, Any]:
    answer = client.post("/v1/opinions/summarize", json={"reviews": reviews, **body})
    found: dict[str, Any] = answer.json()
    return found


def test_a_set_says_what_its_reviews_say_at_once(client: TestClient, name: str) -> None:
    options = {"split_sentiment": True, "aspects": {"food": ["breakfast"]}}
    for step, review in enumerate(REVIEWS, 1):
        assert add(client, name, [review])["reviews"] == step
        if step in {1, 2, 7, 8}:
            expected = at_once(client, REVIEWS[:step], **options)
            assert of_set(client, name, **options) == expected


def test_replacing_and_removing_a_review_is_seen(client: TestClient, name: str) -> None:
    add(client, name, REVIEWS)
    of_set(client, name)
    changed = {"id": "r3", "text": "The sauna was closed. The room was clean."}
    assert add(client, name, [changed]) | {"model": ""} == {
        "id": name, "reviews": 8, "model": "", "language": None, "k": 5, "revision": 2,
    }  # fmt: skip
    now = [changed if review["id"] == "r3" else review for review in REVIEWS]
    assert of_set(client, name) == at_once(client, now)
    assert client.delete(f"{SETS}/{name}/reviews/r0").status_code == 204
    assert of_set(client, name) == at_once(client, now[1:])
    gone = client.delete(f"{SETS}/{name}/reviews/r0")
    expect_problem(gone, 404, "not_found", "r0")


def test_a_set_answers_after_a_restart(models_dir: Path, tmp_path: Path) -> None:
    settings = Settings(
        models_dir=models_dir, data_location=str(tmp_path), access_log=False, log_level="error"
    )
    with TestClient(create_app(settings)) as first:
        first.post(SETS, json={"name": "a", "reviews": REVIEWS[:5], "k": 4})
        add(first, "a", REVIEWS[5:])
        before = of_set(first, "a")
    with TestClient(create_app(settings)) as second:
        assert second.get(f"{SETS}/a").json()["revision"] == 2
        assert of_set(second, "a") == before
        assert before["k"] == 4


def test_sets_are_listed_described_and_deleted(client: TestClient, name: str) -> None:
    described = client.get(f"{SETS}/{name}").json()
    identity = {name: described[name] for name in ("id", "model", "language", "k")}
    assert identity in client.get(SETS).json()["sets"]
    assert described["model"] == "all-MiniLM-L6-v2"
    assert client.delete(f"{SETS}/{name}").status_code == 204
    for answer in (
        client.get(f"{SETS}/{name}"),
        client.delete(f"{SETS}/{name}"),
        client.post(f"{SETS}/{name}/summarize", json={}),
        client.post(f"{SETS}/{name}/reviews", json={"reviews": REVIEWS}),
        client.delete(f"{SETS}/{name}/reviews/a"),
    ):
        expect_problem(answer, 404, "unknown_artefact", name)


def test_a_request_that_comes_again_makes_nothing_new(client: TestClient) -> None:
    body = {"name": "again", "reviews": REVIEWS}
    headers = {"Idempotency-Key": "one"}
    first = client.post(SETS, json=body, headers=headers)
    second = client.post(SETS, json=body, headers=headers)
    assert first.json() == second.json()
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["revision"] == 1
    expect_problem(client.post(SETS, json=body), 409, "conflict", "again")
    client.delete(f"{SETS}/again")


def test_an_empty_set_cannot_be_summarized(client: TestClient, name: str) -> None:
    answer = client.post(f"{SETS}/{name}/summarize", json={})
    expect_problem(answer, 422, "invalid_input", "has no reviews")


@pytest.mark.parametrize("wrong", ["", "UPPER", "a b", "../up", "a" * 64, "-a"])
def test_a_name_that_cannot_be_one_is_refused(client: TestClient, wrong: str) -> None:
    expect_problem(client.post(SETS, json={"name": wrong}), 422, "invalid_input")


@pytest.mark.parametrize("name", ["UPPER", "..", "a%20b", "a%00b"])
def test_a_path_that_cannot_be_a_set_is_unknown(client: TestClient, name: str) -> None:
    assert client.get(f"{SETS}/{name}").status_code in {404, 422}


def test_a_set_has_limits_too(client: TestClient, name: str) -> None:
    many = [{"id": str(number), "text": "Good."} for number in range(5001)]
    answer = client.post(f"{SETS}/{name}/reviews", json={"reviews": many})
    expect_problem(answer, 413, "too_many_items", "5001 reviews")
    add(client, name, many[:5000])
    answer = client.post(f"{SETS}/{name}/reviews", json={"reviews": many[5000:]})
    expect_problem(answer, 413, "too_many_items", "5001 reviews")
    twice = client.post(f"{SETS}/{name}/reviews", json={"reviews": [REVIEWS[0], REVIEWS[0]]})
    expect_problem(twice, 422, "invalid_input", "'r0'")


def test_a_set_is_shown_as_a_page(client: TestClient, name: str) -> None:
    add(client, name, REVIEWS)
    answer = client.post(f"{SETS}/{name}/summarize", json={}, headers={"Accept": "text/html"})
    assert answer.headers["content-type"].startswith("text/html")
    assert "<details" in answer.text
