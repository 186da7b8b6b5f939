"""Concurrent fetches: one computation per key, and nobody suffers for somebody else."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import DeadlineExceeded
from service.metrics import Metrics
from service.stores.cache import Fetched, VectorCache
from service.stores.entry import Entry
from tests.support.shared_tiers import LocalSharedTier
from tests.support.vectors import Model, build, entry_for, same

pytestmark = [pytest.mark.anyio]
watched = pytest.mark.usefixtures("silence")

A, B, C = b"a", b"b", b"c"


async def turns(number: int = 5) -> None:
    """Let the other tasks run for some turns of the loop."""
    for _ in range(number):
        await asyncio.sleep(0)


async def begin(
    cache: VectorCache, model: Model, keys: Sequence[bytes], *, deadline: float | None = None
) -> asyncio.Task[Fetched]:
    """Start a fetch and return once it waits for something."""
    task = asyncio.create_task(cache.fetch(keys, model.on(keys), deadline=deadline))
    await turns()
    return task


def right(fetched: Fetched, keys: Sequence[bytes]) -> bool:
    return all(same(e, entry_for(key)) for e, key in zip(fetched.entries, keys, strict=True))


@watched
@pytest.mark.parametrize("memory", [0, 2**20])
async def test_concurrent_fetches_share_one_computation(
    metrics: Metrics, model: Model, memory: int
) -> None:
    cache = build(metrics, memory=memory)
    model.gate.clear()
    tasks = [await begin(cache, model, [A, B]) for _ in range(20)]
    assert cache.state().flights == 2
    model.gate.set()
    results = await asyncio.gather(*tasks)
    assert model.computed == [[A, B]]
    assert all(right(fetched, [A, B]) for fetched in results)
    assert [fetched.shared for fetched in results] == [0] + [2] * 19
    assert metrics.registry.get_sample_value("isotrope_cache_flights_shared_total") == 38
    assert cache.state().flights == 0


@watched
async def test_two_calls_that_need_each_others_keys_both_end(
    metrics: Metrics, model: Model
) -> None:
    cache = build(metrics)
    model.gate.clear()
    one = await begin(cache, model, [A, B])
    two = await begin(cache, model, [C, B])
    three = await begin(cache, model, [A, C])
    model.gate.set()
    results = await asyncio.gather(one, two, three)
    assert model.computed == [[A, B], [C]]
    assert [r.shared for r in results] == [0, 1, 2]
    assert right(results[2], [A, C])


@watched
async def test_waiters_survive_the_cancellation_of_their_leader(
    metrics: Metrics, model: Model
) -> None:
    cache = build(metrics)
    model.gate.clear()
    leader = await begin(cache, model, [A])
    waiters = [await begin(cache, model, [A]) for _ in range(10)]
    leader.cancel()
    await turns()
    assert leader.cancelled()
    model.gate.set()
    results = await asyncio.gather(*waiters)
    assert all(right(fetched, [A]) for fetched in results)
    # one of them took over, the others gathered behind it
    assert model.computed == [[A], [A]]
    assert sorted(fetched.computed for fetched in results) == [0] * 9 + [1]


@watched
async def test_only_the_leader_gets_its_error(metrics: Metrics, model: Model) -> None:
    cache = build(metrics)
    model.gate.clear()
    leader = await begin(cache, model, [A])
    waiter = await begin(cache, model, [A])
    model.error = RuntimeError("leader only")
    model.gate.set()
    with pytest.raises(RuntimeError, match="leader only"):
        await leader
    assert right(await waiter, [A])
    assert len(cache._flights) == 0


@watched
async def test_a_text_that_always_fails_fails_for_everybody_in_bounded_turns(
    metrics: Metrics,
) -> None:
    cache = build(metrics)
    rounds = 0

    async def compute(indices: Sequence[int]) -> Sequence[Entry]:
        nonlocal rounds
        rounds += 1
        await asyncio.sleep(0.01)
        raise RuntimeError(f"poison {len(indices)}")

    outcomes = await asyncio.gather(
        *(cache.fetch([A], compute) for _ in range(50)), return_exceptions=True
    )
    assert all(isinstance(outcome, RuntimeError) for outcome in outcomes)
    assert rounds == 50
    assert cache.state().flights == 0


@watched
async def test_a_waiter_that_leaves_disturbs_nobody(metrics: Metrics, model: Model) -> None:
    cache = build(metrics)
    model.gate.clear()
    leader = await begin(cache, model, [A])
    leaving = await begin(cache, model, [A])
    staying = await begin(cache, model, [A])
    leaving.cancel()
    await turns()
    assert leaving.cancelled()
    model.gate.set()
    assert right(await leader, [A])
    assert right(await staying, [A])
    assert model.computed == [[A]]


@watched
async def test_a_waiter_keeps_its_own_deadline(metrics: Metrics, model: Model) -> None:
    cache = build(metrics)
    model.gate.clear()
    leader = await begin(cache, model, [A])
    now = asyncio.get_running_loop().time()
    with pytest.raises(DeadlineExceeded):
        await cache.fetch([A], model.on([A]), deadline=now + 0.02)
    with pytest.raises(DeadlineExceeded):
        await cache.fetch([A], model.on([A]), deadline=now - 1)
    model.gate.set()
    assert right(await leader, [A])
    assert model.computed == [[A]]


@watched
async def test_one_text_does_not_wait_for_a_thousand(metrics: Metrics, model: Model) -> None:
    cache = build(metrics)
    many = [b"%d" % number for number in range(1000)]
    model.gate.clear()
    large = await begin(cache, model, many)
    small = await begin(cache, model, many[:1])
    equal = await begin(cache, model, many)
    assert [len(keys) for keys in model.computed] == [1000, 1]
    model.gate.set()
    assert right(await small, many[:1])
    assert right(await large, many)
    assert (await equal).shared == 1000
    assert cache.state().flights == 0


@watched
async def test_what_the_shared_tier_gave_a_cancelled_leader_serves_its_waiters(
    metrics: Metrics, model: Model
) -> None:
    shared = LocalSharedTier()
    await build(Metrics(), shared=shared).fetch([A], model.on([A]))
    model.computed.clear()
    cache = build(metrics, memory=0, shared=shared)
    model.gate.clear()
    leader = await begin(cache, model, [A, B])
    waiter = await begin(cache, model, [A])
    leader.cancel()
    fetched = await waiter
    assert right(fetched, [A])
    assert fetched.shared == 1
    assert model.computed == [[B]]


calls = st.lists(
    st.tuples(
        st.lists(st.sampled_from([b"%d" % n for n in range(6)]), min_size=1, max_size=6),
        st.sampled_from(["works", "works", "fails", "leaves", "hurries"]),
        st.integers(0, 6),
    ),
    min_size=1,
    max_size=12,
)


@settings(deadline=None)
@given(plan=calls, memory=st.sampled_from([0, 1500, 2**20]), seed=st.integers(0, 2**16))
def test_any_mixture_ends_well(
    plan: list[tuple[list[bytes], str, int]], memory: int, seed: int
) -> None:
    """Whoever neither fails, leaves nor hurries gets the right entries, whatever others do."""
    asyncio.run(play(plan, memory, Random(seed)))


async def play(plan: list[tuple[list[bytes], str, int]], memory: int, random: Random) -> None:
    complaints: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    cache = build(Metrics(), memory=memory, shared=random.choice([None, LocalSharedTier()]))

    async def one(keys: list[bytes], manner: str, delay: int) -> Fetched:
        async def compute(indices: Sequence[int]) -> Sequence[Entry]:
            await turns(random.randrange(8))
            if manner == "fails":
                raise RuntimeError(manner)
            return [entry_for(keys[index]) for index in indices]

        await turns(delay)
        deadline = loop.time() if manner == "hurries" else None
        return await cache.fetch(keys, compute, deadline=deadline)

    tasks = [asyncio.create_task(one(*call)) for call in plan]
    for task, (_, manner, _) in zip(tasks, plan, strict=True):
        if manner == "leaves":
            await turns(random.randrange(4))
            task.cancel()
    async with asyncio.timeout(10):
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    allowed = {
        "fails": RuntimeError,
        "leaves": asyncio.CancelledError,
        "hurries": DeadlineExceeded,
    }
    for (keys, manner, _), outcome in zip(plan, outcomes, strict=True):
        if isinstance(outcome, BaseException):
            assert manner in allowed, (manner, outcome)
            assert isinstance(outcome, allowed[manner]), outcome
        else:
            assert right(outcome, keys)
    assert cache.state().flights == 0
    assert complaints == []
