"""Keep the entries used last in the process, bounded in bytes."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Iterable, Sequence

from service.stores.entry import Entry

# What one entry costs beside its key and its numbers: the array object, the Entry, the node and
# the slots of the ordered dictionary (measured with tracemalloc; a test compares them again).
_OVERHEAD_BYTES = 300


class MemoryTier:
    """Hold entries up to a number of bytes and give up the one unused for longest.

    Args:
        limit_bytes: real memory that may be held, overhead included; 0 holds nothing.
    """

    __slots__ = ("_entries", "held_bytes", "limit_bytes")

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, keys: Sequence[bytes]) -> tuple[list[Entry | None], int]:
        """Return what is held for each key, in order, and how many keys are not held."""
        entries = self._entries
        found: list[Entry | None] = []
        missing = 0
        for key in keys:
            entry = entries.get(key)
            if entry is None:
                missing += 1
            else:
                entries.move_to_end(key)
            found.append(entry)
        return found, missing

    def keep(self, items: Iterable[tuple[bytes, Entry]]) -> None:
        """Hold `items`, giving up older ones; one that is larger than the limit is not held."""
        for key, entry in items:
            cost = _cost(key, entry)
            if cost > self.limit_bytes:
                continue
            replaced = self._entries.pop(key, None)
            if replaced is not None:
                self.held_bytes -= _cost(key, replaced)
            self._entries[key] = entry
            self.held_bytes += cost
        while self.held_bytes > self.limit_bytes:
            oldest, given_up = self._entries.popitem(last=False)
            self.held_bytes -= _cost(oldest, given_up)


def _cost(key: bytes, entry: Entry) -> int:
    return sys.getsizeof(key) + entry.vector.nbytes + _OVERHEAD_BYTES
