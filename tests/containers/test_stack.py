"""The stack as a user has it: through the published port, with parts of it dying."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest

from tests.containers.conftest import Stack
from tests.containers.engine import Engine

REVIEWS = ["The room was clean. Breakfast was cold.", "Very clean room!", "Cold breakfast again."]
MIB = 1 << 20


@pytest.fixture
def client(stack: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.url, timeout=60) as opened:
        yield opened


def test_the_first_embedding_comes_within_a_minute(stack: Stack) -> None:
    assert stack.seconds < 60


def test_image_without_the_models_is_below_one_gigabyte(engine: Engine, image: str) -> None:
    layers = engine.docker(
        "history", "--no-trunc", "--format", "{{.CreatedBy}}\t{{.Size}}", "-H=false", image
    )
    sizes = {line.split("\t")[0]: int(line.split("\t")[1]) for line in layers.splitlines()}
    models = sum(
        size for made, size in sizes.items() if "/opt/isotrope/models" in made and "COPY" in made
    )
    assert models > 100 * MIB  # they are there, as a layer of their own
    assert sum(sizes.values()) - models < 1000 * MIB


def test_families_answer_through_the_gateway(client: httpx.Client) -> None:
    vectors = client.post("/v1/embeddings", json={"input": ["a", "b"]}).json()
    assert len(vectors["data"]) == 2
    made = client.post(
        "/v1/whitening/transforms",
        json={"name": "stack", "texts": ["a cat", "a dog", "the sea", "an ocean", "rain"]},
    )
    assert made.status_code == 201, made.text
    again = client.post("/v1/embeddings", json={"input": "a cat", "transform": made.json()["id"]})
    assert again.status_code == 200, again.text
    summary = client.post("/v1/opinions/summarize", json={"reviews": REVIEWS}).json()
    assert summary["summary"]
    tokens = client.post("/v1/tokenization/sample", json={"texts": ["hello"], "seed": 1})
    assert tokens.status_code == 200, tokens.text


def test_progress_streams_through_the_gateway(client: httpx.Client) -> None:
    with client.stream(
        "POST",
        "/v1/opinions/summarize",
        json={"reviews": REVIEWS},
        headers={"Accept": "text/event-stream"},
    ) as answer:
        events = [line for line in answer.iter_lines() if line.startswith("event:")]
    assert events[-1] == "event: result"


def test_problems_keep_their_media_type(client: httpx.Client) -> None:
    answer = client.post("/v1/embeddings", json={"input": []})
    assert answer.status_code == 422
    assert answer.headers["content-type"].startswith("application/problem+json")


def test_containers_may_do_little(stack: Stack) -> None:
    name = stack.containers("service")[0]
    described = json.loads(stack.engine.docker("inspect", name))[0]
    assert described["Config"]["User"] == "10001:10001"
    host = described["HostConfig"]
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert "uid=10001" in stack.engine.docker("exec", name, "id")
    tried = stack.engine.docker(
        "exec", name, "sh", "-c", "touch /opt/isotrope/x 2>&1 || echo refused"
    )
    assert "refused" in tried


def test_it_is_healthy_without_any_network(stack: Stack, image: str) -> None:
    """A container with no network at all starts, and answers itself."""
    script = (
        "import json,http.client;c=http.client.HTTPConnection('127.0.0.1',8000);"
        "c.request('POST','/v1/embeddings',json.dumps({'input':'x'}),"
        "{'Content-Type':'application/json'});print(c.getresponse().status)"
    )
    docker = stack.engine.docker
    name = docker(
        *("run", "-d", "--network", "none", "--read-only", "--tmpfs", "/tmp"),
        *("--tmpfs", "/var/cache/isotrope:uid=10001,mode=0700,exec", image),
    ).strip()
    try:
        for _ in range(60):
            state = docker("inspect", "-f", "{{.State.Health.Status}}", name).strip()
            if state == "healthy":
                break
            docker("exec", name, "sleep", "1")
        assert state == "healthy", docker("logs", name)
        assert docker("exec", name, "python", "-c", script).strip() == "200"
    finally:
        docker("rm", "-f", name)


def test_redis_may_die(stack: Stack, client: httpx.Client) -> None:
    stack.compose("kill", "redis")
    try:
        for number in range(10):
            answer = client.post("/v1/embeddings", json={"input": f"no redis {number}"})
            assert answer.status_code == 200, answer.text
    finally:
        stack.compose("up", "-d", "--wait", "--no-build", "--no-recreate", "--scale", "service=2")


def test_a_replica_may_die(stack: Stack, client: httpx.Client) -> None:
    before = client.post("/v1/embeddings", json={"input": "the same bytes"}).json()["data"]
    victim = stack.containers("service")[0]
    stack.engine.docker("kill", victim)
    for number in range(20):
        answer = client.post("/v1/embeddings", json={"input": ["the same bytes", f"{number}"]})
        assert answer.status_code == 200, answer.text
        assert answer.json()["data"][0]["embedding"] == before[0]["embedding"]
    stack.compose("up", "-d", "--wait", "--no-build", "--no-recreate", "--scale", "service=2")
    assert len(stack.containers("service")) == 2
