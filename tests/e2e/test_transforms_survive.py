"""Transforms outlive the process: restarts, kills in mid-write, two services on one folder."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.support.processes import start_service
from tests.support.transforms import TRANSFORMS, fit, npy, slanted

TEXTS = ["A cat sleeps.", "A dog barks.", "Rain falls.", "The stock rose.", "I like tea."]
NPY = "application/x-npy"
BOTH_WAYS = {"Content-Type": NPY, "Accept": NPY}
VECTORS = slanted(40, 24, seed=6)


def settings(data: Path) -> dict[str, str]:
    return {
        "SERVICE_DATA_LOCATION": str(data),
        "SERVICE_ROOMS": "embeddings,whitening",
        "SERVICE_ACCESS_LOG": "false",
    }


def answers(client: httpx.Client) -> list[bytes]:
    """Return what a transform of texts, one of vectors and the embeddings say, to the bit."""
    sent = {"texts": TEXTS}
    return [
        client.post(f"{TRANSFORMS}/points/apply", content=npy(VECTORS), headers=BOTH_WAYS).content,
        client.post(f"{TRANSFORMS}/words/apply", json=sent).content,
        client.post("/v1/embeddings", json={"input": TEXTS, "transform": "words@1"}).content,
        client.get(f"{TRANSFORMS}/points").content,
        client.get(TRANSFORMS).content,
    ]


def test_a_killed_service_answers_the_same_to_the_bit(models_dir: Path, tmp_path: Path) -> None:
    with start_service(models_dir, environment=settings(tmp_path)) as service:
        with httpx.Client(base_url=service.url, timeout=30) as client:
            fit(client, name="points", vectors=VECTORS.tolist(), beta=1, gamma=1)
            fit(client, name="words", texts=TEXTS, beta=1, gamma=0.5, dimensions=16)
            before = answers(client)
        service.process.kill()
        service.process.wait()
    with (
        start_service(models_dir, environment=settings(tmp_path)) as service,
        httpx.Client(base_url=service.url, timeout=30) as client,
    ):
        assert answers(client) == before
        more = client.post(f"{TRANSFORMS}/points/update", json={"vectors": VECTORS[:5].tolist()})
        assert more.json()["id"] == "points@2"
        assert more.json()["samples"] == 45


def test_a_kill_in_mid_write_leaves_nothing_half_written(models_dir: Path, tmp_path: Path) -> None:
    body = npy(slanted(1000, 200, seed=1))
    promised: list[str] = []

    def keep_fitting(url: str) -> None:
        with httpx.Client(base_url=url, timeout=10) as client:
            while True:
                try:
                    answer = client.post(
                        f"{TRANSFORMS}?name=busy", content=body, headers={"Content-Type": NPY}
                    )
                except httpx.HTTPError:
                    return
                promised.append(answer.json()["id"])

    with start_service(models_dir, environment=settings(tmp_path)) as service:
        writers = [threading.Thread(target=keep_fitting, args=(service.url,)) for _ in range(3)]
        for writer in writers:
            writer.start()
        service_has_answered(promised, writers)
        threading.Event().wait(0.2)
        service.process.kill()
        for writer in writers:
            writer.join()
    with (
        start_service(models_dir, environment=settings(tmp_path)) as service,
        httpx.Client(base_url=service.url, timeout=30) as client,
    ):
        found = client.get(TRANSFORMS, params={"name": "busy"}).json()["transforms"]
        there = {each["id"] for each in found}
        assert there >= set(promised)
        one = [list(map(float, row)) for row in slanted(1, 200, seed=2)]
        replies = [
            client.post(f"{TRANSFORMS}/{name}/apply", json={"vectors": one}) for name in there
        ]
        assert {reply.status_code for reply in replies} == {200}
        assert len({str(reply.json()["vectors"]) for reply in replies}) == 1


def service_has_answered(promised: list[str], writers: list[threading.Thread]) -> None:
    for _ in range(400):
        if promised:
            return
        assert any(writer.is_alive() for writer in writers)
        threading.Event().wait(0.05)
    pytest.fail("no fit was answered")


def test_two_services_on_one_folder_lose_nothing(models_dir: Path, tmp_path: Path) -> None:
    with (
        start_service(models_dir, environment=settings(tmp_path)) as one,
        start_service(models_dir, environment=settings(tmp_path)) as other,
        httpx.Client(base_url=one.url, timeout=30) as first,
        httpx.Client(base_url=other.url, timeout=30) as second,
    ):

        def write(number: int) -> tuple[str, dict[str, Any]]:
            client = (first, second)[number % 2]
            made = fit(client, name="shared", vectors=slanted(30, 4, seed=number).tolist())
            return made["id"], made

        with ThreadPoolExecutor(6) as pool:
            made = dict(pool.map(write, range(16)))
        assert sorted(made) == sorted(f"shared@{number}" for number in range(1, 17))
        for name, card in made.items():
            for client in (first, second):
                assert client.get(f"{TRANSFORMS}/{name}").json() == card
        vectors = {"vectors": slanted(3, 4, seed=99).tolist()}
        left, right = (
            np.array(client.post(f"{TRANSFORMS}/shared@7/apply", json=vectors).json()["vectors"])
            for client in (first, second)
        )
        assert np.array_equal(left, right)
        # what one deletes, the other knows at once
        assert first.delete(f"{TRANSFORMS}/shared@7").status_code == 204
        gone = second.post(f"{TRANSFORMS}/shared@7/apply", json=vectors)
        assert gone.status_code == 404
