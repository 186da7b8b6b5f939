"""Bring the shipped compose stack up once for all tests of this folder, and take it down."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.containers.engine import ROOT, Engine, make_standins, running_engine

PROJECT = "isotrope-test"
IMAGE = "isotrope:test"


@dataclass(frozen=True, slots=True)
class Stack:
    """Hold a running stack.

    Attributes:
        engine: what runs it.
        url: the published port.
        env: variables that the compose file was read with.
        seconds: from `up` to the first embedding.
    """

    engine: Engine
    url: str
    env: dict[str, str]
    seconds: float

    def compose(self, *arguments: str) -> str:
        """Run one compose command on this stack."""
        return self.engine.compose_up(PROJECT, *arguments, env=self.env)

    def containers(self, service: str) -> list[str]:
        """Return the ids of the running containers of one service."""
        return self.compose("ps", "-q", service).split()


@pytest.fixture(scope="session")
def cache() -> Path:
    """Return the folder that keeps the base image and the engine's layers between runs."""
    given = os.environ.get("ISOTROPE_CONTAINER_CACHE")
    folder = Path(given) if given else ROOT / ".cache" / "containers"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def engine(cache: Path) -> Iterator[Engine]:
    """Yield a Docker engine with the stand-in images."""
    with running_engine(cache) as started:
        make_standins(started, cache)
        yield started


@pytest.fixture(scope="session")
def image(engine: Engine) -> str:
    """Build the shipped Dockerfile as it is, and return the image's name."""
    engine.docker(*("build", "--network", "host", "-f", "docker/Dockerfile.cpu", "-t", IMAGE, "."))
    return IMAGE


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def stack(engine: Engine, image: str) -> Iterator[Stack]:
    """Yield the stack with two replicas, after its first embedding."""
    port = _free_port()
    env = {"SERVICE_IMAGE": image, "PORT": str(port), "SERVICE_CPUS": "2"}
    url = f"http://127.0.0.1:{port}"
    started = time.monotonic()
    try:
        engine.compose_up(
            *(PROJECT, "up", "-d", "--wait", "--no-build", "--scale", "service=2"), env=env
        )
        answer = httpx.post(f"{url}/v1/embeddings", json={"input": "first"}, timeout=60)
        answer.raise_for_status()
        yield Stack(engine, url, env, time.monotonic() - started)
    except Exception:
        sys.stderr.write(engine.compose_up(PROJECT, "logs", "--tail", "50", env=env))
        raise
    finally:
        engine.compose_up(PROJECT, "down", "-v", "--timeout", "20", env=env)
