"""Check what every shared tier promises, and offer one that needs no server.

`LocalSharedTier` passes the same checks as the one over Redis; it stands in for it where a test
is about the cache above, not about the network.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from service.stores.codec import decode, encode
from service.stores.entry import Entry
from service.stores.keys import Keyspace
from service.stores.shared import SharedState, SharedTier
from tests.support.vectors import entry_for, same


class LocalSharedTier:
    """Keep encoded entries in a dictionary, as if somewhere else."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self.asked: list[list[bytes]] = []
        self.closed = False

    async def find(
        self, keys: Sequence[bytes], *, deadline: float | None
    ) -> Sequence[Entry | None]:
        """Return what the dictionary holds, after letting others run as a network would."""
        del deadline  # a dictionary is never late
        self.asked.append(list(keys))
        await asyncio.sleep(0)
        return [decode(self.values.get(key), key=key) for key in keys]

    def keep(self, items: Sequence[tuple[bytes, Entry]]) -> None:
        """Take the entries at once."""
        if not self.closed:
            self.values.update((key, encode(entry, key=key)) for key, entry in items)

    def state(self) -> SharedState:
        """Return that all is well."""
        return SharedState(address="local", breaker="closed", queued_writes=0, queued_bytes=0)

    async def aclose(self) -> None:
        """Take nothing more."""
        self.closed = True


async def settle(tier: SharedTier) -> None:
    """Return when nothing waits to be written and the last write has had time to end."""
    while tier.state().queued_writes:
        await asyncio.sleep(0.005)
    await asyncio.sleep(0.05)


async def check_keeps_and_finds(tier: SharedTier, space: Keyspace) -> None:
    """Check that kept entries come back bit for bit, in order, between unknown ones."""
    keys = space.keys(f"text {number}" for number in range(200))
    known = keys[::2]
    tier.keep([(key, entry_for(key, dimension=384)) for key in known])
    await settle(tier)
    found = await tier.find(keys, deadline=None)
    assert len(found) == len(keys)
    for key, entry in zip(keys, found, strict=True):
        if key in known:
            assert entry is not None
            assert same(entry, entry_for(key, dimension=384))
            assert not entry.vector.flags.writeable
        else:
            assert entry is None


async def check_last_value_wins(tier: SharedTier, space: Keyspace) -> None:
    """Check that an entry replaces the one before it."""
    key = space.key("twice")
    for other in (b"first", b"second"):
        tier.keep([(key, entry_for(other))])
        await settle(tier)
    (found,) = await tier.find([key], deadline=None)
    assert found is not None
    assert same(found, entry_for(b"second"))


async def check_takes_nothing_after_close(tier: SharedTier, space: Keyspace) -> None:
    """Check that keeping after the close is harmless."""
    await tier.aclose()
    key = space.key("late")
    tier.keep([(key, entry_for(key))])
    assert tier.state().queued_writes == 0


CHECKS = (check_keeps_and_finds, check_last_value_wins, check_takes_nothing_after_close)
