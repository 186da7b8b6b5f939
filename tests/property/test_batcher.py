"""Whatever comes when, with real threads: each caller gets its own rows, in its own order."""

from __future__ import annotations

import asyncio
from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.batchers import open_bench
from tests.fakes.sessions import row_for

requests = st.lists(
    st.tuples(
        st.lists(st.integers(1, 40), min_size=1, max_size=8),  # lengths
        st.integers(0, 3),  # turns of the loop before it comes
        st.booleans(),  # whether its caller leaves
    ),
    min_size=1,
    max_size=16,
)


@settings(max_examples=60, deadline=None)
@given(requests=requests, executors=st.integers(1, 3), budget=st.integers(1, 120))
def test_rows_find_their_callers(
    requests: list[tuple[list[int], int, bool]], executors: int, budget: int
) -> None:
    asyncio.run(exchange(requests, executors=executors, budget=budget))


async def exchange(
    requests: list[tuple[list[int], int, bool]], *, executors: int, budget: int
) -> None:
    sent = [
        [[1000 * number + position + 1] * length for position, length in enumerate(lengths)]
        for number, (lengths, _, _) in enumerate(requests)
    ]
    async with open_bench(
        executors=executors, max_batch_tokens=budget, max_queued_tokens=100_000
    ) as bench:

        async def call(number: int) -> None:
            for _ in range(requests[number][1]):
                await asyncio.sleep(0)
            run = await bench.submit(*sent[number])
            assert len(run.rows) == len(sent[number])
            for row, ids in zip(run.rows, sent[number], strict=True):
                assert np.array_equal(row, row_for(ids))

        tasks = [asyncio.create_task(call(number)) for number in range(len(sent))]
        await asyncio.sleep(0)
        for task, (_, _, leaves) in zip(tasks, requests, strict=True):
            if leaves:
                task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        for outcome, (_, _, leaves) in zip(outcomes, requests, strict=True):
            assert outcome is None or (leaves and isinstance(outcome, asyncio.CancelledError))
    ran = Counter(ids[0] for batch in bench.session.batches for ids in batch)
    assert not ran or max(ran.values()) == 1, "nothing runs twice"
    for number, (_, _, leaves) in enumerate(requests):
        assert leaves or all(ran[ids[0]] == 1 for ids in sent[number]), "nothing is lost"
    for batch, width in zip(bench.session.batches, bench.session.widths, strict=True):
        assert len(batch) == 1 or len(batch) * width <= budget
    assert (bench.lane.queue.count, bench.lane.queue.tokens) == (0, 0)
