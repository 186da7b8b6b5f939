"""Logs: JSON lines with the request's identity, and never a word of its text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx

from tests.support.processes import ServiceProcess, start_service

MARKER = "Zauberwort-7531"


def events(running: ServiceProcess) -> list[dict[str, Any]]:
    """Return the log; what is no JSON must be the greeting for people."""
    lines = running.output().splitlines()
    others = [line for line in lines if line and not line.startswith("{")]
    assert len(others) == 3, others
    assert "Isotrope listens on" in others[0]
    return [json.loads(line) for line in lines if line.startswith("{")]


def provoke(url: str) -> dict[str, int]:
    """Send the marker in every place where a text may stand; return status by request id."""
    json_kind = {"Content-Type": "application/json"}
    bodies: dict[str, tuple[str, bytes, dict[str, str]]] = {
        "good": ("/v1/embeddings", f'{{"input": "{MARKER}"}}'.encode(), json_kind),
        "pairs": ("/v1/similarity", f'{{"pairs": [["{MARKER}", "b"]]}}'.encode(), json_kind),
        "malformed": ("/v1/embeddings", f'{{"input": "{MARKER}'.encode(), json_kind),
        "mixed": ("/v1/embeddings", f'{{"input": ["{MARKER}", 1]}}'.encode(), json_kind),
        "unknown": ("/v1/embeddings", f'{{"{MARKER}": "{MARKER}"}}'.encode(), json_kind),
        "model": ("/v1/embeddings", f'{{"input": "a", "model": "{MARKER}"}}'.encode(), json_kind),
        "long": (
            "/v1/embeddings",
            f'{{"input": "{MARKER * 300}", "truncate": "error"}}'.encode(),
            json_kind,
        ),
        "kind": ("/v1/embeddings", MARKER.encode(), {"Content-Type": f"text/{MARKER}"}),
        "late": (
            "/v1/embeddings",
            f'{{"input": "{MARKER} late"}}'.encode(),
            json_kind | {"X-Request-Timeout-Ms": "1"},
        ),
        "path": (f"/v1/{MARKER}?q={MARKER}", b"", {}),
    }
    found = {}
    for name, (path, body, headers) in bodies.items():
        sent = headers | {"X-Request-ID": f"id-{name}"}
        found[f"id-{name}"] = httpx.post(url + path, content=body, headers=sent).status_code
    return found


def test_each_request_is_a_line_without_its_text(models_dir: Path) -> None:
    environment = {"SERVICE_LOG_LEVEL": "debug"}
    with start_service(models_dir, environment) as running:
        statuses = provoke(running.url)
        assert running.stop() == 0
        logged = events(running)
        assert MARKER not in running.output()
    assert statuses["id-good"] == 200
    assert statuses["id-mixed"] == 422
    assert statuses["id-late"] in {200, 504}  # a quick machine answers within 1 ms
    for event in logged:
        assert {"event", "level", "timestamp"} <= set(event)
    requests = {event["request_id"]: event for event in logged if event["event"] == "request"}
    assert {name: event["status"] for name, event in requests.items()} == statuses
    good = requests["id-good"]
    assert set(good) == {
        *("request_id", "method", "operation", "status", "ms"),
        *("event", "level", "timestamp"),
    }
    assert (good["method"], good["operation"]) == ("POST", "create_embeddings")
    assert requests["id-path"]["operation"] == "unmatched"
    names = {event["event"] for event in logged}
    assert {"model_loaded", "service_ready"} <= names
    assert not [event for event in logged if event["level"] in {"error", "critical"}]


def test_the_access_log_can_be_off(models_dir: Path) -> None:
    with start_service(models_dir, {"SERVICE_ACCESS_LOG": "false"}) as running:
        provoke(running.url)
        assert running.stop() == 0
        assert "request" not in {event["event"] for event in events(running)}
        assert MARKER not in running.output()
