"""The tier in the process: least recently used goes first, and the bytes are real."""

from __future__ import annotations

import gc
import tracemalloc
from collections import OrderedDict

from hypothesis import given
from hypothesis import strategies as st

from service.stores.entry import Entry
from service.stores.memory import MemoryTier
from tests.support.vectors import entry_for, fresh_keyspace


def cost(key: bytes, dimension: int) -> int:
    tier = MemoryTier(2**30)
    tier.keep([(key, entry_for(key, dimension=dimension))])
    return tier.held_bytes


KEYS = [b"key %d" % number for number in range(6)]
operations = st.lists(
    st.tuples(st.sampled_from(["keep", "find"]), st.sampled_from(KEYS), st.integers(1, 300)),
    max_size=60,
)


@given(steps=operations, limit=st.integers(0, 6000))
def test_behaves_as_a_list_of_the_last_used(
    steps: list[tuple[str, bytes, int]], limit: int
) -> None:
    tier = MemoryTier(limit)
    model: OrderedDict[bytes, tuple[Entry, int]] = OrderedDict()
    for action, key, dimension in steps:
        if action == "find":
            found, missing = tier.find([key])
            known = model.get(key)
            assert found == [None if known is None else known[0]]
            assert missing == (known is None)
            if known is not None:
                model.move_to_end(key)
            continue
        entry = entry_for(key, dimension=dimension)
        tier.keep([(key, entry)])
        size = cost(key, dimension)
        if size <= limit:
            model.pop(key, None)
            model[key] = (entry, size)
            while sum(size for _, size in model.values()) > limit:
                model.popitem(last=False)
        assert tier.held_bytes == sum(size for _, size in model.values()) <= limit
        assert len(tier) == len(model)


def test_what_was_asked_for_last_stays_longest() -> None:
    tier = MemoryTier(3 * cost(KEYS[0], 8))
    tier.keep((key, entry_for(key)) for key in KEYS[:3])
    tier.find([KEYS[0]])
    tier.keep([(KEYS[3], entry_for(KEYS[3]))])
    found, missing = tier.find(KEYS[:4])
    assert [entry is not None for entry in found] == [True, False, True, True]
    assert missing == 1


def test_zero_bytes_hold_nothing() -> None:
    tier = MemoryTier(0)
    tier.keep([(b"key", entry_for(b"key", dimension=0))])
    assert len(tier) == 0
    assert tier.find([b"key"]) == ([None], 1)


def test_an_entry_larger_than_the_limit_disturbs_nobody() -> None:
    tier = MemoryTier(2000)
    small = entry_for(b"small")
    tier.keep([(b"small", small)])
    tier.keep([(b"large", entry_for(b"large", dimension=1000))])
    assert tier.find([b"small", b"large"]) == ([small, None], 1)


def test_accounted_bytes_are_the_bytes_the_process_pays() -> None:
    keys = fresh_keyspace().keys(f"text {number}" for number in range(5000))
    for dimension in (384, 16):
        tier = MemoryTier(2**30)
        gc.collect()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        # the key is copied: the tier is what keeps it alive, as after a request
        tier.keep((bytes(bytearray(key)), entry_for(key, dimension=dimension)) for key in keys)
        gc.collect()
        paid = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        assert abs(tier.held_bytes / paid - 1) < 0.15, (dimension, tier.held_bytes, paid)
