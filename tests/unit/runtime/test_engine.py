"""Models load once, on demand, warmed before they answer; a failed load may be tried again."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from service.errors import ArtefactDamaged, Draining, Internal, ModelNotReady, UnknownModel
from service.metrics import Metrics
from service.runtime.engine import Engine
from service.runtime.library import Library
from service.runtime.session import Session, SessionOptions
from service.settings import Settings
from tests.fakes.artefacts import MAX_TOKENS, FakeCatalogue, manifest_entry, write_model
from tests.fakes.sessions import FakeSession, eventually

pytestmark = pytest.mark.anyio


class Opener:
    """Be `open_session`: count the calls, and wait or fail when told to."""

    def __init__(self) -> None:
        self.paths: list[Path] = []
        self.options: list[SessionOptions] = []
        self.sessions: list[FakeSession] = []
        self.errors: list[Exception] = []
        self.wished = "cpu"
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, path: Path, options: SessionOptions) -> Session:
        self.paths.append(path)
        self.options.append(options)
        assert self.gate.wait(10)
        if self.errors:
            raise self.errors.pop(0)
        self.sessions.append(FakeSession(wished=self.wished))
        return self.sessions[-1]


@asynccontextmanager
async def open_engine(
    models: Path, opener: Opener, metrics: Metrics | None = None, **settings: Any
) -> AsyncIterator[Engine]:
    chosen = Settings(models_dir=models, default_model="tiny", executors=2, **settings)
    library = Library(models, [FakeCatalogue(manifest_entry("shipped", {}))])
    engine = Engine(chosen, metrics or Metrics(), library, opener)
    try:
        yield engine
    finally:
        opener.gate.set()
        await engine.aclose()


@pytest.fixture
def models(tmp_path: Path) -> Path:
    write_model(tmp_path, "tiny")
    return tmp_path


@pytest.fixture
def opener() -> Opener:
    return Opener()


async def test_many_callers_share_one_load(models: Path, opener: Opener) -> None:
    async with open_engine(models, opener) as engine:
        assert engine.loaded() == {}
        opener.gate.clear()
        calls = [asyncio.create_task(engine.encoder(name)) for name in (None, "tiny") * 8]
        await eventually(lambda: bool(opener.paths))
        opener.gate.set()
        encoders = await asyncio.gather(*calls)
        assert all(encoder is encoders[0] for encoder in encoders)
        assert await engine.encoder(None) is encoders[0]
        assert opener.paths == [models / "tiny" / "model.onnx"]
        assert list(engine.loaded()) == ["tiny"]


async def test_it_is_warm_before_it_answers(models: Path, opener: Opener) -> None:
    metrics = Metrics()
    async with open_engine(models, opener, metrics) as engine:
        encoder = await engine.encoder("tiny")
        widths = set(opener.sessions[0].widths)
        assert widths == {8, MAX_TOKENS}, "no run is longer than the model reads"
        assert encoder.lane.last_success is not None
        assert encoder.manifest.id == "tiny"
        assert encoder.sha256 == encoder.manifest.sha256
        labels = {"model": "tiny", "provider": "cpu", "wished": "true"}
        assert metrics.registry.get_sample_value("isotrope_provider", labels) == 1


async def test_an_unmet_wish_is_reported(models: Path, opener: Opener) -> None:
    metrics = Metrics()
    opener.wished = "cuda"
    async with open_engine(models, opener, metrics, providers="cuda,cpu") as engine:
        encoder = await engine.encoder(None)
        assert opener.options[0].providers == ("cuda", "cpu")
        assert (encoder.provider.wished, encoder.provider.as_wished) == ("cuda", False)
        labels = {"model": "tiny", "provider": "cpu", "wished": "false"}
        assert metrics.registry.get_sample_value("isotrope_provider", labels) == 1


async def test_a_client_who_leaves_does_not_stop_the_load(models: Path, opener: Opener) -> None:
    async with open_engine(models, opener) as engine:
        opener.gate.clear()
        leaver = asyncio.create_task(engine.encoder("tiny"))
        await eventually(lambda: bool(opener.paths))
        stayer = asyncio.create_task(engine.encoder("tiny"))
        leaver.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaver
        opener.gate.set()
        assert (await stayer).manifest.id == "tiny"
        assert len(opener.paths) == 1


async def test_a_load_goes_on_when_everybody_left(models: Path, opener: Opener) -> None:
    async with open_engine(models, opener) as engine:
        opener.gate.clear()
        leaver = asyncio.create_task(engine.encoder("tiny"))
        await eventually(lambda: bool(opener.paths))
        leaver.cancel()
        opener.gate.set()
        await eventually(lambda: "tiny" in engine.loaded())


async def test_a_failed_load_can_be_tried_again(models: Path, opener: Opener) -> None:
    async with open_engine(models, opener) as engine:
        opener.errors = [ArtefactDamaged("The graph is of another world.")]
        results = await asyncio.gather(
            engine.encoder("tiny"), engine.encoder("tiny"), return_exceptions=True
        )
        assert [type(result) for result in results] == [ArtefactDamaged] * 2
        assert engine.loaded() == {}
        assert (await engine.encoder("tiny")).manifest.id == "tiny"
        assert len(opener.paths) == 2


async def test_a_model_that_fails_while_warming_is_not_served(
    models: Path, opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_engine(models, opener) as engine:
        run = FakeSession.run
        monkeypatch.setattr(FakeSession, "run", lambda *_: (_ for _ in ()).throw(ValueError("no")))
        with pytest.raises(Internal, match="tiny failed"):
            await engine.encoder("tiny")
        assert engine.loaded() == {}
        monkeypatch.setattr(FakeSession, "run", run)
        assert (await engine.encoder("tiny")).manifest.id == "tiny"


async def test_what_cannot_be_loaded_says_why(models: Path, opener: Opener) -> None:
    async with open_engine(models, opener) as engine:
        with pytest.raises(UnknownModel):
            await engine.encoder("../tiny")
        with pytest.raises(ModelNotReady):
            await engine.encoder("shipped")
        (models / "tiny" / "tokenizer.json").write_text("{}")
        with pytest.raises(ArtefactDamaged):
            await engine.encoder(None)
        assert opener.paths == []


async def test_models_load_side_by_side(models: Path, opener: Opener) -> None:
    write_model(models, "other", pooling="cls", max_tokens=9)
    async with open_engine(models, opener) as engine:
        tiny, other = await asyncio.gather(engine.encoder("tiny"), engine.encoder("other"))
        assert (tiny.lane.name, other.lane.name) == ("tiny", "other")
        assert (tiny.tokenizer.max_tokens, other.tokenizer.max_tokens) == (MAX_TOKENS, 9)


async def test_prove_runs_only_when_nothing_ran_lately(models: Path, opener: Opener) -> None:
    async with open_engine(models, opener) as engine:
        encoder = await engine.encoder(None)
        runs = len(opener.sessions[0].batches)
        await engine.prove()
        assert len(opener.sessions[0].batches) == runs
        encoder.lane.last_success = 0.0
        await engine.prove()
        assert len(opener.sessions[0].batches) == runs + 1
        encoder.lane.last_success = 0.0
        opener.sessions[0].errors = [ValueError("the device is gone")]
        with pytest.raises(Internal, match="the device is gone"):
            await engine.prove()


async def test_heavy_work_leaves_the_event_loop(models: Path, opener: Opener) -> None:
    async with open_engine(models, opener) as engine:
        name = await engine.compute(lambda: threading.current_thread().name)
        assert name.startswith("compute")


async def test_after_the_end_nothing_is_taken(models: Path, opener: Opener) -> None:
    async with open_engine(models, opener) as engine:
        encoder = await engine.encoder(None)
        await engine.aclose()
        with pytest.raises(Draining):
            await engine.batcher.submit(encoder.lane, [[1]], output="mean", deadline=1e12)
