"""The official `openai` client against a running service, and clients that leave in mid-stream."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import openai
import orjson
import pytest

from tests.support.processes import ServiceProcess, start_service
from tests.support.serving_graphs import write_chat_family, write_serving_family

USER: list[openai.types.chat.ChatCompletionMessageParam] = [{"role": "user", "content": "hi"}]
ENDLESS = {"logit_bias": {"0": -100}}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    folder = tmp_path_factory.mktemp("models")
    write_serving_family(folder)
    write_chat_family(folder)
    environment = {
        "SERVICE_PRELOAD_MODELS": "",
        "SERVICE_DEFAULT_DECODER": "tiny-serving",
        "SERVICE_GENERATION_CHAT_MODEL": "tiny-chat",
        "SERVICE_GENERATION_WORKERS": "2",
        "SERVICE_GENERATION_MAX_TOKENS": "8000",
        "SERVICE_ROOMS": "generation",
    }
    with start_service(folder, environment) as process:
        yield process


@pytest.fixture
def client(service: ServiceProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{service.url}/v1", api_key="any", max_retries=0) as opened:
        yield opened


def test_a_completion_and_its_stream(client: openai.OpenAI) -> None:
    plain = client.completions.create(
        model="tiny-serving", prompt="The cat", max_tokens=8, seed=3, logprobs=2, stop=["~~~"]
    )
    assert plain.choices[0].finish_reason == "length"
    assert plain.usage is not None
    assert plain.usage.completion_tokens == 8
    logprobs = plain.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.token_logprobs is not None
    assert len(logprobs.token_logprobs) == 8
    chunks = list(
        client.completions.create(
            model="tiny-serving", prompt="The cat", max_tokens=8, seed=3, stream=True
        )
    )
    text = "".join(chunk.choices[0].text for chunk in chunks)
    assert text == plain.choices[0].text
    assert chunks[-1].choices[0].finish_reason == "length"


def test_a_turn_and_its_stream(client: openai.OpenAI) -> None:
    asked = {"model": "tiny-chat", "messages": USER, "max_completion_tokens": 8, "seed": 3}
    plain = client.chat.completions.create(**asked, logprobs=True, top_logprobs=2)  # type: ignore[call-overload]
    content = plain.choices[0].logprobs.content
    assert len(content) == 8
    assert len(content[0].top_logprobs) == 2
    stream = client.chat.completions.create(
        **asked, stream=True, stream_options={"include_usage": True}
    )  # type: ignore[call-overload]
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == plain.choices[0].message.content
    assert chunks[-1].usage == plain.usage


def test_its_helper_puts_a_stream_together(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(
        model="tiny-chat", messages=USER, max_tokens=5, seed=3, logit_bias={"255": 100}
    ) as stream:
        assert [event.type for event in stream].count("chunk") == 3
        final = stream.get_final_completion()
    assert final.choices[0].finish_reason == "stop"
    assert final.choices[0].message.content == ""


def test_errors_become_its_exceptions(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.completions.create(model="nope", prompt="a")
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        client.chat.completions.create(model="tiny-chat", messages=USER, max_tokens=5000 // 4)
    body = caught.value.body
    assert isinstance(body, dict)
    assert body["code"] == "sequence_too_long"
    late = client.with_options(default_headers={"X-Request-Timeout-Ms": "150"})
    stream = late.completions.create(
        model="tiny-serving", prompt="a", max_tokens=4000, stream=True,
        extra_body={"rope": "ntk_mixed", **ENDLESS},
    )  # fmt: skip
    with pytest.raises(openai.APIError, match="deadline"):
        list(stream)


async def test_the_asynchronous_client(service: ServiceProcess) -> None:
    async with openai.AsyncOpenAI(base_url=f"{service.url}/v1", api_key="any") as client:
        stream = await client.chat.completions.create(
            model="tiny-chat", messages=USER, max_tokens=4, stream=True
        )
        assert len([chunk async for chunk in stream]) == 6


test_the_asynchronous_client = pytest.mark.anyio(test_the_asynchronous_client)


def metric(service: ServiceProcess, name: str) -> float:
    lines = httpx.get(f"{service.url}/metrics").text.splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(name))


def descriptors(service: ServiceProcess) -> int:
    return len(list(Path(f"/proc/{service.process.pid}/fd").iterdir()))


def drop(service: ServiceProcess, body: dict[str, object], *, after: int) -> None:
    """Open a stream, read so many bytes of it, and close the connection."""
    address = urlsplit(service.url)
    content = orjson.dumps(body)
    head = (
        f"POST /v1/attention/generate HTTP/1.1\r\nHost: {address.netloc}\r\n"
        "Content-Type: application/json\r\nAccept: text/event-stream\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    with socket.create_connection((address.hostname or "", address.port or 0), 10) as stream:
        stream.sendall(head.encode() + content)
        read = 0
        while read < after:
            read += len(stream.recv(4096))


def test_streams_that_are_dropped_give_everything_back(service: ServiceProcess) -> None:
    draw = random.Random(5)
    endless: dict[str, object] = {"max_tokens": 8000, "rope": "ntk_mixed", **ENDLESS}
    drop(service, {"text": "warm", **endless}, after=2000)
    before = descriptors(service)
    for number in range(60):
        text = "dropped " * draw.randrange(1, 8)
        drop(
            service, {"text": text, "seed": number, **endless}, after=draw.choice([0, 0, 300, 3000])
        )
    limit = time.monotonic() + 8  # to their ends they would run for a minute
    names = ('isotrope_sequences{state="running"}', 'isotrope_sequences{state="waiting"}')
    while any(metric(service, name) for name in names):
        assert time.monotonic() < limit, "sequences of clients that left still run"
        time.sleep(0.05)
    assert metric(service, 'isotrope_sequence_cache_bytes{state="promised"}') == 0
    while descriptors(service) > before:
        assert time.monotonic() < limit, "connections stay open"
        time.sleep(0.05)
    assert '"level":"error"' not in service.output()
    reply = httpx.post(f"{service.url}/v1/attention/generate", json={"text": "a", "max_tokens": 3})
    assert reply.status_code == 200
