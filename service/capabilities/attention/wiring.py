"""Open this room on the shared floor."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter

from service.capabilities.attention.comparing import Comparing
from service.capabilities.attention.model_routes import router as model_router
from service.capabilities.attention.models import ModelPipeline
from service.capabilities.attention.room import AttentionRoom
from service.capabilities.attention.scoring import Scoring
from service.capabilities.attention.settings import AttentionSettings
from service.web.capability import Capability, Lent

router = APIRouter()
router.include_router(model_router)


@asynccontextmanager
async def open_room(lent: Lent, settings: AttentionSettings) -> AsyncIterator[AttentionRoom]:
    """Yield the room's parts; language models belong to the shared floor."""
    models = ModelPipeline(
        Scoring(lent.decoders, lent.engine, settings),
        Comparing(lent.decoders, lent.engine, settings),
    )
    yield AttentionRoom(models=models)


capability = Capability(
    name="attention",
    description="Variants of attention: one layer or a whole model, what each costs and keeps.",
    router=router,
    settings=AttentionSettings,
    open=open_room,
)
