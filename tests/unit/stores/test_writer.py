"""The queue of writes: bounded twice, and it knows when it is drained."""

from __future__ import annotations

import asyncio

import pytest

from service.stores.writer import MOST_BYTES, MOST_VALUES, WriteQueue
from tests.support.vectors import entry_for

pytestmark = pytest.mark.anyio

SMALL = entry_for(b"small", dimension=1)


async def test_the_number_of_values_is_bounded() -> None:
    queue = WriteQueue()
    assert queue.offer([(b"key", SMALL)] * (MOST_VALUES + 5)) == 5
    assert len(queue) == MOST_VALUES
    assert queue.queued_bytes == 4 * MOST_VALUES


async def test_their_bytes_are_bounded() -> None:
    queue = WriteQueue()
    half = entry_for(b"large", dimension=MOST_BYTES // 8)
    assert queue.offer([(b"1", half), (b"2", half), (b"3", SMALL)]) == 1
    assert queue.queued_bytes == MOST_BYTES
    assert [key for key, _ in await queue.take(10)] == [b"1", b"2"]
    assert queue.queued_bytes == 0


async def test_it_is_drained_only_when_the_last_taken_was_dealt_with() -> None:
    queue = WriteQueue()
    await queue.drained()
    queue.offer([(b"%d" % number, SMALL) for number in range(3)])
    drained = asyncio.create_task(queue.drained())
    assert len(await queue.take(2)) == 2
    assert len(await queue.take(2)) == 1
    await asyncio.sleep(0)
    assert not drained.done()
    idle = asyncio.create_task(queue.take(2))  # comes back for more: the last trip is over
    await drained
    queue.offer([(b"next", SMALL)])
    assert [key for key, _ in await idle] == [b"next"]
