"""Headers in and out: identity, deadline, timing, keys, cross-origin."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings
from tests.contract.problems import expect_problem

KEYS = ("first-key", "зweite")
ORIGIN = "https://page.example"
GUARDED = ["/v1/models", "/v1/info", "/docs", "/openapi.json", "/nowhere", "/docs/assets/none"]
OPEN = ["/livez", "/readyz", "/startupz", "/metrics"]


@pytest.fixture(scope="module")
def guarded(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """Return a client of a service with keys and one allowed origin."""
    file = tmp_path_factory.mktemp("keys") / "keys"
    file.write_text(f"# people\n{KEYS[0]}\n\n  {KEYS[1]}  \n", encoding="utf-8")
    settings = Settings(
        models_dir=models_dir,
        api_keys_file=file,
        cors_origins=(ORIGIN,),
        access_log=False,
        log_level="error",
    )
    with TestClient(create_app(settings), raise_server_exceptions=False) as opened:
        yield opened


@pytest.mark.parametrize("given", ["a", "abc-123", "!~", "x" * 128])
def test_a_request_id_is_echoed(client: TestClient, given: str) -> None:
    answer = client.get("/livez", headers={"X-Request-ID": given})
    assert answer.headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "a b", "a\tb", "\x01", "x" * 129, "é", "a\x7f"])
def test_a_request_id_of_another_form_is_replaced(client: TestClient, given: str) -> None:
    sent = {"X-Request-ID": given.encode("latin-1")}
    answer = client.get("/livez", headers=sent)  # type: ignore[arg-type]
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])


def test_every_request_has_an_id_of_its_own(client: TestClient) -> None:
    seen = {client.get("/livez").headers["x-request-id"] for _ in range(5)}
    assert len(seen) == 5


def test_a_short_deadline_is_a_504(client: TestClient) -> None:
    texts = [f"never embedded before {number} " * 40 for number in range(200)]
    answer = client.post(
        "/v1/embeddings", json={"input": texts}, headers={"X-Request-Timeout-Ms": "1"}
    )
    problem = expect_problem(answer, 504, "deadline_exceeded", "X-Request-Timeout-Ms")
    assert problem["retryable"] is True


def test_a_long_deadline_changes_nothing(client: TestClient) -> None:
    headers = {"X-Request-Timeout-Ms": "999999999"}
    assert client.post("/v1/embeddings", json={"input": "a"}, headers=headers).status_code == 200


def test_server_timing_names_the_stages(client: TestClient) -> None:
    answer = client.post("/v1/embeddings", json={"input": "timed for the first time"})
    stages = dict(re.findall(r"(\w+);dur=([0-9.]+)", answer.headers["server-timing"]))
    assert set(stages) == {"cache", "tokenize", "queue", "infer", "total"}
    assert float(stages["infer"]) > 0
    assert float(stages["total"]) >= float(stages["infer"])
    again = client.post("/v1/embeddings", json={"input": "timed for the first time"})
    stages = dict(re.findall(r"(\w+);dur=([0-9.]+)", again.headers["server-timing"]))
    assert set(stages) == {"cache", "total"}


@pytest.mark.parametrize("key", KEYS)
def test_each_key_opens(guarded: TestClient, key: str) -> None:
    for scheme in ("Bearer", "bearer"):
        sent = {"Authorization": f"{scheme} {key}".encode()}
        assert guarded.get("/v1/models", headers=sent).status_code == 200  # type: ignore[arg-type]


@pytest.mark.parametrize("path", GUARDED)
@pytest.mark.parametrize(
    "sent",
    [None, "Bearer wrong", "Bearer", "Bearer ", "Basic first-key", "first-key", "Bearer # people"],
)
def test_without_a_key_nothing_is_told(guarded: TestClient, path: str, sent: str | None) -> None:
    answer = guarded.get(path, headers={} if sent is None else {"Authorization": sent})
    expect_problem(answer, 401, "unauthorized", "Authorization: Bearer")
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_body_without_a_key_is_not_even_parsed(guarded: TestClient) -> None:
    answer = guarded.post("/v1/embeddings", content=b"{", headers={"Content-Type": "a/b"})
    expect_problem(answer, 401, "unauthorized")


@pytest.mark.parametrize("path", OPEN)
def test_probes_need_no_key(guarded: TestClient, path: str) -> None:
    assert guarded.get(path).status_code == 200


@pytest.mark.parametrize("text", [None, "", "\n# only a comment\n  \n"])
def test_a_key_file_without_keys_refuses_to_start(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "keys"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ValueError, match="SERVICE_API_KEYS_FILE"):
        create_app(Settings(api_keys_file=file))


def test_a_page_of_an_allowed_origin_may_ask(guarded: TestClient) -> None:
    preflight = guarded.options(
        "/v1/embeddings",
        headers={
            "Origin": ORIGIN,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization, content-type",
        },
    )
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == ORIGIN
    headers = {"Origin": ORIGIN, "Authorization": f"Bearer {KEYS[0]}"}
    answer = guarded.get("/v1/models", headers=headers)
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    shown = answer.headers["access-control-expose-headers"]
    for name in ("X-Request-ID", "Server-Timing", "Retry-After", "X-Model", "X-Truncated-Inputs"):
        assert name in shown
    refused = guarded.get("/v1/models", headers={"Origin": ORIGIN})
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == ORIGIN, "the page must see the reason"


def test_other_origins_and_other_services_allow_nothing(
    guarded: TestClient, client: TestClient
) -> None:
    headers = {"Origin": "https://other.example", "Authorization": f"Bearer {KEYS[0]}"}
    assert "access-control-allow-origin" not in guarded.get("/v1/models", headers=headers).headers
    headers = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
    answer = client.options("/v1/embeddings", headers=headers)
    assert answer.status_code == 405
    assert "access-control-allow-origin" not in answer.headers


def test_a_dead_redis_is_told_and_costs_no_answer(models_dir: Path) -> None:
    settings = Settings(
        models_dir=models_dir,
        redis_url=SecretStr("redis://:hidden@127.0.0.1:9"),
        access_log=False,
        log_level="critical",
    )
    with TestClient(create_app(settings)) as lonely:
        for number in range(8):
            body = {"input": f"without redis {number}"}
            assert lonely.post("/v1/embeddings", json=body).status_code == 200
        assert lonely.get("/readyz").json()["redis"] == "bypassed"
        info = lonely.get("/v1/info")
        assert info.json()["cache"]["redis"]["breaker"] == "open"
        assert "hidden" not in info.text
