"""Open this room on the shared floor."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.capabilities.whitening.gathering import Gatherer
from service.capabilities.whitening.geometry import Surveyor
from service.capabilities.whitening.pipeline import WhiteningPipeline
from service.capabilities.whitening.routes import router
from service.capabilities.whitening.settings import WhiteningSettings
from service.web.capability import Capability, Lent


@asynccontextmanager
async def open_room(lent: Lent, settings: WhiteningSettings) -> AsyncIterator[WhiteningPipeline]:
    """Yield the pipeline; the transforms belong to the shared floor."""
    gatherer = Gatherer(lent.embedder, lent.engine, settings)
    surveyor = Surveyor(lent.transforms, gatherer, lent.engine, settings)
    yield WhiteningPipeline(lent.transforms, gatherer, surveyor, lent.engine, settings)


capability = Capability(
    name="whitening",
    description="Sentence-embedding whitening: fit, tune, apply, export; geometry and hubness.",
    router=router,
    settings=WhiteningSettings,
    open=open_room,
)
