"""Let concurrent requests for the same text share one computation.

A flight is one request's computation of the keys that nobody else is computing. Another request
that needs one of those keys waits for the flight instead of computing. A flight always lands:
with entries, or without (its request failed or left), and then a waiter computes for itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from service.errors import DeadlineExceeded
from service.stores.entry import Entry

# A request joins flights up to this many keys, or up to this many times its own: one short text
# must not wait for a thousand others to save its own few milliseconds.
_JOIN_KEYS = 32
_JOIN_RATIO = 4


class Flight:
    """Hold the outcome of one computation and the requests that wait for it."""

    __slots__ = ("_waiting", "entries", "landed", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.entries: dict[bytes, Entry] = {}
        self.landed = False
        self._waiting: list[asyncio.Future[None]] = []

    async def wait(self, deadline: float | None) -> None:
        """Return once the flight has landed.

        Args:
            deadline: the waiter's own, in seconds of the event loop's clock; None waits on.

        Raises:
            DeadlineExceeded: the waiter's time is over first.
        """
        if self.landed:
            return
        # one future per waiter, so that a waiter that leaves disturbs no other
        landing = asyncio.get_running_loop().create_future()
        self._waiting.append(landing)
        try:
            async with asyncio.timeout_at(deadline):
                await landing
        except TimeoutError:
            raise DeadlineExceeded(
                "The deadline passed while another request was computing the same text."
            ) from None
        finally:
            if not self.landed:
                self._waiting.remove(landing)

    def land(self) -> None:
        """Wake everybody who waits; `entries` is final from here on."""
        self.landed = True
        for landing in self._waiting:
            if not landing.done():
                landing.set_result(None)
        self._waiting.clear()


class FlightBoard:
    """Know which flight computes which key right now."""

    __slots__ = ("_by_key",)

    def __init__(self) -> None:
        self._by_key: dict[bytes, Flight] = {}

    def __len__(self) -> int:
        return len(self._by_key)

    def joinable(self, key: bytes, *, wanted: int) -> Flight | None:
        """Return the flight that computes `key`, if waiting for it is fair.

        Args:
            key: the key in question.
            wanted: how many keys the asking request has to get.
        """
        flight = self._by_key.get(key)
        if flight is None or flight.size > max(_JOIN_KEYS, _JOIN_RATIO * wanted):
            return None
        return flight

    def depart(self, keys: Iterable[bytes], *, size: int) -> Flight:
        """Announce that the caller computes `keys`; it must call `arrive` in any event."""
        flight = Flight(size)
        for key in keys:
            self._by_key.setdefault(key, flight)
        return flight

    def arrive(self, flight: Flight, keys: Iterable[bytes]) -> None:
        """Take the flight off the board and wake its waiters."""
        for key in keys:
            if self._by_key.get(key) is flight:
                del self._by_key[key]
        flight.land()
