"""Whatever waits: nothing starves, bursts the budget, is lost or runs twice."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.runtime.queueing import LengthQueue, Ticket, Waiting

OVERHEAD = 8
# Each step pushes some sequences, then takes one batch of at most so many.
steps = st.lists(
    st.tuples(st.lists(st.integers(1, 80), max_size=12), st.integers(1, 12)), max_size=12
)


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


@given(steps=steps, budget=st.integers(1, 200), dead_every=st.sampled_from([0, 2, 3]))
def test_the_promises_of_the_queue(
    loop: asyncio.AbstractEventLoop,
    steps: list[tuple[list[int], int]],
    budget: int,
    dead_every: int,
) -> None:
    queue = LengthQueue(OVERHEAD)
    waiting: dict[int, Waiting] = {}  # in order of age
    dead: set[int] = set()
    number = 0
    # at the end, enough takes to empty it
    for lengths, most in [*steps, *[([], 12)] * (12 * 12 + 1)]:
        for length in lengths:
            ticket = Ticket(1, output="mean", deadline=1e9, done=loop.create_future())
            item = Waiting([1] * length, ticket, number, float(number))
            waiting[number] = item
            if dead_every and number % dead_every == 1:
                dead.add(number)
            queue.push(item)
            number += 1
        batch = queue.take_batch(
            max_tokens=budget, max_count=most, alive=lambda item: item.position not in dead
        )
        check_batch(batch, waiting, dead, budget=budget, most=most)
        for item in batch:
            del waiting[item.position]  # KeyError: it ran twice
        # the dead are dropped as they are met; those not met still count
        left = [item for item in waiting.values() if not item.taken]
        assert queue.count == len(left)
        assert queue.tokens == sum(len(item.ids) for item in left)
        assert queue.oldest_arrival() == min((item.arrived for item in left), default=None)
    assert set(waiting) <= dead
    assert (queue.count, queue.tokens) == (0, 0)


def check_batch(
    batch: list[Waiting], waiting: dict[int, Waiting], dead: set[int], *, budget: int, most: int
) -> None:
    living = [item for position, item in waiting.items() if position not in dead]
    assert bool(batch) == bool(living)
    if not batch:
        return
    assert batch[0] is living[0], "the oldest leads"
    assert len(batch) <= most
    assert not dead.intersection(item.position for item in batch)
    longest = max(len(item.ids) for item in batch)
    assert len(batch) == 1 or len(batch) * longest <= budget
    if not dead:
        check_cheapest(batch, [item for item in living if item not in batch], budget, most)


def check_cheapest(batch: list[Waiting], rest: list[Waiting], budget: int, most: int) -> None:
    """Nobody stayed behind who fits and would lower the cost of a real token."""
    before = cost(batch)
    for item in rest:
        grown = [*batch, item]
        fits = len(grown) <= most and len(grown) * max(len(one.ids) for one in grown) <= budget
        assert not fits or cost(grown) >= before - 1e-9


def cost(batch: list[Waiting]) -> float:
    lengths = [len(item.ids) for item in batch]
    return (OVERHEAD + len(lengths) * max(lengths)) / sum(lengths)
