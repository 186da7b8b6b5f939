"""The official `openai` client, unchanged, against a running service."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import numpy as np
import openai
import pytest

from tests.support.processes import ServiceProcess

MODEL = "all-MiniLM-L6-v2"


@pytest.fixture
def client(live: ServiceProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{live.url}/v1", api_key="any", max_retries=0) as opened:
        yield opened


def test_it_asks_for_base64_and_gets_floats(client: openai.OpenAI, live: ServiceProcess) -> None:
    reply = client.embeddings.create(model=MODEL, input="A man is playing a guitar.")
    plain = httpx.post(f"{live.url}/v1/embeddings", json={"input": "A man is playing a guitar."})
    expected = np.array(plain.json()["data"][0]["embedding"], dtype=np.float32)
    assert np.array_equal(np.array(reply.data[0].embedding, dtype=np.float32), expected)
    assert reply.object == "list"
    assert reply.model == MODEL
    assert reply.usage.prompt_tokens == reply.usage.total_tokens == 9


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_lists_ids_and_dimensions(client: openai.OpenAI, encoding: str) -> None:
    reply = client.embeddings.create(
        model=MODEL,
        input=["one", "two", "three"],
        dimensions=64,
        encoding_format=encoding,  # type: ignore[arg-type]
        user="somebody",
    )
    assert [item.index for item in reply.data] == [0, 1, 2]
    if encoding == "float":
        assert all(len(item.embedding) == 64 for item in reply.data)
    assert len(client.embeddings.create(model=MODEL, input=[7592, 2088]).data) == 1
    assert len(client.embeddings.create(model=MODEL, input=[[7592], [2088]]).data) == 2


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert MODEL in {model.id for model in client.models.list()}
    assert client.models.retrieve(MODEL).owned_by
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nope")


def test_errors_become_its_exceptions(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.embeddings.create(model="nope", input="a")
    assert "There is no model 'nope'" in missing.value.response.text
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        client.embeddings.create(model=MODEL, input="a", dimensions=385)
    body = caught.value.body
    assert isinstance(body, dict)
    assert body["code"] == "dimension_mismatch"
    assert caught.value.request_id == caught.value.response.headers["x-request-id"]
    with pytest.raises(openai.UnprocessableEntityError):
        client.embeddings.create(model=MODEL, input=[])
    with pytest.raises(openai.APIStatusError) as large:
        client.embeddings.create(model=MODEL, input=["a"] * 3000)
    assert large.value.status_code == 413


async def test_the_asynchronous_client(live: ServiceProcess) -> None:
    async with openai.AsyncOpenAI(base_url=f"{live.url}/v1", api_key="any") as client:
        reply = await client.embeddings.create(model=MODEL, input="a")
        assert len(reply.data[0].embedding) == 384


test_the_asynchronous_client = pytest.mark.anyio(test_the_asynchronous_client)
