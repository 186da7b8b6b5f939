"""Load models on demand, warm them, and lend their lanes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import BoundedSemaphore
from typing import TypeVar

import structlog

from service.errors import Internal, Overloaded, UnknownModel
from service.metrics import Metrics
from service.runtime.batcher import Batcher, Lane, pad
from service.runtime.heap import release_freed_memory
from service.runtime.library import Library, load_catalogues
from service.runtime.loading import SharedLoads
from service.runtime.manifest import KIND_NAMES, Manifest, verify_files
from service.runtime.providers import ProviderReport
from service.runtime.session import Session, SessionOptions, open_session
from service.runtime.threads import Cores, count_cores
from service.runtime.tokenizer import TextTokenizer, Truncate, open_tokenizer
from service.settings import Settings

T = TypeVar("T")
# Lengths run once before a model answers: the allocator reaches its size, lazy kernels are made.
_WARM_LENGTHS = (8, 32, 128, 512)
_PROBE_TEXT = "ready"
_PROBE_SECONDS = 5.0

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Encoder:
    """Hold one loaded encoder.

    Attributes:
        manifest: what it is.
        sha256: digest of graph and tokenizer together.
        tokenizer: texts to ids.
        lane: ids to vectors.
    """

    manifest: Manifest
    sha256: str
    tokenizer: TextTokenizer
    lane: Lane

    @property
    def provider(self) -> ProviderReport:
        """Return where it runs, beside where it was wished to run."""
        return self.lane.session.provider


class Engine:
    """Own the compute threads, the batcher and every loaded model.

    Args:
        settings: threads, budgets, providers, default model.
        metrics: instruments to write to.
        library: where models are found.
        session_opener: how a graph becomes a session; tests pass their own.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        library: Library,
        session_opener: Callable[[Path, SessionOptions], Session] = open_session,
    ) -> None:
        self.library = library
        self.cores: Cores = count_cores()
        self.executors = settings.executors or self.cores.usable
        self._settings = settings
        self._metrics = metrics
        self._open_session = session_opener
        self._encoders: dict[str, Encoder] = {}
        self._loads: SharedLoads[str, Encoder] = SharedLoads()
        self._pool = ThreadPoolExecutor(self.executors, thread_name_prefix="compute")
        self._room = BoundedSemaphore(self.executors + settings.max_waiting_jobs)
        self.batcher = Batcher(
            executors=self.executors,
            max_batch_tokens=settings.max_batch_tokens,
            run_overhead_tokens=settings.run_overhead_tokens,
            max_queued_tokens=settings.max_queued_tokens,
            metrics=metrics,
        )

    async def compute(self, work: Callable[..., T], *arguments: object) -> T:
        """Run heavy, pure work in the bounded pool, so that the event loop never computes.

        Raises:
            Overloaded: as many pieces of work wait already as may.
        """
        if not self._room.acquire(blocking=False):
            raise Overloaded(
                f"{self._settings.max_waiting_jobs} pieces of work wait for a thread already. "
                "Send fewer at one time.",
                retry_after_seconds=1,
            )
        job = self._pool.submit(work, *arguments)
        # When the work ends, not when its waiter leaves: a thread that computes is not free.
        job.add_done_callback(lambda _: self._room.release())
        return await asyncio.wrap_future(job)

    def loaded(self) -> dict[str, Encoder]:
        """Return the loaded encoders by id."""
        return dict(self._encoders)

    async def encoder(self, model_id: str | None, *, deadline: float | None = None) -> Encoder:
        """Return an encoder, loading and warming it first where it is not loaded yet.

        Args:
            model_id: its id, or None for the default one.
            deadline: monotonic seconds until which the caller waits for a load.

        Raises:
            UnknownModel: no such model.
            ModelNotReady: shipped and not built.
            ArtefactDamaged: a file does not match its pin.
            DeadlineExceeded: the load goes on, and the caller waits no longer.
        """
        name = model_id or self._settings.default_model
        found = self._encoders.get(name)
        if found is not None:
            return found
        return await self._loads.wait(
            name, partial(self._load, name), what=f"The model {name}", deadline=deadline
        )

    async def _load(self, name: str) -> Encoder:
        started = time.monotonic()
        manifest, session, tokenizer = await self.compute(self._open, name)
        await self.compute(self._warm, manifest, session, tokenizer)
        lane = self.batcher.add_lane(name, session, self._metrics)
        lane.last_success = time.monotonic()  # the warm-up was a real inference
        encoder = Encoder(manifest, manifest.sha256, tokenizer, lane)
        report = session.provider
        self._metrics.provider.labels(name, report.used, str(report.as_wished).lower()).set(1)
        self._encoders[name] = encoder
        logger.info(
            "model_loaded",
            model=name,
            provider=report.used,
            seconds=round(time.monotonic() - started, 3),
        )
        if not report.as_wished:
            logger.warning("provider_not_as_wished", wished=report.wished, used=report.used)
        return encoder

    def _open(self, name: str) -> tuple[Manifest, Session, TextTokenizer]:
        folder, manifest = self.library.find(name)
        if manifest.kind in KIND_NAMES:
            what = KIND_NAMES[manifest.kind]
            raise UnknownModel(f"{name!r} is {what}; this operation needs an encoder.")
        verify_files(folder, manifest)
        options = SessionOptions(
            providers=self._settings.providers,
            policy=self._settings.provider_policy,
            threads_per_run=self._settings.threads_per_run,
        )
        session = self._open_session(folder / "model.onnx", options)
        tokenizer = open_tokenizer(
            folder / "tokenizer.json", max_tokens=manifest.max_tokens, prefix=manifest.prefix
        )
        release_freed_memory()
        return manifest, session, tokenizer

    def _warm(self, manifest: Manifest, session: Session, tokenizer: TextTokenizer) -> None:
        """Run every length bucket once, outside of the queue and its admission."""
        ids = tokenizer.encode_texts([_PROBE_TEXT], Truncate.RIGHT)[0].ids
        filler = ids[len(ids) // 2]
        for length in _WARM_LENGTHS:
            real = min(length, manifest.max_tokens)
            rows = max(1, self._settings.max_batch_tokens // real)
            try:
                session.run(*pad([[filler] * real] * rows), [manifest.pooling])
            except Exception as error:
                raise Internal(f"{manifest.id} failed while it was warmed: {error}") from error

    async def prove(self) -> None:
        """Run a real inference on the default encoder, unless one just worked.

        Raises:
            ServiceError: whatever kept it from working.
        """
        encoder = await self.encoder(None)
        last = encoder.lane.last_success
        if last is not None and time.monotonic() - last < self._settings.readiness_seconds:
            return
        ids = encoder.tokenizer.encode_texts([_PROBE_TEXT], Truncate.RIGHT)[0].ids
        await self.batcher.submit(
            encoder.lane,
            [ids],
            output=encoder.manifest.pooling,
            deadline=time.monotonic() + _PROBE_SECONDS,
        )

    async def aclose(self) -> None:
        """Finish what is queued, then end every thread."""
        self._loads.cancel()
        await self.batcher.aclose()
        self._pool.shutdown(wait=True, cancel_futures=True)


@asynccontextmanager
async def open_engine(settings: Settings, metrics: Metrics) -> AsyncIterator[Engine]:
    """Open the engine, load and warm the models of `preload_models`, and close it at the end."""
    engine = Engine(settings, metrics, Library(settings.models_dir, load_catalogues()))
    try:
        preload = settings.preload_models
        names = (settings.default_model,) if preload is None else preload
        for name in names:
            await engine.encoder(name)
        yield engine
    finally:
        await engine.aclose()
