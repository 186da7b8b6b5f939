"""Tokenizers outlive the process: one that was uploaded answers the same after a restart."""

from __future__ import annotations

import io
from pathlib import Path

import httpx
import sentencepiece

from tests.support.processes import start_service

BASE = "/v1/tokenization"
TEXTS = ["the unbelievable weather", "今天天气不错", "", "🙂 tokens  of text"]


def small_model() -> bytes:
    """Return a Unigram model with byte fallback."""
    content = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([text for text in TEXTS if text] * 20),
        model_writer=content,
        vocab_size=340,
        byte_fallback=True,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return content.getvalue()


def answers(client: httpx.Client, identity: str) -> list[bytes]:
    """Return what the tokenizer says, to the bit; the time that an answer took aside."""
    asked = {"tokenizer": identity, "texts": TEXTS}
    drawn = asked | {"alpha": 0.2, "num_samples": 5, "seed": 11}
    bodies = [
        client.post(f"{BASE}/encode", json=asked),
        client.post(f"{BASE}/sample", json=drawn),
        client.post(f"{BASE}/sample", json=drawn | {"method": "sample_without_replacement"}),
        client.post(f"{BASE}/sample", json=drawn | {"format": "flat"}),
        client.post(f"{BASE}/analyze", json={"tokenizer": identity, "text": TEXTS[0]}),
    ]
    assert {reply.status_code for reply in bodies} == {200}
    return [str({**reply.json(), "usage": None}).encode() for reply in bodies]


def test_a_killed_service_knows_the_tokenizer_and_draws_the_same(
    models_dir: Path, tmp_path: Path
) -> None:
    settings = {"SERVICE_DATA_LOCATION": str(tmp_path), "SERVICE_ROOMS": "tokenization"}
    with start_service(models_dir, environment=settings) as service:
        with httpx.Client(base_url=service.url, timeout=30) as client:
            made = client.post(
                f"{BASE}/tokenizers", data={"name": "mine"}, files={"file": small_model()}
            )
            assert made.status_code == 201, made.text
            card = client.get(f"{BASE}/tokenizers").json()
            before = answers(client, "mine@1")
        service.process.kill()
        service.process.wait()
    with (
        start_service(models_dir, environment=settings) as service,
        httpx.Client(base_url=service.url, timeout=30) as client,
    ):
        assert client.get(f"{BASE}/tokenizers").json() == card
        assert answers(client, "mine@1") == before
