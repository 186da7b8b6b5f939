"""Lend a tiny decoder of random weights, and what opens it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from service.metrics import Metrics
from service.runtime.decoders.lending import Decoders
from service.runtime.engine import Engine
from service.runtime.library import Library
from service.settings import Settings
from tests.fakes.artefacts import FakeCatalogue, manifest_entry, write_model
from tests.support.decoders import write_decoder

OpenDecoders = Callable[..., AbstractAsyncContextManager[Decoders]]


@pytest.fixture(scope="session")
def decoder_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a models' folder with `tiny-decoder` and the encoder `tiny`; nobody writes to it."""
    folder = tmp_path_factory.mktemp("models")
    write_decoder(folder)
    write_model(folder, "tiny")
    return folder


@asynccontextmanager
async def _open_decoders(models: Path, **settings: Any) -> AsyncIterator[Decoders]:
    chosen = Settings(models_dir=models, default_decoder="tiny-decoder", **settings)
    metrics = Metrics()
    shipped = FakeCatalogue(manifest_entry("shipped", {}))
    engine = Engine(chosen, metrics, Library(models, [shipped]))
    decoders = Decoders(chosen, engine, metrics)
    try:
        yield decoders
    finally:
        await decoders.aclose()
        await engine.aclose()


@pytest.fixture
def open_decoders() -> OpenDecoders:
    return _open_decoders
