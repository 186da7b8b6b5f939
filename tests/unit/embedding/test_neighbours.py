"""On the real model: a vector does not depend on neighbours, order or cache."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from service.embedding.embedder import Embedder, EmbeddingOptions
from service.metrics import Metrics
from service.numerics.dtypes import Matrix32
from service.runtime.engine import Engine
from service.runtime.library import Library, load_catalogues
from service.settings import Settings
from service.stores.cache import VectorCache
from service.stores.memory import MemoryTier

pytestmark = pytest.mark.anyio

LARGEST_DIFFERENCE = 1e-5
WORDS = ("the", "a", "cat", "sat", "on", "mat", "river", "quickly", "seventeen", "zebras", "don't")
PROBE = "A man is playing a guitar."


@pytest.fixture
async def engine(models_dir: Path) -> AsyncIterator[Engine]:
    settings = Settings(models_dir=models_dir)
    opened = Engine(settings, Metrics(), Library(models_dir, load_catalogues()))
    yield opened
    await opened.aclose()


async def embed(
    engine: Engine, texts: Sequence[str], *, cache_bytes: int = 0, times: int = 1
) -> Matrix32:
    cache = VectorCache(memory=MemoryTier(cache_bytes), shared=None, metrics=Metrics())
    embedder = Embedder(engine, cache)
    for _ in range(times):
        found = await embedder.embed(
            texts, model=None, options=EmbeddingOptions(), deadline=time.monotonic() + 60
        )
    return found.vectors


def largest(left: Matrix32, right: Matrix32) -> float:
    return float(np.abs(left - right).max())


async def test_vectors_depend_on_their_text_alone(engine: Engine) -> None:
    rng = np.random.default_rng(11)
    others = [" ".join(rng.choice(WORDS, size)) for size in rng.integers(1, 60, 63)]
    texts = [*others[:31], PROBE, *others[31:]]
    together = await embed(engine, texts)
    alone = await embed(engine, [PROBE])
    assert largest(together[31], alone[0]) <= LARGEST_DIFFERENCE
    shortest, longest = min(others, key=len), max(others, key=len)
    for text in (shortest, longest):
        row = together[texts.index(text)]
        assert largest(row, (await embed(engine, [text]))[0]) <= LARGEST_DIFFERENCE
    order = rng.permutation(len(texts))
    turned = await embed(engine, [texts[index] for index in order])
    assert largest(turned, together[order]) <= LARGEST_DIFFERENCE
    cached = await embed(engine, texts, cache_bytes=2**20, times=2)
    assert largest(cached, together) <= LARGEST_DIFFERENCE
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    # the tests above would pass if every vector were the same
    assert largest(together[31], together[30]) > 0.01
