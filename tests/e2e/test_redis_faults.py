"""Redis dead, frozen, slow, cut, lying or restarted: requests never notice more than a miss."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis
from redis.exceptions import RedisError
from structlog.testing import capture_logs

from service.metrics import Metrics
from service.settings import Settings
from service.stores.cache import Fetched, VectorCache
from service.stores.codec import encode
from service.stores.links import MOST_LINKS, Links
from service.stores.opening import open_cache
from service.stores.redis_tier import RedisTier
from tests.support.fault_proxy import Fault, FaultProxy
from tests.support.redis_servers import RedisServer, binaries, running
from tests.support.shared_tiers import settle
from tests.support.vectors import Model, entry_for, fresh_keyspace, same

pytestmark = [pytest.mark.anyio]

KINDS = list(binaries())
# How long a test waits for something that takes two to three seconds, on a very busy machine.
PATIENCE_SECONDS = 40.0


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with running(request.param) as started:
        yield started


@pytest.fixture(scope="module")
def steady() -> Iterator[RedisServer]:
    """Give one server that the tests do not harm: they harm the way to it."""
    with running(KINDS[0]) as started:
        yield started


@pytest.fixture
async def proxy(steady: RedisServer) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(steady.host, steady.port, seed=7) as between:
        yield between


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@asynccontextmanager
async def cache_at(
    url: str, metrics: Metrics, *, timeout_ms: int = 50
) -> AsyncIterator[VectorCache]:
    settings = Settings(redis_url=SecretStr(url), redis_timeout_ms=timeout_ms, cache_memory_bytes=0)
    async with open_cache(settings, metrics) as cache:
        yield cache


async def fetch(cache: VectorCache, keys: Sequence[bytes]) -> Fetched:
    """Fetch `keys` and check every entry against the only right answer."""
    fetched = await cache.fetch(keys, Model().on(keys))
    for key, entry in zip(keys, fetched.entries, strict=True):
        assert same(entry, entry_for(key))
    return fetched


def breaker(cache: VectorCache) -> str:
    state = cache.state().shared
    assert state is not None
    return state.breaker


def outcome(metrics: Metrics, name: str) -> float:
    labels = {"tier": "redis", "outcome": name}
    return metrics.registry.get_sample_value("isotrope_cache_lookups_total", labels) or 0.0


async def until_hit(cache: VectorCache, keys: Sequence[bytes]) -> None:
    """Fetch until everything comes from Redis again."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await fetch(cache, keys)).redis_hits < len(keys):
            await asyncio.sleep(0.05)


async def test_nobody_listens(metrics: Metrics, steady: RedisServer) -> None:
    proxy = FaultProxy(steady.host, steady.port)
    await proxy.accept()
    await proxy.refuse()
    keys = fresh_keyspace().keys("ab")
    with capture_logs() as logs:
        async with cache_at(proxy.url, metrics) as cache:
            for _ in range(30):
                assert (await fetch(cache, keys)).computed == 2
            assert breaker(cache) == "open"
    assert [line["event"] for line in logs] == ["redis_left_alone"]
    assert outcome(metrics, "error") <= 10
    assert outcome(metrics, "bypassed") >= 50
    assert (metrics.registry.get_sample_value("isotrope_cache_writes_dropped_total") or 0) == 60


async def test_frozen_costs_two_requests_and_comes_back(
    server: RedisServer, metrics: Metrics
) -> None:
    keys = fresh_keyspace().keys("ab")
    with capture_logs() as logs:
        async with cache_at(server.url, metrics) as cache:
            await until_hit(cache, keys)
            before = outcome(metrics, "error")
            server.freeze()
            for _ in range(20):
                assert (await fetch(cache, keys)).redis_hits == 0
            assert breaker(cache) == "open"
            assert outcome(metrics, "error") - before == 2 * len(keys)
            server.thaw()
            await until_hit(cache, keys)
            assert breaker(cache) == "closed"
    assert [line["event"] for line in logs][-2:] == ["redis_left_alone", "redis_in_use_again"]


async def test_frozen_under_concurrent_load(server: RedisServer, metrics: Metrics) -> None:
    space = fresh_keyspace()
    async with cache_at(server.url, metrics) as cache:
        await until_hit(cache, space.keys("ab"))
        server.freeze()
        results = await asyncio.gather(
            *(fetch(cache, [space.key(f"{number}")]) for number in range(100))
        )
        assert all(result.computed == 1 for result in results)
        assert breaker(cache) == "open"
        server.thaw()
        await until_hit(cache, space.keys("ab"))


