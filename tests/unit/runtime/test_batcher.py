"""Batches form by themselves: right rows, full batches, admission in tokens, an orderly end."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest

from service.errors import DeadlineExceeded, Draining, Internal, InvalidModelOutput, Overloaded
from service.numerics.dtypes import Vector32
from service.runtime.batcher import Run, pad
from tests.fakes.batchers import Bench, open_bench
from tests.fakes.sessions import FakeSession, eventually, row_for

pytestmark = pytest.mark.anyio


def same_rows(run: Run, expected: list[Vector32]) -> bool:
    return len(run.rows) == len(expected) and all(
        np.array_equal(row, wanted) for row, wanted in zip(run.rows, expected, strict=True)
    )


async def busy(bench: Bench, count: int) -> list[asyncio.Task[Run]]:
    """Occupy so many executors with one-token runs that do not end."""
    bench.session.hold()
    before = len(bench.session.batches)
    tasks = []
    for number in range(count):
        tasks.append(asyncio.create_task(bench.submit([900 + number])))
        await bench.session.runs_began(before + len(tasks))
    return tasks


async def queued(bench: Bench, *sequences: list[int], seconds: float = 30.0) -> asyncio.Task[Run]:
    """Submit while every executor is busy, and return once the work waits."""
    before = bench.lane.queue.count
    task = asyncio.create_task(bench.submit(*sequences, seconds=seconds))
    await eventually(lambda: bench.lane.queue.count == before + len(sequences))
    return task


def test_rows_are_padded_right_and_masked() -> None:
    ids, mask = pad([[5, 6, 7], [8]])
    assert ids.tolist() == [[5, 6, 7], [8, 0, 0]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert ids.dtype == np.int64
    assert mask.dtype == np.int64


async def test_rows_come_back_in_the_order_asked() -> None:
    async with open_bench(max_batch_tokens=16) as bench:
        sequences = [[1, 2, 3], [4], [5, 6], [7] * 40, [8]]
        run = await bench.submit(*sequences)
        assert same_rows(run, [row_for(ids) for ids in sequences])
        assert all(row.base is None for row in run.rows), "a view would keep the batch alive"
        assert run.queue_seconds >= 0
        assert run.run_seconds > 0


async def test_a_lone_request_runs_at_once() -> None:
    async with open_bench() as bench:
        bench.session.hold()
        task = asyncio.create_task(bench.submit([1, 2]))
        await bench.session.runs_began(1)  # nobody else came, and it runs
        bench.session.release()
        assert same_rows(await task, [row_for([1, 2])])


async def test_what_came_meanwhile_runs_together() -> None:
    async with open_bench(executors=1, max_batch_tokens=256) as bench:
        first = await busy(bench, 1)
        tasks = [await queued(bench, [number] * 4) for number in range(64)]
        bench.session.release()
        for number, task in enumerate(tasks):
            assert same_rows(await task, [row_for([number] * 4)])
        await asyncio.gather(*first)
        assert [len(batch) for batch in bench.session.batches] == [1, 64]


async def test_the_budget_bounds_padded_tokens() -> None:
    async with open_bench(executors=1, max_batch_tokens=64) as bench:
        first = await busy(bench, 1)
        sequences = [[1] * length for length in (3, 60, 17, 5, 200, 16, 4, 30, 31, 3)]
        task = await queued(bench, *sequences)
        bench.session.release()
        await asyncio.gather(task, *first)
        shapes = list(zip(map(len, bench.session.batches), bench.session.widths, strict=True))
        assert all(count * width <= 64 or count == 1 for count, width in shapes)
        assert sum(count for count, _ in shapes) == 11
        assert shapes[1] == (4, 5)  # a fifth would be of length 16: 5 x 16 > 64


async def test_idle_executors_share_evenly() -> None:
    async with open_bench(executors=2, max_batch_tokens=1000) as bench:
        bench.session.hold()
        # both executors wait already, so each takes half
        await eventually(lambda: bench.batcher._idle == 2)
        task = asyncio.create_task(bench.submit(*([number, 1] for number in range(64))))
        await bench.session.runs_began(2)
        assert sorted(len(batch) for batch in bench.session.batches) == [32, 32]
        bench.session.release()
        assert same_rows(await task, [row_for([number, 1]) for number in range(64)])


async def test_lanes_take_turns_by_age() -> None:
    async with open_bench(executors=1) as bench:
        first = await busy(bench, 1)
        other = FakeSession()
        lane = bench.batcher.add_lane("other", other, bench.metrics)
        later = await queued(bench, [1])
        task = asyncio.create_task(bench.batcher.submit(lane, [[2]], output="cls", deadline=1e12))
        await eventually(lambda: lane.queue.count == 1)
        last = await queued(bench, [3])
        bench.session.release()
        assert same_rows(await task, [row_for([2], "cls")])
        await asyncio.gather(later, last, *first)
        # [1] was the oldest and took its lane-mate [3] along
        assert bench.session.batches == [[[900]], [[1], [3]]]
        assert other.batches == [[[2]]]


async def test_outputs_of_one_batch_do_not_mix() -> None:
    async with open_bench(executors=1) as bench:
        first = await busy(bench, 1)
        names = ("mean", "cls_raw", "mean_raw", "cls")
        tasks = [asyncio.create_task(bench.submit([4, 9], output=name)) for name in names]
        await eventually(lambda: bench.lane.queue.count == len(names))
        bench.session.release()
        for name, task in zip(names, tasks, strict=True):
            assert same_rows(await task, [row_for([4, 9], name)])
        await asyncio.gather(*first)
        assert len(bench.session.batches) == 2


async def test_admission_counts_tokens() -> None:
    async with open_bench(executors=1, max_queued_tokens=100) as bench:
        tasks = await busy(bench, 1)
        tasks.append(await queued(bench, [1] * 60))
        with pytest.raises(Overloaded) as caught:
            await bench.submit([2] * 41)
        assert caught.value.retry_after_seconds is not None
        assert caught.value.retry_after_seconds >= 1
        with pytest.raises(Overloaded):  # one rule for one text and for many
            await bench.submit(*[[2]] * 41)
        tasks.append(await queued(bench, [3] * 40))
        assert bench.refused("overloaded") == 2
        assert bench.gauge("isotrope_queued_tokens") == 100
        bench.session.release()
        await asyncio.gather(*tasks)
        assert bench.gauge("isotrope_queued_tokens") == 0
        assert bench.gauge("isotrope_queued_texts") == 0


async def test_a_request_above_the_limit_is_let_in_when_nothing_waits() -> None:
    async with open_bench(executors=1, max_queued_tokens=100) as bench:
        tasks = await busy(bench, 1)
        tasks.append(await queued(bench, [1] * 500))
        with pytest.raises(Overloaded):
            await bench.submit([1] * 500)
        bench.session.release()
        await asyncio.gather(*tasks)


async def test_the_door_shuts_and_opens_again() -> None:
    async with open_bench(executors=1, max_queued_tokens=100, max_batch_tokens=8) as bench:
        tasks = await busy(bench, 1)
        tasks.append(await queued(bench, [1] * 95))
        bench.batcher.knock()  # nothing was refused yet
        with pytest.raises(Overloaded):
            await bench.submit([1] * 10)
        with pytest.raises(Overloaded) as caught:
            bench.batcher.knock()
        assert caught.value.retry_after_seconds is not None
        bench.session.release()
        await asyncio.gather(*tasks)
        bench.batcher.knock()
        tasks = await busy(bench, 1)
        tasks.append(await queued(bench, [1] * 95))
        bench.batcher.knock()  # nearly full again, and nothing was refused since
        bench.session.release()
        await asyncio.gather(*tasks)


async def test_the_door_stays_shut_above_nine_tenths() -> None:
    async with open_bench(executors=1, max_queued_tokens=100) as bench:
        tasks = await busy(bench, 1)
        tasks.append(await queued(bench, [1] * 89))
        gone = await queued(bench, [1, 1])
        with pytest.raises(Overloaded):
            await bench.submit([1] * 10)
        with pytest.raises(Overloaded):
            bench.batcher.knock()
        assert bench.lane.queue.tokens == 91
        bench.session.release()
        await asyncio.gather(gone, *tasks)
        bench.batcher.knock()


async def test_nobody_waits_past_the_deadline() -> None:
    async with open_bench(executors=1) as bench:
        first = await busy(bench, 1)
        late = await queued(bench, [1, 2, 3], seconds=0.02)
        with pytest.raises(DeadlineExceeded):
            await late
        stays = await queued(bench, [4])
        bench.session.release()
        await asyncio.gather(stays, *first)
        assert [[4]] in bench.session.batches
        assert not any([1, 2, 3] in batch for batch in bench.session.batches)
        assert bench.lane.queue.tokens == 0


async def test_a_deadline_that_passed_before_is_no_overload() -> None:
    async with open_bench() as bench:
        with pytest.raises(DeadlineExceeded):
            await bench.submit([1], seconds=-1)


async def test_a_wait_that_would_outlast_the_deadline_is_refused_at_once() -> None:
    async with open_bench(executors=1) as bench:
        tasks = await busy(bench, 1)
        tasks.append(await queued(bench, [1] * 50))
        bench.batcher._tokens_per_second = 10.0  # 50 waiting tokens: 5 seconds
        with pytest.raises(Overloaded) as caught:
            await bench.submit([2], seconds=4)
        assert caught.value.retry_after_seconds == 5.0
        tasks.append(await queued(bench, [2], seconds=6))
        bench.session.release()
        await asyncio.gather(*tasks)


async def test_work_of_a_caller_who_left_is_dropped() -> None:
    async with open_bench(executors=1) as bench:
        first = await busy(bench, 1)
        leaver = await queued(bench, [1, 2], [3])
        stayer = await queued(bench, [4])
        leaver.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaver
        bench.session.release()
        assert same_rows(await stayer, [row_for([4])])
        await asyncio.gather(*first)
        assert bench.session.batches == [[[900]], [[4]]]
        assert bench.refused("departed") == 2
        assert bench.gauge("isotrope_queued_tokens") == 0


async def test_a_caller_may_leave_while_its_work_runs() -> None:
    async with open_bench(executors=1) as bench:
        bench.session.hold()
        leaver = asyncio.create_task(bench.submit([1]))
        await bench.session.runs_began(1)
        leaver.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaver
        bench.session.release()
        assert same_rows(await bench.submit([2]), [row_for([2])])


async def test_a_failed_run_concerns_its_callers_only() -> None:
    async with open_bench(executors=1) as bench:
        first = await busy(bench, 1)
        bench.session.errors = [ValueError("the graph broke")]
        together = [await queued(bench, [1, 1]), await queued(bench, [2, 2])]
        bench.session.release()
        for task in together:
            with pytest.raises(Internal, match="the graph broke"):
                await task
        await asyncio.gather(*first)
        assert same_rows(await bench.submit([3]), [row_for([3])])


async def test_a_run_that_fails_drops_what_waits_of_its_request() -> None:
    async with open_bench(executors=1, max_batch_tokens=4) as bench:
        first = await busy(bench, 1)
        bench.session.errors = [ValueError("the graph broke")]
        task = await queued(bench, *[[number] * 4 for number in range(1, 6)])
        bench.session.release()
        with pytest.raises(Internal):
            await task
        await asyncio.gather(*first)
        await eventually(lambda: bench.lane.queue.count == 0)
        assert same_rows(await bench.submit([3]), [row_for([3])])


async def test_numbers_that_are_not_finite_are_refused() -> None:
    async with open_bench(executors=1) as bench:
        bench.session.mad_ids = {666}
        with pytest.raises(InvalidModelOutput):
            await bench.submit([1, 666], [1, 1])
        assert same_rows(await bench.submit([1]), [row_for([1])])


async def test_instruments_count_real_and_padded_tokens() -> None:
    async with open_bench(executors=1) as bench:
        first = await busy(bench, 1)
        task = await queued(bench, [1, 1, 1, 1], [2, 2], [3])
        bench.session.release()
        await asyncio.gather(task, *first)
        # the answers leave before the run is counted
        await eventually(lambda: bench.gauge("isotrope_run_seconds_count") == 3)
        # 4 and 2 share a run, (8 + 2·4) / 6 = 2.7; the third would make it (8 + 3·4) / 7 = 2.9
        await eventually(lambda: bench.gauge("isotrope_tokens_total") == 1 + 6 + 1)
        await eventually(lambda: bench.gauge("isotrope_padding_tokens_total") == 2 * 4 - 6)
        assert bench.gauge("isotrope_batch_texts_sum") == 1 + 3
        assert bench.gauge("isotrope_batch_tokens_sum") == 1 + 8 + 1
        assert bench.lane.last_success is not None


async def test_the_end_finishes_what_is_queued() -> None:
    async with open_bench(executors=2, max_batch_tokens=8) as bench:
        tasks = await busy(bench, 2)
        tasks += [await queued(bench, [number] * 4) for number in range(1, 9)]
        closing = asyncio.create_task(bench.batcher.aclose())
        await eventually(lambda: bench.batcher._stopping)
        with pytest.raises(Draining):
            await bench.submit([1])
        assert not closing.done()
        bench.session.release()
        await closing
        for number, task in enumerate(tasks[2:], start=1):
            assert same_rows(await task, [row_for([number] * 4)])
        await asyncio.gather(*tasks)
        names = {thread.name for thread in bench.batcher._threads if thread.is_alive()}
        assert names == set()
        with pytest.raises(Draining):
            await bench.submit([1])
        await bench.batcher.aclose()  # a second time does no harm


async def test_threads_carry_names_and_stay() -> None:
    async with open_bench(executors=2) as bench:
        bench.session.errors = [MemoryError("no room"), ValueError("no")]
        for _ in range(2):
            with pytest.raises(Internal):
                await bench.submit([1])
        assert all(thread.is_alive() for thread in bench.batcher._threads)
        assert {"executor-0", "executor-1"} <= {thread.name for thread in threading.enumerate()}
