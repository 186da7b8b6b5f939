"""SIGTERM: readiness turns, what was accepted finishes, the exit code is 0."""

from __future__ import annotations

import signal
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.e2e.test_raw_http import metric, wait_until
from tests.support.processes import ServiceProcess, start_service

CLIENTS = 8
TEXTS = 20
FAR_SECONDS = 60.0


def send(url: str, client: int, texts: int) -> httpx.Response:
    body = {"input": [f"{client} {number} " + "many words " * 60 for number in range(texts)]}
    return httpx.post(f"{url}/v1/embeddings", json=body, timeout=FAR_SECONDS)


def wait_for_requests(running: ServiceProcess, count: int) -> None:
    wait_until(lambda: metric(running, "isotrope_requests_in_flight") == count + 1)
    wait_until(lambda: metric(running, 'isotrope_queued_texts{model="all-MiniLM-L6-v2"}') > 0)


def test_accepted_requests_finish(models_dir: Path) -> None:
    environment = {"SERVICE_DRAIN_SECONDS": "1.5", "SERVICE_ACCESS_LOG": "false"}
    with (
        start_service(models_dir, environment) as running,
        ThreadPoolExecutor(CLIENTS) as pool,
        httpx.Client(base_url=running.url, timeout=FAR_SECONDS) as steady,
    ):
        assert steady.get("/readyz").status_code == 200
        waiting: list[Future[httpx.Response]] = [
            pool.submit(send, running.url, client, TEXTS) for client in range(CLIENTS)
        ]
        wait_for_requests(running, CLIENTS)
        running.process.send_signal(signal.SIGTERM)
        wait_until(lambda: steady.get("/readyz").status_code == 503)
        draining = steady.get("/readyz")
        assert draining.json()["code"] == "draining"
        assert draining.headers["content-type"] == "application/problem+json"
        assert steady.get("/livez").status_code == 200
        late = send(running.url, CLIENTS, 1)
        assert late.status_code == 200
        answers = [future.result() for future in waiting]
        assert [answer.status_code for answer in answers] == [200] * CLIENTS
        assert all(len(answer.json()["data"]) == TEXTS for answer in answers)
        assert running.process.wait(FAR_SECONDS) == 0
        assert '"level":"error"' not in running.output()
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{running.url}/livez")


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_at_once(models_dir: Path, first: signal.Signals) -> None:
    environment = {"SERVICE_DRAIN_SECONDS": "60", "SERVICE_REQUEST_DEADLINE_MS": "600000"}
    with start_service(models_dir, environment) as running, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(send, running.url, 0, 2000)
        wait_for_requests(running, 1)
        running.process.send_signal(first)
        wait_until(lambda: '"service_draining"' in running.output())
        running.process.send_signal(signal.SIGTERM)
        running.process.wait(FAR_SECONDS)
        if waiting.exception() is None:  # it was told, rather than cut off
            assert waiting.result().status_code == 500, "its work was waited for"


def test_an_idle_service_stops_with_0_and_leaves_idle_connections(models_dir: Path) -> None:
    with start_service(models_dir) as running, httpx.Client(base_url=running.url) as steady:
        assert steady.get("/livez").status_code == 200  # stays open
        assert running.stop() == 0
