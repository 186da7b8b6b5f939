"""Open a real batcher, with real threads, over a session that a test controls."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from service.metrics import Metrics
from service.runtime.batcher import Batcher, Lane, Run
from tests.fakes.sessions import FakeSession


@dataclass(frozen=True, slots=True)
class Bench:
    """Hold a batcher with one lane, and what a test looks at."""

    batcher: Batcher
    lane: Lane
    session: FakeSession
    metrics: Metrics

    async def submit(
        self, *sequences: Sequence[int], output: str = "mean", seconds: float = 30.0
    ) -> Run:
        """Submit sequences that may take so many seconds."""
        return await self.batcher.submit(
            self.lane,
            list(map(list, sequences)),
            output=output,
            deadline=time.monotonic() + seconds,
        )

    def refused(self, reason: str) -> float:
        """Return how often work was refused or given up for that reason."""
        return (
            self.metrics.registry.get_sample_value("isotrope_rejected_total", {"reason": reason})
            or 0.0
        )

    def gauge(self, name: str) -> float | None:
        """Return an instrument of the lane."""
        return self.metrics.registry.get_sample_value(name, {"model": self.lane.name})


@asynccontextmanager
async def open_bench(
    *, executors: int = 2, max_batch_tokens: int = 256, max_queued_tokens: int = 10_000
) -> AsyncIterator[Bench]:
    """Lend a bench; at the end every run is let go and the threads have ended."""
    metrics = Metrics()
    session = FakeSession()
    batcher = Batcher(
        executors=executors,
        max_batch_tokens=max_batch_tokens,
        run_overhead_tokens=8,
        max_queued_tokens=max_queued_tokens,
        metrics=metrics,
    )
    try:
        yield Bench(batcher, batcher.add_lane("fake", session, metrics), session, metrics)
    finally:
        session.release()
        await batcher.aclose()
