"""One fetch: order, repeats, counts, tiers."""

from __future__ import annotations

import pytest

from service.errors import Internal
from service.metrics import Metrics
from service.stores.cache import Fetched
from tests.support.shared_tiers import CHECKS, LocalSharedTier
from tests.support.vectors import Model, build, entry_for, fresh_keyspace, same

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("silence")]

A, B, C, D = KEYS = [b"a", b"b", b"c", b"d"]


def counts(fetched: Fetched) -> tuple[int, ...]:
    """Return (memory, redis, computed, shared, repeated) after checking their sum."""
    found = (
        fetched.memory_hits,
        fetched.redis_hits,
        fetched.computed,
        fetched.shared,
        fetched.repeated,
    )
    assert sum(found) == len(fetched.entries)
    assert fetched.cache_seconds >= 0
    return found


def sample(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(name, labels) or 0.0


async def test_entries_come_in_the_order_asked_and_each_key_is_computed_once(
    metrics: Metrics, model: Model
) -> None:
    cache = build(metrics)
    asked = [C, A, C, B, A, A]
    fetched = await cache.fetch(asked, model.on(asked))
    assert model.computed == [[C, A, B]]
    assert counts(fetched) == (0, 0, 3, 0, 3)
    for key, entry in zip(asked, fetched.entries, strict=True):
        assert same(entry, entry_for(key))


async def test_what_was_computed_is_a_hit_and_the_same_bytes(
    metrics: Metrics, model: Model
) -> None:
    cache = build(metrics)
    first = await cache.fetch([A, B], model.on([A, B]))
    second = await cache.fetch([B, D, A], model.on([B, D, A]))
    assert model.computed == [[A, B], [D]]
    assert counts(second) == (2, 0, 1, 0, 0)
    assert second.entries[0] is first.entries[1]
    third = await cache.fetch([A, A], model.on([A, A]))
    assert counts(third) == (2, 0, 0, 0, 0)
    assert sample(metrics, "isotrope_cache_lookups_total", tier="memory", outcome="hit") == 4
    assert sample(metrics, "isotrope_cache_lookups_total", tier="memory", outcome="miss") == 3
    held = sample(metrics, "isotrope_cache_memory_bytes")
    assert held == cache.state().memory_bytes > 0
    assert cache.state().memory_entries == 3


async def test_nothing_asked_is_nothing_done(metrics: Metrics, model: Model) -> None:
    fetched = await build(metrics).fetch([], model.on([]))
    assert counts(fetched) == (0, 0, 0, 0, 0)
    assert model.computed == []


async def test_without_memory_everything_is_computed_again(metrics: Metrics, model: Model) -> None:
    cache = build(metrics, memory=0)
    for _ in range(2):
        assert counts(await cache.fetch([A, B], model.on([A, B]))) == (0, 0, 2, 0, 0)
    assert cache.state().memory_bytes == 0


async def test_the_shared_tier_is_asked_once_and_only_for_what_memory_lacks(
    metrics: Metrics, model: Model
) -> None:
    shared = LocalSharedTier()
    await build(metrics, shared=shared).fetch([A, B], model.on([A, B]))
    shared.asked.clear()
    cache = build(Metrics(), shared=shared)  # another process, as it were
    await cache.fetch([A], model.on([A]))
    fetched = await cache.fetch([A, C, B, C], model.on([A, C, B, C]))
    assert shared.asked == [[A], [C, B]]
    assert model.computed == [[A, B], [C]]
    assert counts(fetched) == (1, 1, 1, 0, 1)
    again = await cache.fetch(KEYS[:3], model.on(KEYS[:3]))
    assert counts(again) == (3, 0, 0, 0, 0)
    assert cache.state().shared is not None
    await cache.aclose()
    assert shared.closed


async def test_a_damaged_shared_value_is_computed_and_replaced(
    metrics: Metrics, model: Model
) -> None:
    shared = LocalSharedTier()
    await build(metrics, shared=shared).fetch([A], model.on([A]))
    good = shared.values[A]
    shared.values[A] = good[:-1] + bytes([good[-1] ^ 1])
    fetched = await build(Metrics(), shared=shared).fetch([A], model.on([A]))
    assert same(fetched.entries[0], entry_for(A))
    assert counts(fetched) == (0, 0, 1, 0, 0)
    assert shared.values[A] == good


async def test_a_computation_that_fails_is_told_and_leaves_nothing_behind(
    metrics: Metrics, model: Model
) -> None:
    cache = build(metrics)
    model.error = RuntimeError("the model is on fire")
    with pytest.raises(RuntimeError, match="on fire"):
        await cache.fetch([A], model.on([A]))
    assert cache.state().flights == 0
    assert counts(await cache.fetch([A], model.on([A]))) == (0, 0, 1, 0, 0)


async def test_a_wrong_number_of_entries_is_our_own_fault(metrics: Metrics) -> None:
    async def compute(indices: object) -> list[object]:
        del indices
        return []

    cache = build(metrics)
    with pytest.raises(Internal, match="1 texts were to be computed, 0 came back"):
        await cache.fetch([A], compute)  # type: ignore[arg-type]
    assert cache.state().flights == 0


@pytest.mark.parametrize("check", CHECKS)
async def test_the_local_tier_keeps_the_promises_of_a_shared_tier(check: object) -> None:
    await check(LocalSharedTier(), fresh_keyspace())  # type: ignore[operator]
