"""Corpora outlive the process that wrote them, and other processes see them."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path

import httpx
import numpy as np

from tests.support.processes import start_service

CORPORA = "/v1/geodesic/corpora"


def items(first: int, count: int) -> list[dict[str, object]]:
    draw = np.random.default_rng(first)
    return [{"id": str(first + at), "vector": draw.normal(size=8).tolist()} for at in range(count)]


def test_nothing_acknowledged_is_lost_when_the_process_is_killed(
    models_dir: Path, tmp_path: Path
) -> None:
    where = {"SERVICE_DATA_LOCATION": str(tmp_path / "data")}
    acknowledged = 0
    with start_service(models_dir, where) as service:
        made = httpx.post(
            f"{service.url}{CORPORA}", json={"name": "kept", "items": items(0, 300), "k": 5}
        )
        assert made.status_code == 201
        killer = threading.Timer(0.7, lambda: service.process.send_signal(signal.SIGKILL))
        killer.start()
        try:
            for first in range(300, 60_000, 10):
                reply = httpx.post(
                    f"{service.url}{CORPORA}/kept/items", json={"items": items(first, 10)}
                )
                assert reply.status_code == 200
                acknowledged = reply.json()["items"]
        except httpx.TransportError:
            pass
        killer.join()
    assert acknowledged > 300
    with start_service(models_dir, where) as service:
        found = httpx.get(f"{service.url}{CORPORA}/kept").json()
        # One more may be stored whose answer was not sent any more.
        assert found["items"] in {acknowledged, acknowledged + 10}
        last = items(acknowledged - 10, 10)[-1]
        ask = {"vector": last["vector"], "top": 1}
        hits = httpx.post(f"{service.url}{CORPORA}/kept/query", json=ask).json()["hits"]
        assert (hits[0]["id"], hits[0]["geodesic"]) == (str(acknowledged - 1), 0)


def test_replicas_share_a_folder(models_dir: Path, tmp_path: Path) -> None:
    where = {
        "SERVICE_DATA_LOCATION": str(tmp_path / "data"), "SERVICE_GEODESIC_REFRESH_MS": "50",
    }  # fmt: skip
    with start_service(models_dir, where) as one, start_service(models_dir, where) as other:
        body = {"name": "shared", "items": items(0, 50), "k": 4}
        assert httpx.post(f"{one.url}{CORPORA}", json=body).status_code == 201
        assert httpx.get(f"{other.url}{CORPORA}/shared").json()["items"] == 50
        more = httpx.post(f"{other.url}{CORPORA}/shared/items", json={"items": items(50, 5)})
        assert more.json()["version"] == 2
        time.sleep(0.1)  # the refresh
        ask = {"vector": items(50, 5)[4]["vector"], "top": 1}
        found = httpx.post(f"{one.url}{CORPORA}/shared/query", json=ask).json()
        assert (found["version"], found["hits"][0]["id"]) == (2, "54")
        assert httpx.delete(f"{one.url}{CORPORA}/shared").status_code == 204
        time.sleep(0.1)
        assert httpx.post(f"{other.url}{CORPORA}/shared/query", json=ask).status_code == 404
