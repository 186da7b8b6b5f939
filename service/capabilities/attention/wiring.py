"""Open this room on the shared floor."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.capabilities.attention.pipeline.comparing import Comparing
from service.capabilities.attention.pipeline.layers import LayerPipeline
from service.capabilities.attention.pipeline.models import ModelPipeline
from service.capabilities.attention.pipeline.probing import Probing
from service.capabilities.attention.pipeline.room import AttentionRoom
from service.capabilities.attention.pipeline.scoring import Scoring
from service.capabilities.attention.pipeline.taps import Taps
from service.capabilities.attention.routes import router
from service.capabilities.attention.settings import AttentionSettings
from service.runtime.attention.sessions import LayerGraphs
from service.runtime.session import SessionOptions
from service.web.capability import Capability, Lent


@asynccontextmanager
async def open_room(lent: Lent, settings: AttentionSettings) -> AsyncIterator[AttentionRoom]:
    """Yield the room; graphs of layers are made when they are first needed."""
    options = SessionOptions(
        providers=lent.settings.providers,
        policy=lent.settings.provider_policy,
        threads_per_run=lent.settings.threads_per_run,
    )
    yield AttentionRoom(
        layers=LayerPipeline(lent.engine, LayerGraphs(options), settings),
        probing=Probing(lent.engine),
        taps=Taps(lent.decoders, lent.engine, settings),
        models=ModelPipeline(
            Scoring(lent.decoders, lent.engine, settings),
            Comparing(lent.decoders, lent.engine, settings),
        ),
        settings=settings,
    )


capability = Capability(
    name="attention",
    description="Attention variants: one layer or a whole model, what each costs and keeps.",
    router=router,
    settings=AttentionSettings,
    open=open_room,
)