async def test_killed_and_started_again(server: RedisServer, metrics: Metrics) -> None:
    keys = fresh_keyspace().keys("ab")
    async with cache_at(server.url, metrics) as cache:
        await until_hit(cache, keys)
        server.kill()
        for _ in range(10):
            assert (await fetch(cache, keys)).computed == 2
        server.start()
        await until_hit(cache, keys)


async def test_a_restart_between_two_requests_is_one_miss(
    server: RedisServer, metrics: Metrics
) -> None:
    keys = fresh_keyspace().keys("ab")
    async with cache_at(server.url, metrics, timeout_ms=5000) as cache:
        # several connections, all of which the restart leaves stale
        await asyncio.gather(*(fetch(cache, [key]) for key in fresh_keyspace().keys("cdefgh")))
        server.kill()
        server.start()
        await fetch(cache, keys)
        await until_hit(cache, keys)
        assert breaker(cache) == "closed"


@pytest.mark.parametrize("fault", [Fault.BLACK_HOLE, Fault.CUT, Fault.GARBLE, Fault.NOISE])
async def test_a_broken_way_gives_right_answers_and_heals(
    proxy: FaultProxy, metrics: Metrics, fault: Fault
) -> None:
    space = fresh_keyspace()
    async with cache_at(proxy.url, metrics) as cache:
        await until_hit(cache, space.keys("abc"))
        proxy.fault = fault
        for _ in range(10):
            await asyncio.gather(*(fetch(cache, space.keys("abc")) for _ in range(5)))
        proxy.fault = Fault.NONE
        await until_hit(cache, space.keys("abc"))


async def test_garbled_replies_one_after_another_never_reach_an_answer(
    proxy: FaultProxy, metrics: Metrics
) -> None:
    """Each reply alone, past the breaker: hundreds of different damages, none accepted."""
    keys = fresh_keyspace().keys(f"text {number}" for number in range(4))
    refused = 0
    for attempt in range(150):
        tier = RedisTier(proxy.url, budget_seconds=1, ttl_seconds=60, metrics=metrics)
        proxy.fault = Fault.NONE
        if attempt == 0:
            tier.keep([(key, entry_for(key)) for key in keys])
            await settle(tier)
        assert None not in await tier.find(keys, deadline=None)
        proxy.fault = Fault.NOISE if attempt % 5 == 0 else Fault.GARBLE
        for key, entry in zip(keys, await tier.find(keys, deadline=None), strict=True):
            refused += entry is None
            assert entry is None or same(entry, entry_for(key))
        proxy.fault = Fault.NONE
        await tier.aclose()
    assert refused > 150


async def test_slow_replies_are_misses_and_never_somebody_elses(
    proxy: FaultProxy, metrics: Metrics
) -> None:
    space = fresh_keyspace()
    async with cache_at(proxy.url, metrics) as cache:
        await until_hit(cache, space.keys("abcdefgh"))
        proxy.fault, proxy.delay_seconds = Fault.DELAY, 0.08
        for _ in range(4):
            await asyncio.gather(*(fetch(cache, [key]) for key in space.keys("abcdefgh")))
        assert outcome(metrics, "error") > 0
        proxy.fault = Fault.NONE
        await until_hit(cache, space.keys("abcdefgh"))


async def test_a_cancelled_call_leaves_no_reply_for_the_next(
    proxy: FaultProxy, metrics: Metrics
) -> None:
    space = fresh_keyspace()
    tier = RedisTier(proxy.url, budget_seconds=10, ttl_seconds=60, metrics=metrics)
    keys = space.keys(f"text {number}" for number in range(20))
    tier.keep([(key, entry_for(key)) for key in keys])
    await settle(tier)
    for turn, key in enumerate(keys[:-1]):
        proxy.fault, proxy.delay_seconds = Fault.DELAY, 0.03
        leaving = asyncio.create_task(tier.find([key], deadline=None))
        await asyncio.sleep(0.002 * turn)
        leaving.cancel()
        await asyncio.wait([leaving])
        proxy.fault = Fault.NONE
        (found,) = await tier.find([keys[turn + 1]], deadline=None)
        assert found is not None, "the connection of the cancelled call was used again"
        assert same(found, entry_for(keys[turn + 1]))
    assert outcome(metrics, "error") == 0
    assert tier.state().breaker == "closed"
    assert tier._links._owned == len(tier._links._free), "a link was lost for ever"
    await tier.aclose()


async def test_a_connection_that_is_one_reply_late_is_given_up(
    proxy: FaultProxy, metrics: Metrics
) -> None:
    keys = fresh_keyspace().keys(f"text {number}" for number in range(10))
    async with cache_at(proxy.url, metrics, timeout_ms=5000) as cache:
        await until_hit(cache, keys)
        proxy.fault = Fault.STUTTER
        await fetch(cache, keys[:1])
        proxy.fault = Fault.NONE
        # the late reply is refused, and costs its connection: the next call is well again
        assert [(await fetch(cache, [key])).redis_hits for key in keys[1:4]] == [0, 1, 1]


