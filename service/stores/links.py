"""Lend connections to Redis, and never lend one again whose last call did not end well.

redis-py opens the connections (address, TLS, log-in) and reads replies. The lending is ours:
taking and returning must not wait, because a request can be cancelled at every point where it
waits, and a connection with a reply still on its way would hand that reply to the next caller.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    SSLConnection,
    parse_url,
)
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

# More than the event loop can keep busy, fewer than a small Redis minds.
MOST_LINKS = 8

_CLIENT_NAME = "isotrope"
_POOL_OPTIONS = ("max_connections", "timeout", "decode_responses", "retry_on_error")


class Links:
    """Own up to `MOST_LINKS` connections to one Redis.

    A caller never opens a connection itself: a task does, and the caller waits for that one or
    for any other to come free. So a caller whose time is up does not break off a TLS handshake
    that is longer than its budget, and the link is there for the next.

    Args:
        url: `redis://`, `rediss://` or `unix://` address, password included.
        connect_seconds: longest time to open a connection.

    Raises:
        ValueError: the address cannot be understood. The message never quotes it.
    """

    __slots__ = (
        "_connect_seconds", "_free", "_kind", "_opening", "_options", "_owned", "_tls", "_waiting",
        "address",
    )  # fmt: skip

    def __init__(self, url: str, *, connect_seconds: float) -> None:
        self.address = safe_address(url)
        self._connect_seconds = connect_seconds
        self._options = _options(url, connect_seconds)
        self._kind: type[AbstractConnection] = self._options.pop("connection_class", Connection)
        self._free: list[AbstractConnection] = []
        self._owned = 0  # free, lent and being opened
        self._opening: set[asyncio.Task[None]] = set()
        self._waiting: deque[asyncio.Future[AbstractConnection]] = deque()
        try:
            trial = self._kind(**self._options)
        except (TypeError, RedisError):
            raise ValueError("redis_url carries an option that is not known") from None
        self._tls = trial.ssl_context if isinstance(trial, SSLConnection) else None
        if self._tls is not None:
            # Reading the certificates holds the event loop for tens of milliseconds: once, now,
            # before there are requests.
            try:
                self._tls.get()
            except (OSError, RedisError):
                raise ValueError("redis_url names certificates that cannot be read") from None

    @asynccontextmanager
    async def borrow(self) -> AsyncIterator[AbstractConnection]:
        """Lend a connected link, waiting for one while all are out.

        It is used again only if the block ends well: the block must have read every reply to
        what it sent, and raise where a reply was not what it should be.
        """
        link = self._free.pop() if self._free else await self._wait_for_link()
        try:
            yield link
        except BaseException:
            await _drop(link)
            self._lose()
            raise
        self._hand_on(link)

    def warm(self) -> None:
        """Begin to open a link, so that the first caller finds one."""
        if not self._owned:
            self._open()

    async def drop_free(self) -> None:
        """Close the links that nobody uses; after a failure they are likely dead as well."""
        free, self._free = self._free, []
        self._owned -= len(free)
        for link in free:
            await _drop(link)

    async def aclose(self) -> None:
        """Close what is free and give up what is being opened."""
        for task in self._opening:
            task.cancel()
        if self._opening:
            await asyncio.wait(self._opening)
        await self.drop_free()

    async def _wait_for_link(self) -> AbstractConnection:
        # one is being opened for each that waits already
        if self._owned < MOST_LINKS and len(self._waiting) >= len(self._opening):
            self._open()
        turn: asyncio.Future[AbstractConnection] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            return await turn
        except BaseException:
            if turn in self._waiting:
                self._waiting.remove(turn)
            elif turn.done() and not turn.cancelled() and turn.exception() is None:
                self._hand_on(turn.result())  # it came at the moment the caller left
            raise

    def _hand_on(self, link: AbstractConnection) -> None:
        if not link.is_connected:
            self._lose()
            return
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(link)
                return
        self._free.append(link)

    def _lose(self) -> None:
        self._owned -= 1
        if self._waiting:  # whoever waits may have counted on the link that is lost
            self._open()

    def _open(self) -> None:
        self._owned += 1
        task = asyncio.create_task(self._connect(), name="redis-connect")
        self._opening.add(task)
        # for a task that is cancelled before it has begun
        task.add_done_callback(self._opening.discard)

    async def _connect(self) -> None:
        link = self._kind(**self._options)
        if self._tls is not None and isinstance(link, SSLConnection):
            link.ssl_context = self._tls
        try:
            async with asyncio.timeout(self._connect_seconds):
                await link.connect()  # type: ignore[no-untyped-call]
        except BaseException as error:
            await _drop(link)
            self._owned -= 1
            self._forget_task()
            if not isinstance(error, Exception):
                raise
            self._disappoint(error)
        else:
            self._forget_task()
            self._hand_on(link)

    def _forget_task(self) -> None:
        # at once, not when the task is found done: a caller counts on every task that stands here
        task = asyncio.current_task()
        if task is not None:
            self._opening.discard(task)

    def _disappoint(self, error: Exception) -> None:
        """Tell the one who waited longest, or all if there is no other link to wait for."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_exception(error)
                if self._owned:
                    return


async def _drop(link: AbstractConnection) -> None:
    # closing what is broken may fail; the link is not used again in any event
    with suppress(RedisError, OSError, RuntimeError):
        # nowait: closing without a farewell, which does not suspend, so it cannot be cancelled
        await link.disconnect(nowait=True)


def safe_address(url: str) -> str:
    """Return where `url` points, without user, password and options.

    Example: `rediss://user:secret@cache:6380/2?db=3` gives `rediss://cache:6380/2`.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "unreadable"
    if parts.scheme == "unix":
        return f"unix://{parts.path}"
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}{'' if port is None else f':{port}'}{parts.path}"


def _options(url: str, connect_seconds: float) -> dict[str, Any]:
    try:
        options: dict[str, Any] = dict(parse_url(url))
    except ValueError:
        # the parser's own words can quote a piece of the password
        raise ValueError(
            "redis_url is not a redis://, rediss:// or unix:// address; "
            "percent-encode the special characters of its password"
        ) from None
    for name in _POOL_OPTIONS:
        options.pop(name, None)
    # Ours win over the address: one clock per call, held by the caller, and no second try.
    # RESP2 because RESP3 lets a server push messages between replies.
    options.update(
        protocol=2,
        client_name=_CLIENT_NAME,
        driver_info=None,
        socket_timeout=None,
        socket_connect_timeout=connect_seconds,
        retry_on_timeout=False,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
    )
    return options
