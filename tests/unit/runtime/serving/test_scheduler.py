"""Sequences join and leave a running batch, and none of them can tell."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import (
    ClientLeft,
    DeadlineExceeded,
    Draining,
    Internal,
    Overloaded,
    PayloadTooLarge,
)
from service.runtime.serving.jobs import Job
from service.runtime.serving.scheduler import Lane, Limits, Scheduler
from tests.fakes.steppers import FakeAuthor, FakeStepper

LIMITS = Limits(workers=2, slots=4, piece=4, cache_bytes=10_000, waiting=64)
SECONDS = 10.0


@dataclass
class House:
    """Hold a scheduler over fake steppers, and a gate that holds every step back."""

    scheduler: Scheduler
    gate: threading.Event = field(default_factory=threading.Event)
    steppers: list[FakeStepper] = field(default_factory=list)

    def lane(self, token_bytes: int = 1) -> Lane:
        def open_stepper(slots: int) -> FakeStepper:
            self.steppers.append(FakeStepper(slots, gate=self.gate))
            return self.steppers[-1]

        return Lane(token_bytes, open_stepper)

    def start(self, lane: Lane, *prompts: Sequence[int], count: int = 5, **rest: object) -> Job:
        author = FakeAuthor(count)
        arrays = tuple(np.array(prompt, dtype=np.int64) for prompt in prompts)
        job = Job(arrays, count, "direct", author, time.monotonic() + SECONDS)
        for name, value in rest.items():
            setattr(job, name, value)
        self.scheduler.submit(lane, job)
        return job

    def write(self, lane: Lane, *prompts: Sequence[int], **rest: object) -> list[int]:
        return written(self.start(lane, *prompts, **rest))  # type: ignore[arg-type]


def written(job: Job) -> list[int]:
    """Return the tokens of a job once it is at its end."""
    author = job.author
    assert isinstance(author, FakeAuthor)
    assert author.done.wait(SECONDS)
    if author.error is not None:
        raise author.error
    return author.ids


def settle(house: House) -> None:
    """Wait until no job runs."""
    limit = time.monotonic() + SECONDS
    while house.scheduler.use().running:
        assert time.monotonic() < limit
        time.sleep(0.001)


@contextmanager
def opened(**changes: int) -> Iterator[House]:
    house = House(Scheduler(replace(LIMITS, **changes)))
    house.gate.set()
    try:
        yield house
    finally:
        house.gate.set()
        house.scheduler.close()


def solo(prompt: Sequence[int], count: int = 5) -> list[int]:
    with opened(workers=1) as house:
        return house.write(house.lane(), prompt, count=count)


def test_a_prompt_goes_in_by_pieces_and_then_token_by_token() -> None:
    with opened(workers=1) as house:
        house.write(house.lane(), range(10), count=3)
        assert house.steppers[0].calls == [
            ("extend", 0, 4), ("extend", 0, 4), ("extend", 0, 2), ("step", (0,)), ("step", (0,)),
        ]  # fmt: skip


prompts = st.lists(
    st.tuples(st.lists(st.integers(0, 2), min_size=1, max_size=14), st.integers(1, 8)),
    min_size=1,
    max_size=10,
)


@settings(max_examples=25, deadline=None)
@given(prompts, st.randoms(use_true_random=False))
def test_tokens_are_the_same_alone_among_others_and_in_another_order(
    wanted: list[tuple[list[int], int]], random: object
) -> None:
    alone = [solo(prompt, count) for prompt, count in wanted]
    order = list(range(len(wanted)))
    random.shuffle(order)  # type: ignore[attr-defined]
    with opened() as house:
        lane = house.lane()
        jobs = {
            place: house.start(lane, wanted[place][0], count=wanted[place][1]) for place in order
        }
        assert [written(jobs[place]) for place in range(len(wanted))] == alone
        again = [house.write(lane, prompt, count=count) for prompt, count in wanted]
        assert again == alone


def test_a_kept_prefix_is_computed_once_and_changes_nothing() -> None:
    prompt, other = list(range(11)), [*range(9), 30, 31]
    with opened(workers=1) as house:
        lane = house.lane()
        first = house.write(lane, prompt)
        settle(house)
        calls = len(house.steppers[0].calls)
        assert house.write(lane, prompt) == first
        assert house.steppers[0].calls[calls] == ("extend", 0, 3)
        settle(house)
        assert house.write(lane, other) == solo(other)
        assert house.scheduler.use().reused_tokens == 16
        settle(house)
        whole = house.start(lane, prompt[:8], count=5)  # the last token is always computed
        assert written(whole) == solo(prompt[:8])
        assert house.scheduler.use().reused_tokens == 20
        settle(house)
        house.write(lane, prompt, positions="stretched")
        assert house.scheduler.use().reused_tokens == 20


def test_a_kept_prefix_is_found_on_another_worker() -> None:
    with opened(workers=3, slots=1) as house:
        lane = house.lane()
        house.gate.clear()
        jobs = [house.start(lane, [number] * 9) for number in range(3)]
        house.gate.set()
        for job in jobs:
            written(job)
        settle(house)
        house.write(lane, [2] * 9)
        assert house.scheduler.use().reused_tokens == 8


def test_a_long_prompt_and_running_texts_take_turns() -> None:
    with opened(workers=1) as house:
        lane = house.lane()
        house.gate.clear()
        short = house.start(lane, [1], count=12)
        long = house.start(lane, range(24), count=1)
        house.gate.set()
        written(short), written(long)
        kinds = "".join(str(call[0])[0] for call in house.steppers[0].calls)
        assert kinds.startswith("es" + "es" * 5)


def test_prompts_take_turns_too() -> None:
    with opened(workers=1) as house:
        lane = house.lane()
        house.gate.clear()
        jobs = [house.start(lane, [number] * 12, count=1) for number in range(3)]
        house.gate.set()
        for job in jobs:
            written(job)
        slots = [int(str(call[1])) for call in house.steppers[0].calls]
        # the first may have begun before the others came
        assert sorted(slots[:3]) in ([0, 1, 2], [0, 0, 1])
        assert sorted(slots) == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_rows_of_one_job_step_together_in_a_deck_of_their_own() -> None:
    with opened(workers=1) as house:
        lane = house.lane()
        rows = [[1, 2, 3, 4, 5], [6], [7] * 9, [8, 8], [9], [10]]
        both = [house.start(lane, *rows), house.start(lane, [1], [2])]
        texts = [written(job) for job in both]
        assert ("step", (0, 1, 2, 3, 4, 5)) in house.steppers[0].calls
        settle(house)
        assert [stepper.closed for stepper in house.steppers] == [True, True]
        assert house.scheduler.use().steppers == 0
        assert house.write(lane, *rows) == texts[0]
        assert house.write(lane, [1], [2]) == texts[1]


def test_what_does_not_fit_waits_and_what_never_could_is_refused() -> None:
    with opened(workers=1, cache_bytes=100) as house:
        lane = house.lane(token_bytes=2)
        with pytest.raises(PayloadTooLarge, match="51 tokens"):
            house.start(lane, range(46), count=5)
        house.gate.clear()
        large = house.start(lane, range(30), count=10)
        second = house.start(lane, [1] * 10, count=10)
        small = house.start(lane, [1], count=2)  # would fit, and must not overtake
        use = house.scheduler.use()
        assert (use.running, use.waiting, use.promised_bytes) == (1, 2, 80)
        house.gate.set()
        assert [len(written(job)) for job in (large, second, small)] == [10, 10, 2]
        settle(house)
        assert house.scheduler.use().promised_bytes == 0


def test_kept_prefixes_give_way() -> None:
    with opened(workers=1, cache_bytes=40) as house:
        lane = house.lane()
        for number in range(3):
            house.write(lane, [number] * 12, count=1)
            settle(house)
        use = house.scheduler.use()
        assert use.kept_bytes <= 40
        assert house.steppers[0].held_tokens == use.kept_bytes
        house.write(lane, [5] * 30, count=2)
        settle(house)
        assert house.scheduler.use().kept_bytes == 28  # seven pieces; the older prefixes are gone


def test_a_full_queue_refuses() -> None:
    with opened(workers=1, slots=2, waiting=3) as house:
        lane = house.lane()
        house.gate.clear()
        jobs = [house.start(lane, [1]) for _ in range(5)]
        with pytest.raises(Overloaded) as caught:
            house.start(lane, [1])
        assert caught.value.retry_after_seconds is not None
        assert caught.value.retry_after_seconds >= 1
        house.gate.set()
        for job in jobs:
            written(job)


def test_a_failing_step_ends_its_texts_and_no_other() -> None:
    with opened(workers=1) as house:
        lane = house.lane()
        assert house.write(lane, [1])
        house.steppers[0].errors = [Overloaded("no")]
        with pytest.raises(Overloaded):
            house.write(lane, [1])
        house.steppers[0].errors = [ZeroDivisionError("oh")]
        with pytest.raises(Internal, match="step of the model failed"):
            house.write(lane, [1])
        assert house.write(lane, [1]) == solo([1])


def test_who_leaves_or_is_late_frees_the_slot() -> None:
    with opened(workers=1, slots=1) as house:
        lane = house.lane()
        house.gate.clear()
        first = house.start(lane, [1], count=1000)
        waiting = house.start(lane, [2])
        last = house.start(lane, [3])
        house.scheduler.leave(waiting)
        assert house.scheduler.use().waiting == 1
        house.scheduler.leave(first)
        house.gate.set()
        with pytest.raises(ClientLeft):
            written(first)
        assert written(last) == solo([3])
        with pytest.raises(DeadlineExceeded):
            house.write(lane, [1], deadline=time.monotonic() - 1)


def test_closing_ends_what_runs_and_what_waits() -> None:
    with opened(workers=1, slots=1) as house:
        lane = house.lane()
        jobs = [house.start(lane, [1], count=9000), house.start(lane, [1]), house.start(lane, [1])]
        house.scheduler.close()
        for job in jobs[1:]:
            with pytest.raises(Draining):
                written(job)
        with pytest.raises(Draining):
            house.start(lane, [1])
        assert house.steppers[0].closed


def test_a_lane_ends_with_its_last_job() -> None:
    with opened(workers=1, slots=1) as house:
        lane, other = house.lane(), house.lane()
        house.gate.clear()
        jobs = [house.start(lane, [1]), house.start(lane, [1])]
        house.scheduler.retire(lane)
        house.gate.set()
        assert written(jobs[0]) == written(jobs[1]) == solo([1])
        settle(house)
        assert [stepper.closed for stepper in house.steppers] == [True]
        assert house.scheduler.use().steppers == 0
        assert house.write(other, [1]) == solo([1])
        settle(house)
        house.scheduler.retire(other)
        assert house.scheduler.use().steppers == 0


@settings(max_examples=10, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 20), st.integers(0, 3)), min_size=5, max_size=30))
def test_drops_at_random_give_everything_back(plan: list[tuple[int, int]]) -> None:
    with opened() as house:
        lane = house.lane()
        for length, action in plan:
            job = house.start(lane, *[[length] * length] * (1 + action % 2), count=6)
            if action > 1:
                house.scheduler.leave(job)
        settle(house)
        use = house.scheduler.use()
        assert (use.running, use.waiting, use.promised_bytes) == (0, 0, 0)
        held = sum(stepper.held_tokens for stepper in house.steppers if not stepper.closed)
        assert held == use.kept_bytes
        assert len(house.write(lane, [1, 2, 3])) == 5


def test_nobody_starves() -> None:
    with opened(workers=1, slots=2, waiting=500) as house:
        lane = house.lane()
        jobs = [
            house.start(lane, [number % 5] * (1 + number % 13), count=3) for number in range(200)
        ]
        assert all(len(written(job)) == 3 for job in jobs)
