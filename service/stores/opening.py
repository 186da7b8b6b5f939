"""Open the cache from settings; the one place that knows which tiers there are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.metrics import Metrics
from service.settings import Settings
from service.stores.cache import VectorCache
from service.stores.memory import MemoryTier
from service.stores.shared import SharedTier


@asynccontextmanager
async def open_cache(settings: Settings, metrics: Metrics) -> AsyncIterator[VectorCache]:
    """Yield the cache that `settings` describe and close it in the end.

    A start never waits for Redis: the first connection is opened beside it.

    Raises:
        ValueError: `redis_url` is not an address that can be understood.
    """
    shared: SharedTier | None = None
    if settings.redis_url is not None:
        # here, not above: the client's megabytes are paid only where there is a Redis
        from service.stores.redis_tier import RedisTier

        shared = RedisTier(
            settings.redis_url.get_secret_value(),
            budget_seconds=settings.redis_timeout_ms / 1000,
            ttl_seconds=settings.cache_ttl_seconds,
            metrics=metrics,
        )
    cache = VectorCache(
        memory=MemoryTier(settings.cache_memory_bytes), shared=shared, metrics=metrics
    )
    try:
        yield cache
    finally:
        await cache.aclose()
