"""The queue of one model: who runs with whom, and what it counts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from service.runtime.queueing import LengthQueue, Ticket, Waiting


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


class Fill:
    """Push sequences of given lengths, one tick apart, and remember them."""

    def __init__(self, loop: asyncio.AbstractEventLoop, overhead: int = 8) -> None:
        self.queue = LengthQueue(overhead)
        self._loop = loop
        self._now = 0.0

    def push(self, *lengths: int) -> list[Waiting]:
        made = []
        for length in lengths:
            self._now += 1
            ticket = Ticket(1, output="mean", deadline=1e9, done=self._loop.create_future())
            item = Waiting([7] * length, ticket, 0, self._now)
            self.queue.push(item)
            made.append(item)
        return made

    def take(self, *, tokens: int = 64, count: int = 1000) -> list[int]:
        batch = self.queue.take_batch(max_tokens=tokens, max_count=count, alive=lambda _: True)
        return [len(item.ids) for item in batch]


@pytest.fixture
def fill(loop: asyncio.AbstractEventLoop) -> Fill:
    return Fill(loop)


def test_an_empty_queue_gives_nothing(fill: Fill) -> None:
    assert fill.queue.oldest_arrival() is None
    assert fill.take() == []


def test_the_nearest_lengths_join_the_oldest(fill: Fill) -> None:
    # the worked example of the class: budget 64 = 5 rows of 12, or 4 of 13
    fill.push(12, 7, 40, 12, 9, 13, 12, 12, 12)
    assert fill.take() == [12] * 5
    assert fill.take() == [7, 9, 13]
    assert fill.take() == [40]


def test_at_equal_distance_the_cheaper_joins(fill: Fill) -> None:
    # (8 + 2·12) / 22 = 1.45 with the longer, (8 + 2·10) / 18 = 1.56 with the shorter
    fill.push(10, 12, 8)
    assert fill.take(tokens=24) == [10, 12]


def test_shorter_ones_fill_what_a_longer_one_would_burst(fill: Fill) -> None:
    # 11 does not fit: 2·11 > 21; with 8: (8 + 2·10) / 18 = 1.56 < (8 + 10) / 10
    fill.push(10, 11, 8)
    assert fill.take(tokens=21) == [10, 8]
    assert fill.take() == [11]


def test_padding_dearer_than_another_run_is_not_done(fill: Fill) -> None:
    # (8 + 2·40) / 44 = 2.0 together, (8 + 40) / 40 = 1.2 alone
    fill.push(40, 4)
    assert fill.take(tokens=1000) == [40]
    assert fill.take(tokens=1000) == [4]


def test_a_dear_run_is_shared_by_unlike_lengths(loop: asyncio.AbstractEventLoop) -> None:
    fill = Fill(loop, overhead=1000)
    fill.push(40, 4)
    assert fill.take(tokens=1000) == [40, 4]


def test_the_same_length_goes_by_age(fill: Fill) -> None:
    first, second, third = fill.push(5, 5, 5)
    batch = fill.queue.take_batch(max_tokens=10, max_count=9, alive=lambda _: True)
    assert batch == [first, second]
    assert fill.queue.oldest_arrival() == third.arrived


def test_one_text_over_the_budget_runs_alone(fill: Fill) -> None:
    fill.push(300, 300, 2)
    assert fill.take() == [300]
    assert fill.take() == [300]
    assert fill.take() == [2]


def test_no_more_than_asked_for(fill: Fill) -> None:
    fill.push(*[4] * 10)
    assert fill.take(count=3) == [4] * 3
    assert fill.take(count=1) == [4]
    assert fill.queue.count == 6


def test_a_sequence_without_ids_does_no_harm(fill: Fill) -> None:
    fill.push(0, 0, 3)
    assert sorted(fill.take() + fill.take() + fill.take()) == [0, 0, 3]
    assert fill.take() == []


def test_dead_ones_are_dropped_and_no_longer_counted(fill: Fill) -> None:
    first, second, third, fourth = fill.push(5, 6, 6, 5)
    dead = {id(first), id(second)}
    batch = fill.queue.take_batch(
        max_tokens=64, max_count=9, alive=lambda item: id(item) not in dead
    )
    assert batch == [third, fourth]
    assert (fill.queue.tokens, fill.queue.count) == (0, 0)
    assert fill.queue.oldest_arrival() is None


def test_a_queue_of_dead_ones_gives_nothing_and_can_be_used_again(fill: Fill) -> None:
    fill.push(5, 9, 30)
    assert fill.queue.take_batch(max_tokens=64, max_count=9, alive=lambda _: False) == []
    assert (fill.queue.tokens, fill.queue.count) == (0, 0)
    fill.push(5)
    assert fill.take() == [5]


def test_age_is_the_first_not_yet_taken(fill: Fill) -> None:
    _, long, _ = fill.push(5, 50, 5)
    assert fill.take() == [5, 5]
    assert fill.queue.oldest_arrival() == long.arrived
