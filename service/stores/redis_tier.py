"""Share entries through Redis without ever depending on it.

Reading costs a request at most its budget; writing happens behind it, in one task. Whatever goes
wrong (refused, frozen, slow, out of memory, lying) is a miss, a count and a note to the breaker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from secrets import SystemRandom

import structlog
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeout

from service.metrics import Metrics
from service.stores.breaker import Breaker, BreakerState
from service.stores.codec import decode, encode
from service.stores.entry import Entry
from service.stores.links import Links
from service.stores.shared import SharedState
from service.stores.writer import WriteQueue

_log = structlog.get_logger(__name__)

# 64 SETs keep the event loop for about a millisecond.
_WRITES_PER_TRIP = 64

# Nobody waits for a write or a probe, so they get more time than a request gives: a probe has to
# bring a new connection up, over TLS perhaps, and leaves it warm for the requests after it.
_PATIENT_SECONDS = 0.5
_FLUSH_SECONDS = 1.0

_TTL_SPREAD = 0.1


class _WrongReplyError(RedisError):
    """A reply was not an answer to what was asked."""


class RedisTier:
    """Find and keep entries in one Redis; a `SharedTier`.

    Args:
        url: address, password included.
        budget_seconds: time that one `find` may take, whatever happens.
        ttl_seconds: life of a value, spread by ten per cent.
        metrics: where look-ups, drops and the breaker are shown.

    Raises:
        ValueError: the address cannot be understood.
    """

    def __init__(
        self, url: str, *, budget_seconds: float, ttl_seconds: int, metrics: Metrics
    ) -> None:
        self._links = Links(url, connect_seconds=max(budget_seconds, _PATIENT_SECONDS))
        self._budget = budget_seconds
        self._ttl_seconds = ttl_seconds
        self._reason = ""
        self._breaker_gauge = metrics.breaker_open
        lookups = metrics.cache_lookups
        self._count_hits = lookups.labels("redis", "hit").inc
        self._count_misses = lookups.labels("redis", "miss").inc
        self._count_errors = lookups.labels("redis", "error").inc
        self._count_bypassed = lookups.labels("redis", "bypassed").inc
        self._count_dropped = metrics.cache_writes_dropped.inc
        self._clock = asyncio.get_running_loop().time
        # real chance, not a seed: replicas started together must not probe together
        chance = SystemRandom()
        self._breaker = Breaker(
            clock=self._clock,
            jitter=lambda: chance.uniform(0.75, 1.25),
            on_change=self._breaker_changed,
        )
        self._queue = WriteQueue()
        self._closed = False
        self._probe: asyncio.Task[None] | None = None
        self._writer = asyncio.create_task(self._write_for_ever(), name="redis-writer")
        self._links.warm()

    async def find(
        self, keys: Sequence[bytes], *, deadline: float | None
    ) -> Sequence[Entry | None]:
        """Return what Redis holds for each key, with one MGET; None for unknown or unreachable.

        Args:
            keys: distinct keys.
            deadline: the request's, in seconds of the event loop's clock; None for none.
        """
        if not self._breaker.closed:
            self._probe_if_due()
            self._count_bypassed(len(keys))
            return [None] * len(keys)
        until = self._clock() + self._budget
        hurried = deadline is not None and deadline < until
        try:
            async with asyncio.timeout_at(deadline if hurried else until):
                entries = await self._mget(keys)
        except Exception as error:  # noqa: BLE001 - a lying server can make the parser raise anything
            self._count_errors(len(keys))
            if not hurried:
                await self._failed(error)
            return [None] * len(keys)
        self._breaker.succeeded()
        misses = entries.count(None)
        if misses:
            self._count_misses(misses)
        if misses < len(entries):
            self._count_hits(len(entries) - misses)
        return entries

    def keep(self, items: Sequence[tuple[bytes, Entry]]) -> None:
        """Queue `items` for writing; drop and count what finds no room or no Redis."""
        if self._closed or not self._breaker.closed:
            dropped = len(items)
        else:
            dropped = self._queue.offer(items)
        if dropped:
            self._count_dropped(dropped)

    def state(self) -> SharedState:
        """Return the address without its secrets, the breaker and the length of the queue."""
        return SharedState(
            address=self._links.address,
            breaker=self._breaker.state.value,
            queued_writes=len(self._queue),
            queued_bytes=self._queue.queued_bytes,
        )

    async def aclose(self) -> None:
        """Write what is queued, for one second at most, and close every connection."""
        self._closed = True
        try:
            async with asyncio.timeout(_FLUSH_SECONDS):
                await self._queue.drained()
        except TimeoutError:
            self._count_dropped(len(self._queue))
        tasks = [self._writer] if self._probe is None else [self._writer, self._probe]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await self._links.aclose()
        await asyncio.sleep(0)  # lets the closed sockets go before the loop may end

    async def _mget(self, keys: Sequence[bytes]) -> list[Entry | None]:
        async with self._links.borrow() as link:
            await link.send_packed_command(link.pack_command("MGET", *keys), check_health=False)
            reply = await link.read_response(disable_decoding=True)
            if type(reply) is not list or len(reply) != len(keys):
                raise _WrongReplyError(f"{len(keys)} values were asked for")
            entries = [
                None if value is None else decode(value, key=key)
                for key, value in zip(keys, reply, strict=True)
            ]
            # One bad value can be one damaged value. Not one good among them means that this
            # link delivers the replies of somebody else.
            if entries.count(None) == len(entries) and reply.count(None) < len(reply):
                raise _WrongReplyError("no value belongs to its key")
            return entries

    async def _write_for_ever(self) -> None:
        while True:
            items = await self._queue.take(_WRITES_PER_TRIP)
            written = 0
            try:
                if self._breaker.closed:
                    async with asyncio.timeout(_PATIENT_SECONDS):
                        written = await self._set(items)
            except Exception as error:  # noqa: BLE001 - the writer outlives whatever it meets
                await self._failed(error)
            finally:  # also when cancelled by `aclose`
                self._count_dropped(len(items) - written)

    async def _set(self, items: Sequence[tuple[bytes, Entry]]) -> int:
        """Write `items` with one pipeline of SET EX and return how many Redis took."""
        taken = 0
        async with self._links.borrow() as link:
            commands = [
                ("SET", key, encode(entry, key=key), "EX", spread_ttl(self._ttl_seconds, key))
                for key, entry in items
            ]
            await link.send_packed_command(link.pack_commands(commands), check_health=False)
            for _ in items:
                taken += await _took(link)
        return taken

    def _probe_if_due(self) -> None:
        if not self._closed and self._breaker.begin_probe():
            self._probe = asyncio.create_task(self._try_again(), name="redis-probe")

    async def _try_again(self) -> None:
        alive = False
        try:
            async with asyncio.timeout(_PATIENT_SECONDS), self._links.borrow() as link:
                await link.send_packed_command(link.pack_command("PING"), check_health=False)
                alive = await link.read_response(disable_decoding=True) == b"PONG"
                if not alive:
                    raise _WrongReplyError("PING was not answered with PONG")
        except Exception as error:  # noqa: BLE001 - whatever it is, Redis is not well yet
            self._reason = type(error).__name__
        finally:
            self._breaker.end_probe(succeeded=alive)

    async def _failed(self, error: Exception) -> None:
        self._reason = type(error).__name__
        self._breaker.failed(timed_out=isinstance(error, TimeoutError | RedisTimeout))
        await self._links.drop_free()

    def _breaker_changed(self, state: BreakerState, pause_seconds: float) -> None:
        opened = state is BreakerState.OPEN
        self._breaker_gauge.set(1 if opened else 0)
        address = self._links.address
        if opened:
            _log.warning(
                "redis_left_alone",
                address=address,
                reason=self._reason,
                seconds=round(pause_seconds, 1),
            )
        else:
            _log.info("redis_in_use_again", address=address)


async def _took(link: AbstractConnection) -> bool:
    try:
        return bool(await link.read_response(disable_decoding=True) == b"OK")
    except ResponseError:
        return False  # out of memory or read-only: reading may still be well


def spread_ttl(ttl_seconds: int, key: bytes) -> int:
    """Return the life of `key` in seconds: `ttl_seconds`, spread by ten per cent.

    The spread comes from the digest at the end of the key: even over keys, and the same in every
    replica, so that two replicas that write one value agree.
    """
    share = int(key[-4:], 16) / 0xFFFF
    return max(1, round(ttl_seconds * (1 - _TTL_SPREAD + 2 * _TTL_SPREAD * share)))
