"""The answer does not depend on where it came from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr
from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings
from tests.support.redis_servers import binaries, running

# One text each: with several, how they fall into batches could move the last bit of a number.
SINGLES: list[tuple[str, dict[str, Any]]] = [
    ("/v1/embeddings", {"input": "A man is playing a guitar."}),
    ("/v1/embeddings", {"input": "A man is playing a guitar.", "encoding_format": "base64"}),
    ("/v1/embeddings", {"input": "A man is playing a guitar.", "pooling": "cls"}),
    ("/v1/embeddings", {"input": "A man is playing a guitar.", "normalize": False}),
    ("/v1/embeddings", {"input": "A man is playing a guitar.", "dimensions": 31}),
    ("/v1/embeddings", {"input": "long " * 400}),
    ("/v1/embeddings", {"input": "long " * 400, "truncate": "left"}),
    ("/v1/embeddings", {"input": [7592, 2088]}),
    ("/v1/embeddings", {"input": ""}),
    ("/v1/similarity", {"texts": ["a\x00b"]}),
]
MANY = {"input": [f"text {'and more ' * (number % 9)}{number}" for number in range(50)]}


@contextmanager
def service(models_dir: Path, *, memory: int, redis_url: str | None = None) -> Iterator[TestClient]:
    settings = Settings(
        models_dir=models_dir,
        cache_memory_bytes=memory,
        redis_url=None if redis_url is None else SecretStr(redis_url),
        redis_timeout_ms=5000,
        access_log=False,
        log_level="error",
    )
    with TestClient(create_app(settings)) as client:
        yield client


def ask(client: TestClient) -> list[bytes]:
    answers = [client.post(path, json=body) for path, body in SINGLES]
    assert {answer.status_code for answer in answers} == {200}
    return [answer.content for answer in answers]


def vectors(client: TestClient) -> np.ndarray[Any, Any]:
    data = client.post("/v1/embeddings", json=MANY).json()["data"]
    return np.array([item["embedding"] for item in data], dtype=np.float32)


def hits(client: TestClient, tier: str) -> float:
    name = f'isotrope_cache_lookups_total{{outcome="hit",tier="{tier}"}} '
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))


@pytest.mark.parametrize("kind", sorted(binaries())[:1])
def test_answers_are_the_same_bytes_from_every_tier(models_dir: Path, kind: str) -> None:
    with service(models_dir, memory=0) as uncached:
        expected = ask(uncached)
        assert ask(uncached) == expected
        computed = vectors(uncached)
    with service(models_dir, memory=2**23) as cached:
        assert ask(cached) == expected
        assert ask(cached) == expected
        assert hits(cached, "memory") >= len(SINGLES)
        first = vectors(cached)
        assert np.abs(first - computed).max() <= 1e-5
        assert vectors(cached).tobytes() == first.tobytes()
    with running(kind) as server:
        with service(models_dir, memory=2**23, redis_url=server.url) as replica:
            assert ask(replica) == expected
            first = vectors(replica)
        with service(models_dir, memory=0, redis_url=server.url) as other:
            assert ask(other) == expected
            assert vectors(other).tobytes() == first.tobytes()
            assert hits(other, "redis") == len(SINGLES) + len(MANY["input"])
            assert other.get("/readyz").json()["redis"] == "connected"
