"""Texts to vectors through the cache, with a fake model: order, options, counts, sharing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from service.embedding.embedder import Embedded, Embedder, EmbeddingOptions
from service.errors import (
    DimensionMismatch,
    EmptyInput,
    Internal,
    InvalidInput,
    SequenceTooLong,
    UnknownModel,
)
from service.metrics import Metrics
from service.runtime.engine import Engine
from service.runtime.library import Library
from service.runtime.tokenizer import Truncate
from service.settings import Settings
from service.stores.cache import VectorCache
from service.stores.memory import MemoryTier
from tests.fakes.artefacts import AFTER, BEFORE, MAX_TOKENS, VOCABULARY, write_model
from tests.fakes.sessions import FakeSession, row_for

pytestmark = pytest.mark.anyio

Texts = Sequence[str] | Sequence[Sequence[int]]


@dataclass(frozen=True, slots=True)
class Desk:
    """Hold an embedder and the session below it."""

    embedder: Embedder
    session: FakeSession

    async def embed(self, inputs: Texts, model: str | None = None, **options: object) -> Embedded:
        return await self.embedder.embed(
            inputs,
            model=model,
            options=EmbeddingOptions(**options),  # type: ignore[arg-type]
            deadline=time.monotonic() + 30,
        )

    def texts_run(self) -> int:
        return sum(map(len, self.session.batches))


@pytest.fixture(params=[2**20, 0], ids=["cached", "uncached"])
def cache_bytes(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
async def desk(tmp_path: Path, cache_bytes: int) -> AsyncIterator[Desk]:
    write_model(tmp_path, "tiny")
    write_model(tmp_path, "prefixed", prefix="query: ", pooling="cls")
    metrics = Metrics()
    session = FakeSession()
    engine = Engine(
        Settings(models_dir=tmp_path, default_model="tiny", executors=2),
        metrics,
        Library(tmp_path, []),
        lambda path, options: session,
    )
    await engine.encoder("tiny")
    session.batches.clear()
    cache = VectorCache(memory=MemoryTier(cache_bytes), shared=None, metrics=metrics)
    yield Desk(Embedder(engine, cache), session)
    await engine.aclose()


def wrapped(*words: str) -> list[int]:
    return [BEFORE, *(VOCABULARY[word] for word in words), AFTER]


async def test_vectors_stand_in_input_order(desk: Desk) -> None:
    texts = ["the cat sat on a mat", "cat", "", "on the mat"]
    found = await desk.embed(texts)
    expected = np.stack([row_for(wrapped(*text.split())) for text in texts])
    assert found.vectors.dtype == np.float32
    assert np.array_equal(found.vectors, expected)
    assert list(found.tokens) == [8, 3, 2, 5]
    assert list(found.dropped_tokens) == [0, 0, 0, 0]
    assert found.encoder.manifest.id == "tiny"
    assert found.hits == 0
    assert {"cache", "tokenize", "queue", "infer"} <= set(found.stages)


async def test_one_text_gives_one_row(desk: Desk) -> None:
    found = await desk.embed(["cat"])
    assert found.vectors.shape == (1, 4)


async def test_the_second_time_answers_alike(desk: Desk, cache_bytes: int) -> None:
    long = "the " * 20
    texts = ["cat", long, "mat"]
    first = await desk.embed(texts)
    second = await desk.embed([*texts, "sat"])
    assert np.array_equal(first.vectors, second.vectors[:3])
    assert list(second.tokens)[:3] == list(first.tokens) == [3, MAX_TOKENS, 3]
    assert list(second.dropped_tokens)[:3] == list(first.dropped_tokens) == [0, 6, 0]
    assert second.hits == (3 if cache_bytes else 0)
    assert desk.texts_run() == (4 if cache_bytes else 7)


async def test_equal_texts_run_once(desk: Desk) -> None:
    found = await desk.embed(["cat", "mat", "cat", "cat"])
    assert desk.texts_run() == 2
    assert np.array_equal(found.vectors[0], found.vectors[2])
    assert np.array_equal(found.vectors[3], row_for(wrapped("cat")))
    assert list(found.tokens) == [3, 3, 3, 3]


async def test_concurrent_equal_texts_run_once(desk: Desk) -> None:
    desk.session.hold()
    calls = [asyncio.create_task(desk.embed(["cat", "the mat"])) for _ in range(8)]
    await desk.session.runs_began(1)
    desk.session.release()
    answers = await asyncio.gather(*calls)
    assert desk.texts_run() == 2
    assert all(np.array_equal(each.vectors, answers[0].vectors) for each in answers)


async def test_poolings_and_lengths_do_not_share_a_value(desk: Desk) -> None:
    ids = wrapped("cat", "sat")
    for _ in range(2):
        for pooling in ("mean", "cls"):
            for normalize in (True, False):
                found = await desk.embed(["cat sat"], pooling=pooling, normalize=normalize)
                output = pooling if normalize else f"{pooling}_raw"
                assert np.array_equal(found.vectors[0], row_for(ids, output))


async def test_the_default_pooling_is_the_model_s(desk: Desk) -> None:
    found = await desk.embed(["cat"], model="prefixed")
    ids = wrapped("query", ":", "cat")
    assert np.array_equal(found.vectors[0], row_for(ids, "cls"))
    assert list(found.tokens) == [5]


async def test_a_pooling_that_the_model_lacks_is_named(desk: Desk) -> None:
    with pytest.raises(InvalidInput, match="no pooling 'first_last'; it has mean, cls") as caught:
        await desk.embed(["cat"], pooling="first_last")
    assert caught.value.faults[0].pointer == "/pooling"


async def test_ids_are_what_their_text_is(desk: Desk) -> None:
    text = await desk.embed(["the cat"])
    ids = await desk.embed([[VOCABULARY["the"], VOCABULARY["cat"]]])
    assert np.array_equal(text.vectors, ids.vectors)
    assert list(text.tokens) == list(ids.tokens)


async def test_ids_and_a_text_of_the_same_digits_are_different(desk: Desk) -> None:
    ids = await desk.embed([[6, 7]])
    text = await desk.embed(["6,7"])
    assert not np.array_equal(ids.vectors, text.vectors)


async def test_sides_of_truncation_do_not_share_a_value(desk: Desk) -> None:
    text = "cat " + "the " * 20 + "mat"
    right = await desk.embed([text], truncate=Truncate.RIGHT)
    left = await desk.embed([text], truncate=Truncate.LEFT)
    assert np.array_equal(right.vectors[0], row_for(wrapped("cat", *["the"] * 13)))
    assert np.array_equal(left.vectors[0], row_for(wrapped(*["the"] * 13, "mat")))
    with pytest.raises(SequenceTooLong):
        await desk.embed(["cat", text], truncate=Truncate.ERROR)


async def test_a_long_text_is_cut_off_the_event_loop(desk: Desk) -> None:
    found = await desk.embed(["the " * 2_000, "cat"])
    assert list(found.tokens) == [MAX_TOKENS, 3]
    assert list(found.dropped_tokens) == [2_000 - 14, 0]


async def test_what_cannot_be_embedded(desk: Desk) -> None:
    with pytest.raises(EmptyInput):
        await desk.embed([])
    with pytest.raises(EmptyInput):
        await desk.embed([[6], []])
    with pytest.raises(DimensionMismatch):
        await desk.embed([[6, len(VOCABULARY)]])
    with pytest.raises(UnknownModel):
        await desk.embed(["cat"], model="nobody")


async def test_a_failure_is_not_cached(desk: Desk) -> None:
    desk.session.errors = [ValueError("once")]
    with pytest.raises(Internal):
        await desk.embed(["cat"])
    assert np.array_equal((await desk.embed(["cat"])).vectors[0], row_for(wrapped("cat")))


async def test_what_a_caller_does_to_its_vectors_is_its_own_affair(desk: Desk) -> None:
    first = await desk.embed(["cat", "mat"])
    first.vectors[:] = 0
    second = await desk.embed(["cat", "mat"])
    assert np.array_equal(second.vectors[0], row_for(wrapped("cat")))
    alone = await desk.embed(["cat"])
    assert not alone.vectors.flags.writeable
