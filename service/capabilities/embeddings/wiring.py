"""Open this room on the shared floor."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.capabilities.embeddings.pipeline import EmbeddingsPipeline
from service.capabilities.embeddings.routes import router
from service.capabilities.embeddings.settings import EmbeddingsSettings
from service.web.capability import Capability, Lent


@asynccontextmanager
async def open_room(lent: Lent, settings: EmbeddingsSettings) -> AsyncIterator[EmbeddingsPipeline]:
    """Yield the pipeline; this room keeps nothing of its own open."""
    yield EmbeddingsPipeline(
        lent.embedder, lent.transforms, lent.engine, settings, calibrations=lent.calibrations
    )


capability = Capability(
    name="embeddings",
    description="Sentence embeddings and their similarity.",
    router=router,
    settings=EmbeddingsSettings,
    open=open_room,
)
