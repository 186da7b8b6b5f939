"""Open this room on the shared floor."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.capabilities.tokenization.collection import Collection
from service.capabilities.tokenization.pipeline import TokenizationPipeline
from service.capabilities.tokenization.routes import router
from service.capabilities.tokenization.settings import TokenizationSettings
from service.stores.versions import Versions
from service.web.capability import Capability, Lent


@asynccontextmanager
async def open_room(
    lent: Lent, settings: TokenizationSettings
) -> AsyncIterator[TokenizationPipeline]:
    """Yield the pipeline, its default tokenizer open: the first request finds it warm."""
    tokenizers = Collection(lent.engine, Versions(lent.objects, "tokenizers"), settings)
    pipeline = TokenizationPipeline(tokenizers, lent.engine, settings)
    await pipeline.warm()
    yield pipeline


capability = Capability(
    name="tokenization",
    description="Segmentations of texts: best, sampled, ranked, measured, continued.",
    router=router,
    settings=TokenizationSettings,
    open=open_room,
    kernels=(
        "service.numerics.lattice.per_text",
        "service.numerics.lattice.cover",
        "service.numerics.lattice.merging",
        "service.numerics.lattice.normaliser",
    ),
)
