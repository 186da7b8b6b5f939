"""Hold the values that wait to be written to Redis, bounded in number and bytes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

from service.stores.entry import Entry

MOST_VALUES = 4096
MOST_BYTES = 8 * 2**20


class WriteQueue:
    """Queue entries for one writer; what finds no room is dropped and counted by the caller."""

    __slots__ = ("_idle", "_items", "_waiting", "queued_bytes")

    def __init__(self) -> None:
        self._items: deque[tuple[bytes, Entry]] = deque()
        self._waiting = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self.queued_bytes = 0

    def __len__(self) -> int:
        return len(self._items)

    def offer(self, items: Iterable[tuple[bytes, Entry]]) -> int:
        """Queue the items that find room and return how many did not."""
        dropped = 0
        for key, entry in items:
            size = entry.vector.nbytes
            if len(self._items) >= MOST_VALUES or self.queued_bytes + size > MOST_BYTES:
                dropped += 1
                continue
            self._items.append((key, entry))
            self.queued_bytes += size
        if self._items:
            self._waiting.set()
            self._idle.clear()
        return dropped

    async def take(self, most: int) -> list[tuple[bytes, Entry]]:
        """Wait for items and return up to `most` of them; the one before counts as written."""
        if not self._items:
            self._waiting.clear()
            self._idle.set()
            await self._waiting.wait()
        taken = [self._items.popleft() for _ in range(min(most, len(self._items)))]
        self.queued_bytes -= sum(entry.vector.nbytes for _, entry in taken)
        return taken

    async def drained(self) -> None:
        """Return once all that was queued has been taken and dealt with."""
        await self._idle.wait()
