"""Open the cache and the storage from settings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import structlog

from service.errors import ServiceError
from service.metrics import Metrics
from service.settings import Settings
from service.stores.cache import VectorCache
from service.stores.memory import MemoryTier
from service.stores.objects import Objects
from service.stores.shared import SharedTier
from service.stores.sweep import sweep

logger = structlog.get_logger(__name__)

# A folder is proved within it, so that the first request already finds it tried.
_GRACE_SECONDS = 1.0


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


@asynccontextmanager
async def open_objects(settings: Settings) -> AsyncIterator[Objects]:
    """Yield the storage that `settings` describe; whether it works stands in its `state()`.

    A start never waits long for it: what needs no storage answers without.

    Raises:
        ValueError: `data_location` cannot be understood.
    """
    objects = Objects(settings.data_location)
    chores = asyncio.create_task(_tidy(objects), name="storage-tidy")
    await asyncio.wait({chores}, timeout=_GRACE_SECONDS)
    try:
        yield objects
    finally:
        chores.cancel()
        await asyncio.wait({chores})


async def _tidy(objects: Objects) -> None:
    await objects.prove()
    try:
        await sweep(objects, now=datetime.now(UTC))
    except ServiceError as error:  # the next start tries again
        logger.warning("storage_not_swept", detail=error.detail)
