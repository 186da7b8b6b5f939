"""Open this room on the shared floor."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.capabilities.summarization.journal import Journal
from service.capabilities.summarization.pipeline import SummarizationPipeline
from service.capabilities.summarization.room import Opinions
from service.capabilities.summarization.routes import router
from service.capabilities.summarization.sets import ReviewSets
from service.capabilities.summarization.settings import SummarizationSettings
from service.capabilities.summarization.shelf import Shelf
from service.web.capability import Capability, Lent


@asynccontextmanager
async def open_room(lent: Lent, settings: SummarizationSettings) -> AsyncIterator[Opinions]:
    """Yield the room; it keeps nothing of its own open."""
    shelf = Shelf(settings.kept_bytes)
    given = SummarizationPipeline(lent.embedder, lent.engine, settings, shelf)
    stored = ReviewSets(Journal(lent.objects), given, lent.engine, settings, shelf)
    yield Opinions(given, stored)


capability = Capability(
    name="summarization",
    description="What reviewers say, in sentences of the reviews, with the evidence.",
    router=router,
    settings=SummarizationSettings,
    open=open_room,
    kernels=(
        "service.numerics.neighbours",
        "service.numerics.graphs",
        "service.numerics.paths",
        "service.capabilities.summarization.numerics.repair",
    ),
)
