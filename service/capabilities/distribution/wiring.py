"""Open this room on the shared floor."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.capabilities.distribution.analysis import Analysis
from service.capabilities.distribution.pipeline import DistributionPipeline
from service.capabilities.distribution.routes import router
from service.capabilities.distribution.settings import DistributionSettings
from service.web.capability import Capability, Lent


@asynccontextmanager
async def open_room(
    lent: Lent, settings: DistributionSettings
) -> AsyncIterator[DistributionPipeline]:
    """Yield the pipeline; calibrations belong to the shared floor."""
    analysis = Analysis(
        lent.engine, lent.embedder, lent.transforms, lent.calibrations, settings=settings
    )
    yield DistributionPipeline(lent.engine, analysis, settings)


capability = Capability(
    name="distribution",
    description="Probabilities from logits, draws, merged contexts, concentration, densities.",
    router=router,
    settings=DistributionSettings,
    open=open_room,
    kernels=("service.numerics.distributions.quadrature",),
)
