"""Open this room on the shared floor."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from service.capabilities.geodesic.pipeline.corpora import Corpora, open_corpora
from service.capabilities.geodesic.pipeline.layouts import Layouts
from service.capabilities.geodesic.pipeline.pairwise import Pairwise
from service.capabilities.geodesic.pipeline.room import GeodesicPipeline
from service.capabilities.geodesic.pipeline.sources import Sources
from service.capabilities.geodesic.routes import router
from service.capabilities.geodesic.settings import GeodesicSettings
from service.embedding.collections import KeptTexts
from service.web.capability import Capability, Lent


@asynccontextmanager
async def open_room(lent: Lent, settings: GeodesicSettings) -> AsyncIterator[GeodesicPipeline]:
    """Yield the pipeline; snapshots that are being written are given up at the end."""
    sources = Sources(lent.embedder, lent.transforms)
    async with open_corpora(lent.objects, sources, lent.engine, settings) as corpora:
        lent.collections.offer("corpus", partial(kept_texts, corpora))
        yield GeodesicPipeline(
            pairwise=Pairwise(sources, lent.engine, settings),
            corpora=corpora,
            layouts=Layouts(corpora, lent.engine, settings),
            settings=settings,
            calibrations=lent.calibrations,
        )


async def kept_texts(corpora: Corpora, name: str) -> KeptTexts:
    """Return the texts of a corpus, for rooms that read them; an item of a vector has none."""
    corpus = await corpora.find(name)
    kept = (item for item in corpus.items if item is not None)
    return KeptTexts(
        {item.id: item.text for item in kept if item.text is not None}, corpus.making.model
    )


capability = Capability(
    name="geodesic",
    description="Distances along the manifold of texts, and the paths that explain them.",
    router=router,
    settings=GeodesicSettings,
    open=open_room,
    kernels=(
        "service.numerics.distances",
        "service.numerics.neighbours",
        "service.numerics.graphs",
        "service.numerics.sweeps",
        "service.numerics.paths",
        "service.capabilities.geodesic.numerics.updates",
    ),
)