async def test_opening_that_takes_longer_than_the_budget_still_gets_there(
    proxy: FaultProxy, metrics: Metrics
) -> None:
    keys = fresh_keyspace().keys("ab")
    proxy.fault, proxy.delay_seconds = Fault.DELAY, 0.2
    async with cache_at(proxy.url, metrics, timeout_ms=20) as cache:
        assert (await fetch(cache, keys)).computed == 2
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not cache._shared._links._free:  # type: ignore[union-attr]
                await asyncio.sleep(0.02)
        proxy.fault = Fault.NONE
        await until_hit(cache, keys)
        assert breaker(cache) == "closed"


async def test_a_connection_that_comes_as_its_caller_leaves_is_not_lost(
    steady: RedisServer,
) -> None:
    links = Links(steady.url, connect_seconds=5)
    async with links.borrow() as link:
        pass
    links._free.clear()
    links._owned = MOST_LINKS  # all others are out, so the next caller has to wait

    async def borrow() -> None:
        async with links.borrow():
            pass

    leaving = asyncio.create_task(borrow())
    await asyncio.sleep(0)
    links._hand_on(link)
    leaving.cancel()
    await asyncio.wait([leaving])
    assert leaving.cancelled()
    assert links._free == [link]
    await links.aclose()


async def test_closed_connections_make_room_for_new_ones(steady: RedisServer) -> None:
    links = Links(steady.url, connect_seconds=5)
    for _ in range(2 * MOST_LINKS):
        async with asyncio.timeout(PATIENCE_SECONDS), links.borrow() as link:
            assert link.is_connected
        await links.drop_free()
    assert links._owned == 0
    await links.aclose()


async def test_the_client_library_drops_the_connection_of_a_cancelled_call(
    proxy: FaultProxy,
) -> None:
    """Ours relies on the same: a read that is cancelled closes its connection (redis-py)."""
    async with Redis.from_url(proxy.url, max_connections=1) as client:
        await client.mset({"left": "left", "right": "right"})
        for _ in range(5):
            proxy.fault, proxy.delay_seconds = Fault.DELAY, 0.05
            leaving = asyncio.ensure_future(client.get("left"))
            await asyncio.sleep(0.02)
            leaving.cancel()
            await asyncio.wait([leaving])
            proxy.fault = Fault.NONE
            assert await client.get("right") == b"right"


async def test_the_deadline_of_a_request_is_not_held_against_redis(
    proxy: FaultProxy, metrics: Metrics
) -> None:
    space = fresh_keyspace()
    loop = asyncio.get_running_loop()
    async with cache_at(proxy.url, metrics, timeout_ms=5000) as cache:
        await until_hit(cache, space.keys("ab"))
        proxy.fault, proxy.delay_seconds = Fault.DELAY, 0.2
        for _ in range(8):
            keys = space.keys("ab")
            fetched = await cache.fetch(keys, Model().on(keys), deadline=loop.time() + 0.005)
            assert fetched.computed == 2
        assert breaker(cache) == "closed"


async def test_a_server_that_answers_with_somebody_elses_values(metrics: Metrics) -> None:
    space = fresh_keyspace()
    stolen = encode(entry_for(b"other"), key=space.key("other"))

    async def lie(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while request := await reader.read(65536):
            if b"MGET" in request:
                writer.write(b"*1\r\n$%d\r\n%s\r\n" % (len(stolen), stolen))
            else:
                writer.write(b"+PONG\r\n" if b"PING" in request else b"+OK\r\n")
            await writer.drain()
        writer.close()

    liar = await asyncio.start_server(lie, "127.0.0.1", 0)
    url = f"redis://127.0.0.1:{liar.sockets[0].getsockname()[1]}"
    async with cache_at(url, metrics) as cache:
        for number in range(12):
            assert (await fetch(cache, [space.key(f"{number}")])).computed == 1
        assert breaker(cache) == "open"
    liar.close()
    assert outcome(metrics, "hit") == 0


async def test_the_proxy_really_harms(proxy: FaultProxy) -> None:
    """Guards the tests above: a proxy that lets everything through would prove nothing."""
    async with Redis.from_url(proxy.url, socket_timeout=0.2, retry=None) as client:
        assert await client.ping()
        for fault in (Fault.BLACK_HOLE, Fault.CUT, Fault.NOISE):
            proxy.fault = fault
            with pytest.raises((RedisError, OSError)):
                await client.ping()
            proxy.fault = Fault.NONE
            await client.connection_pool.disconnect()
