"""More texts than admission lets wait: in parts, in order, with progress, and with an end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import islice, product
from pathlib import Path

import numpy as np
import pytest

from service.embedding.embedder import Embedder, EmbeddingOptions
from service.errors import ClientLeft
from service.metrics import Metrics
from service.runtime.engine import Engine
from service.runtime.library import Library
from service.settings import Settings
from service.stores.cache import VectorCache
from service.stores.memory import MemoryTier
from tests.fakes.artefacts import VOCABULARY, write_model
from tests.fakes.sessions import FakeSession, eventually

pytestmark = pytest.mark.anyio

WORDS = [word for word in VOCABULARY if not word.startswith("[")]
TEXTS = [" ".join(four) for four in islice(product(WORDS, repeat=4), 700)]


@asynccontextmanager
async def opened(tmp_path: Path, session: FakeSession) -> AsyncIterator[tuple[Embedder, Metrics]]:
    """Lend an embedder whose admission holds 300 texts of six tokens."""
    write_model(tmp_path, "tiny")
    metrics = Metrics()
    settings = Settings(
        models_dir=tmp_path, default_model="tiny", executors=2, max_queued_tokens=1800
    )
    engine = Engine(settings, metrics, Library(tmp_path, []), lambda path, options: session)
    cache = VectorCache(memory=MemoryTier(0), shared=None, metrics=metrics)
    await engine.encoder("tiny")
    try:
        yield Embedder(engine, cache), metrics
    finally:
        await engine.aclose()


@pytest.fixture
async def embedder(tmp_path: Path) -> AsyncIterator[Embedder]:
    async with opened(tmp_path, FakeSession()) as (embedder, _):
        yield embedder


async def test_parts_come_back_in_order(embedder: Embedder) -> None:
    seen: list[tuple[str, int, int]] = []
    options, deadline = EmbeddingOptions(), time.monotonic() + 30
    found = await embedder.embed_all(
        TEXTS,
        model=None,
        options=options,
        deadline=deadline,
        progress=lambda *report: seen.append(report),
    )
    for at in (0, 255, 256, 511, 512, 699):
        alone = await embedder.embed([TEXTS[at]], model=None, options=options, deadline=deadline)
        assert np.array_equal(found.vectors[at], alone.vectors[0])
    assert found.vectors.shape == (700, 4)
    assert len(found.tokens) == len(found.dropped_tokens) == 700
    assert seen == [("embed", done, 700) for done in (0, 256, 512, 700)]


async def test_a_part_that_is_refused_waits_and_tries_again(tmp_path: Path) -> None:
    session = FakeSession()
    async with opened(tmp_path, session) as (embedder, metrics):
        session.hold()
        work = asyncio.create_task(
            embedder.embed_all(
                TEXTS,
                model=None,
                options=EmbeddingOptions(),
                deadline=time.monotonic() + 30,
                progress=lambda *report: None,
            )
        )
        refused = metrics.rejected.labels("overloaded")
        await eventually(lambda: refused._value.get() > 0)
        session.release()
        assert (await work).vectors.shape == (700, 4)


async def test_the_work_ends_with_the_client(embedder: Embedder) -> None:
    def leave(stage: str, done: int, total: int) -> None:
        if done:
            raise ClientLeft("gone")

    with pytest.raises(ClientLeft):
        await embedder.embed_all(
            TEXTS,
            model=None,
            options=EmbeddingOptions(),
            deadline=time.monotonic() + 30,
            progress=leave,
        )
