"""`/v1/models`, `/v1/info`, probes, metrics and the reference page."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from dirty_equals import IsInt, IsList, IsPartialDict, IsStr
from fastapi import APIRouter
from pydantic_settings import BaseSettings
from starlette.testclient import TestClient

from service import __version__, registry
from service.app import create_app
from service.registry import CAPABILITIES
from service.settings import Settings
from service.web.capability import Capability, Lent
from tests.contract.problems import expect_problem

DEFAULT = "all-MiniLM-L6-v2"
CARD = {
    "id": DEFAULT,
    "object": "model",
    "created": 0,
    "owned_by": IsStr,
    "kind": "encoder",
    "description": IsStr(min_length=10),
    "languages": ["en"],
    "licence": "Apache-2.0",
    "sha256": IsStr(regex="[0-9a-f]{64}"),
    "dimensions": 384,
    "max_tokens": 256,
    "pooling": "mean",
    "poolings": ["mean", "cls", "first_last", "embedding"],
    "prefix": "",
    "installed": True,
    "loaded": True,
    "provider": "cpu",
    "decoder": None,
}


def test_models_are_listed_as_openai_lists_them(client: TestClient) -> None:
    listed = client.get("/v1/models").json()
    assert set(listed) == {"object", "data"}
    assert listed["object"] == "list"
    cards = {card["id"]: card for card in listed["data"]}
    assert cards[DEFAULT] == CARD
    assert all(set(card) == set(CARD) for card in cards.values())
    assert {"multilingual-e5-small", "use-multilingual-3"} <= set(cards)
    assert cards["multilingual-e5-small"]["prefix"] == "query: "
    # which of the others are loaded by now depends on the tests before
    assert all((card["provider"] is None) != card["loaded"] for card in cards.values())


def test_one_model_is_as_in_the_list(client: TestClient) -> None:
    assert client.get(f"/v1/models/{DEFAULT}").json() == CARD


@pytest.mark.parametrize("name", ["nope", "..", "%2e%2e", "a" * 5000, "%00", "%ff"])
def test_unknown_models(client: TestClient, name: str) -> None:
    answer = client.get(f"/v1/models/{name}")
    if name in {"..", "%2e%2e"}:  # the client itself walks up to /v1/
        assert answer.status_code == 404
        return
    expect_problem(answer, 404, "unknown_model", DEFAULT)


def test_info_says_what_is_running(client: TestClient, data_location: Path) -> None:
    info = client.get("/v1/info").json()
    assert info == {
        "name": "isotrope",
        "version": __version__,
        "rooms": [room.name for room in CAPABILITIES],
        "default_model": DEFAULT,
        "providers": IsList(
            {"model": DEFAULT, "used": "cpu", "wished": "cpu", "as_wished": True}, length=...
        ),
        "threads": IsPartialDict(
            affinity=IsInt(ge=1), executors=IsInt(ge=1), threads_per_run=1, spinning=False
        ),
        "limits": {
            "max_body_bytes": 96 * 2**20,
            "max_batch_tokens": 256,
            "max_queued_tokens": 65_536,
            "request_deadline_ms": 30_000,
            "work_deadline_ms": 600_000,
        },
        "cache": {
            "memory": {"entries": IsInt, "bytes": IsInt, "limit_bytes": 64 * 2**20},
            "redis": None,
        },
        "storage": {
            "kind": "folder",
            "location": str(data_location),
            "state": "usable",
            "problem": None,
        },
    }


def test_cache_counts_in_info_grow_with_new_texts(client: TestClient) -> None:
    before = client.get("/v1/info").json()["cache"]["memory"]
    client.post("/v1/embeddings", json={"input": "a text that no other test embeds"})
    after = client.get("/v1/info").json()["cache"]["memory"]
    assert after["entries"] >= min(before["entries"] + 1, 2)
    assert 0 < after["bytes"] <= after["limit_bytes"]


def test_probes(client: TestClient) -> None:
    assert client.get("/livez").json() == {"status": "alive"}
    assert client.get("/readyz").json() == {
        "status": "ready",
        "provider": "cpu",
        "provider_wished": "cpu",
        "redis": "off",
    }
    started = client.get("/startupz").json()
    assert started["status"] == "started"
    assert DEFAULT in started["models"]


METRICS = {
    "isotrope_requests_total",
    "isotrope_request_seconds_bucket",
    "isotrope_requests_in_flight",
    "isotrope_queued_tokens",
    "isotrope_queued_texts",
    "isotrope_queue_seconds_bucket",
    "isotrope_run_seconds_bucket",
    "isotrope_batch_texts_bucket",
    "isotrope_batch_tokens_bucket",
    "isotrope_tokens_total",
    "isotrope_padding_tokens_total",
    "isotrope_cache_lookups_total",
    "isotrope_cache_memory_bytes",
    "isotrope_cache_writes_dropped_total",
    "isotrope_cache_flights_shared_total",
    "isotrope_redis_breaker_open",
    "isotrope_provider",
}


def samples(client: TestClient) -> dict[str, float]:
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    lines = [line for line in answer.text.splitlines() if not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def test_metrics_have_the_names_that_dashboards_use(client: TestClient) -> None:
    client.post("/v1/embeddings", json={"input": "for the metrics"})
    names = {re.split("[{ ]", key)[0] for key in samples(client)}
    assert names >= METRICS


def test_metrics_count_requests_by_operation_and_status(client: TestClient) -> None:
    keys = [
        'isotrope_requests_total{operation="create_embeddings",status="200"}',
        'isotrope_requests_total{operation="create_embeddings",status="422"}',
        'isotrope_requests_total{operation="unmatched",status="404"}',
    ]
    before = samples(client)
    client.post("/v1/embeddings", json={"input": "count me"})
    client.post("/v1/embeddings", json={})
    client.get("/nowhere/at/all")
    after = samples(client)
    assert [after[key] - before.get(key, 0) for key in keys] == [1, 1, 1]
    assert after["isotrope_requests_in_flight"] == 1  # the scrape itself
    assert not any("nowhere" in key for key in after), "paths of clients would grow without bound"


@pytest.mark.parametrize(
    ("path", "own"),
    [("/", ("/playground/", "/docs", "/openapi.json", "#")), ("/docs", "/docs/assets/")],
)
def test_pages_need_nothing_from_outside(
    client: TestClient, path: str, own: str | tuple[str, ...]
) -> None:
    page = client.get(path)
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assets = re.findall(r"""(?:src|href)=["']([^"']+)["']""", page.text)
    assert len(assets) >= 3
    for asset in assets:
        assert asset.startswith(own), asset
        assert client.get(asset).status_code == 200
    assert "http://" not in page.text
    assert "https://" not in page.text


class _Attic:
    """Be the pipeline of a room that only this test has."""


@asynccontextmanager
async def _open_attic(_: Lent, __: BaseSettings) -> AsyncIterator[_Attic]:
    yield _Attic()


def test_a_room_that_is_left_out_answers_404_and_is_not_documented(
    models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    router = APIRouter()
    router.add_api_route("/v1/attic", lambda: {"dust": True}, name="attic")
    attic = Capability("attic", "Old things.", router, BaseSettings, _open_attic)
    monkeypatch.setattr(registry, "CAPABILITIES", (*registry.CAPABILITIES, attic))
    settings = Settings(
        models_dir=models_dir, rooms=("attic",), log_level="error", access_log=False
    )
    with TestClient(create_app(settings)) as small:
        assert small.get("/v1/attic").json() == {"dust": True}
        assert small.get("/v1/info").json()["rooms"] == ["attic"]
        answer = small.post("/v1/embeddings", json={"input": "a"})
        expect_problem(answer, 404, "unknown_route", "/v1/embeddings")
        assert "/v1/embeddings" not in small.get("/openapi.json").json()["paths"]


def test_an_unknown_room_is_named() -> None:
    with pytest.raises(ValueError, match="'attics'; known are embeddings"):
        create_app(Settings(rooms=("embeddings", "attics")))


def test_a_wish_that_was_not_met_is_told_everywhere(models_dir: Path) -> None:
    settings = Settings(
        models_dir=models_dir, providers=("cuda", "cpu"), log_level="error", access_log=False
    )
    with TestClient(create_app(settings)) as degraded:
        ready = degraded.get("/readyz")
        assert ready.status_code == 200
        assert ready.json() == {
            "status": "degraded",
            "provider": "cpu",
            "provider_wished": "cuda",
            "redis": "off",
        }
        assert degraded.get("/v1/info").json()["providers"] == [
            {"model": DEFAULT, "used": "cpu", "wished": "cuda", "as_wished": False}
        ]
        key = f'isotrope_provider{{model="{DEFAULT}",provider="cpu",wished="false"}}'
        assert samples(degraded)[key] == 1
        answer = degraded.post("/v1/embeddings", json={"input": "a"})
        assert answer.headers["x-execution-provider"] == "cpu"


def test_info_of_a_process_without_memory_cache(models_dir: Path) -> None:
    settings = Settings(
        models_dir=models_dir, cache_memory_bytes=0, log_level="error", access_log=False
    )
    with TestClient(create_app(settings)) as bare:
        first: dict[str, Any] = bare.post("/v1/embeddings", json={"input": "once"}).json()
        again: dict[str, Any] = bare.post("/v1/embeddings", json={"input": "once"}).json()
        assert first == again
        assert bare.get("/v1/info").json()["cache"]["memory"]["entries"] == 0
