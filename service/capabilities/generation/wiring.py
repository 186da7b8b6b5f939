"""Open this room on the shared floor."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.capabilities.generation.pipeline.room import GenerationRoom
from service.capabilities.generation.routes import router
from service.capabilities.generation.settings import GenerationSettings
from service.metrics import Metrics
from service.runtime.serving.scheduler import Limits, Scheduler
from service.web.capability import Capability, Lent

_MEBIBYTE = 2**20


@asynccontextmanager
async def open_room(lent: Lent, settings: GenerationSettings) -> AsyncIterator[GenerationRoom]:
    """Yield the room; its workers end with it, after the step that is under way."""
    limits = Limits(
        workers=settings.workers or lent.engine.cores.usable,
        slots=settings.slots,
        piece=settings.prompt_piece,
        cache_bytes=settings.cache_mb * _MEBIBYTE,
        waiting=settings.max_waiting,
    )
    scheduler = Scheduler(limits)
    _show(lent.metrics, scheduler)
    try:
        yield GenerationRoom(lent.decoders, lent.engine, scheduler, settings, lent.metrics)
    finally:
        await asyncio.to_thread(scheduler.close)


def _show(metrics: Metrics, scheduler: Scheduler) -> None:
    """Let the gauges read what is in use when they are asked."""
    metrics.sequences.labels("running").set_function(lambda: scheduler.use().running)
    metrics.sequences.labels("waiting").set_function(lambda: scheduler.use().waiting)
    cache = metrics.sequence_cache_bytes
    cache.labels("promised").set_function(lambda: scheduler.use().promised_bytes)
    cache.labels("kept").set_function(lambda: scheduler.use().kept_bytes)
    metrics.reused_tokens.set_function(lambda: scheduler.use().reused_tokens)


capability = Capability(
    name="generation",
    description="Texts from a language model: seeded, streamed, batched; contexts merged.",
    router=router,
    settings=GenerationSettings,
    open=open_room,
)
