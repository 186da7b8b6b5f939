"""Lend connections to Redis, and never lend one again whose last call did not end well.

redis-py opens the connections (address, TLS, log-in) and reads replies. The lending is ours:
taking and returning must not wait, because a request can be cancelled at every point where it
waits, and a connection with a reply still on its way would hand that reply to the next caller.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio.connection import AbstractConnection, Connection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

# More than the event loop can keep busy, fewer than a small Redis minds.
MOST_LINKS = 8

_CLIENT_NAME = "isotrope"
_POOL_OPTIONS = ("max_connections", "timeout", "decode_responses", "retry_on_error")


class Links:
    """Own up to `MOST_LINKS` connections to one Redis.

    Args:
        url: `redis://`, `rediss://` or `unix://` address, password included.
        connect_seconds: longest time to open a connection.

    Raises:
        ValueError: the address cannot be understood. The message never quotes it.
    """

    __slots__ = ("_free", "_kind", "_options", "_places", "address")

    def __init__(self, url: str, *, connect_seconds: float) -> None:
        self.address = safe_address(url)
        self._options = _options(url, connect_seconds)
        self._kind: type[AbstractConnection] = self._options.pop("connection_class", Connection)
        self._places = asyncio.Semaphore(MOST_LINKS)
        try:
            self._free = [self._kind(**self._options)]
        except (TypeError, RedisError):
            raise ValueError("redis_url carries an option that is not known") from None

    @asynccontextmanager
    async def borrow(self) -> AsyncIterator[AbstractConnection]:
        """Lend a connected link, waiting for one while all are out.

        It is used again only if the block ends well: the block must have read every reply to
        what it sent, and raise where a reply was not what it should be.
        """
        async with self._places:
            link = self._free.pop() if self._free else self._kind(**self._options)
            try:
                if not link.is_connected:
                    await link.connect()
                yield link
            except BaseException:
                await _drop(link)
                raise
            self._free.append(link)

    async def drop_free(self) -> None:
        """Close the links that nobody uses; after a failure they are likely dead as well."""
        free, self._free = self._free, []
        for link in free:
            await _drop(link)


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
