"""Open this room on the shared floor."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.capabilities.inference.pipeline import InferencePipeline
from service.capabilities.inference.routes import router
from service.capabilities.inference.settings import InferenceSettings
from service.web.capability import Capability, Lent


@asynccontextmanager
async def open_room(lent: Lent, settings: InferenceSettings) -> AsyncIterator[InferencePipeline]:
    """Yield the pipeline; this room keeps nothing of its own open."""
    yield InferencePipeline(lent.engine, lent.embedder, settings)


capability = Capability(
    name="inference",
    description="Open Inference Protocol v2, for KServe's and Triton's clients.",
    router=router,
    settings=InferenceSettings,
    open=open_room,
)
