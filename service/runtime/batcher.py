"""Run what waits, as soon as an executor is free: no timer, no window, a budget of padded tokens.

```
 submit ──► lanes (one per model) ──► executor threads (one per core) ──► session.run
   │            admission in tokens       oldest text first, nearest         │
   │            429 beyond the limit      lengths beside it                  │
   └───────────◄ rows, on the event loop ◄────────────────────────────────────┘
```

Batches grow by themselves while every executor is busy. When several are idle, what waits is split
evenly between them. A sequence whose client left, or whose deadline passed, is dropped when the
batch forms.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from service.errors import DeadlineExceeded, Draining, Internal, InvalidModelOutput, Overloaded
from service.metrics import Metrics
from service.numerics.dtypes import Ids64, Matrix32, Vector32
from service.runtime.queueing import LengthQueue, Ticket, Waiting
from service.runtime.session import Session
from service.runtime.threads import step_back

# Share of the limit below which the door opens again after it was shut.
_REOPEN = 0.9
# Weight of the newest run in the moving rate of tokens.
_RATE_WEIGHT = 0.1


@dataclass(frozen=True, slots=True)
class Run:
    """Hold what one submission returned.

    Attributes:
        rows: one `(d,)` float32 vector for each sequence, each with memory of its own.
        queue_seconds: time spent waiting.
        run_seconds: time spent in the model.
    """

    rows: list[Vector32]
    queue_seconds: float
    run_seconds: float


class Lane:
    """Hold the queue, the session and the instruments of one model."""

    def __init__(
        self, name: str, session: Session, metrics: Metrics, *, overhead_tokens: int
    ) -> None:
        self.name = name
        self.session = session
        self.queue = LengthQueue(overhead_tokens)
        self.last_success: float | None = None
        self.queued_tokens = metrics.queued_tokens.labels(name)
        self.queued_texts = metrics.queued_texts.labels(name)
        self.queue_seconds = metrics.queue_seconds.labels(name)
        self.run_seconds = metrics.run_seconds.labels(name)
        self.batch_texts = metrics.batch_texts.labels(name)
        self.batch_tokens = metrics.batch_tokens.labels(name)
        self.tokens = metrics.tokens.labels(name)
        self.padding = metrics.padding.labels(name)

    def show_queue(self) -> None:
        """Publish the length of the queue."""
        self.queued_tokens.set(self.queue.tokens)
        self.queued_texts.set(self.queue.count)

    def observe_run(self, batch: Sequence[Waiting], *, started: float, finished: float) -> int:
        """Publish what one run did, and return its real tokens."""
        real = sum(len(item.ids) for item in batch)
        padded = len(batch) * max(len(item.ids) for item in batch)
        self.queue_seconds.observe(started - min(item.arrived for item in batch))
        self.run_seconds.observe(finished - started)
        self.batch_texts.observe(len(batch))
        self.batch_tokens.observe(padded)
        self.tokens.inc(real)
        self.padding.inc(padded - real)
        return real


class Batcher:
    """Own the executor threads and the lanes that feed them.

    Args:
        executors: runs at one time.
        max_batch_tokens: padded tokens in one run.
        run_overhead_tokens: what a run costs besides its tokens, in tokens.
        max_queued_tokens: tokens that may wait in all lanes together.
        metrics: instruments to write to.
    """

    def __init__(
        self,
        *,
        executors: int,
        max_batch_tokens: int,
        run_overhead_tokens: int,
        max_queued_tokens: int,
        metrics: Metrics,
    ) -> None:
        self._budget = max_batch_tokens
        self._overhead = run_overhead_tokens
        self._limit = max_queued_tokens
        self._refused = metrics.rejected
        self._lanes: list[Lane] = []
        self._ready = threading.Condition()
        self._idle = 0
        self._stopping = False
        self._door_shut = False
        self._tokens_per_second = 0.0
        self._executors = executors
        self._loop = asyncio.get_running_loop()
        self._threads = [
            threading.Thread(target=self._work, name=f"executor-{number}", daemon=True)
            for number in range(executors)
        ]
        for thread in self._threads:
            thread.start()

    def add_lane(self, name: str, session: Session, metrics: Metrics) -> Lane:
        """Give a model a queue of its own and return it."""
        lane = Lane(name, session, metrics, overhead_tokens=self._overhead)
        with self._ready:
            self._lanes.append(lane)
        return lane

    def knock(self) -> None:
        """Refuse a request at the door, before its body is read, while admission is full.

        Raises:
            Overloaded: the queue filled up and has not yet drained to nine tenths.
        """
        if not self._door_shut:
            return
        queued = sum(lane.queue.tokens for lane in self._lanes)
        if queued < _REOPEN * self._limit:
            self._door_shut = False
            return
        raise self._overloaded(queued)

    async def submit(
        self, lane: Lane, sequences: Sequence[list[int]], *, output: str, deadline: float
    ) -> Run:
        """Run sequences through a model and return their vectors.

        Args:
            lane: the model.
            sequences: token ids, special ones included; each at least one id.
            output: name of the graph output.
            deadline: monotonic seconds until which the caller waits.

        Raises:
            Overloaded: more tokens wait than admission allows.
            DeadlineExceeded: the deadline passed first.
            InvalidModelOutput: the model returned NaN or infinity.
            Draining: the service stops.
        """
        if not sequences:
            return Run([], 0.0, 0.0)
        ticket = Ticket(
            len(sequences), output=output, deadline=deadline, done=self._loop.create_future()
        )
        self._admit(lane, sequences, ticket)
        try:
            async with asyncio.timeout_at(self._loop.time() + deadline - time.monotonic()):
                await ticket.done
        except TimeoutError:
            raise DeadlineExceeded(
                f"The model {lane.name} did not answer before the deadline. "
                "Send fewer texts, or a larger X-Request-Timeout-Ms."
            ) from None
        rows = [row for row in ticket.rows if row is not None]
        return Run(rows, ticket.queue_seconds, ticket.run_seconds)

    def _admit(self, lane: Lane, sequences: Sequence[list[int]], ticket: Ticket) -> None:
        tokens = sum(map(len, sequences))
        now = time.monotonic()
        with self._ready:
            if self._stopping:
                raise Draining("The service is stopping. Send the request to another replica.")
            queued = sum(each.queue.tokens for each in self._lanes)
            # One rule for one text and for many; a request larger than the whole limit is let in
            # when nothing waits, or it could never be served.
            if queued and queued + tokens > self._limit:
                self._door_shut = True
                raise self._overloaded(queued)
            wait = self._expected_wait(queued)
            if now <= ticket.deadline < now + wait:
                raise self._overloaded(queued)
            for position, ids in enumerate(sequences):
                lane.queue.push(Waiting(ids, ticket, position, now))
            lane.show_queue()
            self._ready.notify(min(len(sequences), self._executors))

    def _expected_wait(self, queued: int) -> float:
        return queued / self._tokens_per_second if self._tokens_per_second else 0.0

    def _overloaded(self, queued: int) -> Overloaded:
        self._refused.labels("overloaded").inc()
        wait = self._expected_wait(queued)
        return Overloaded(
            f"{queued} tokens wait for the model, {self._limit} may. "
            f"Try again in about {max(1, round(wait))} s.",
            retry_after_seconds=max(1.0, wait),
        )

    def _work(self) -> None:
        """Form and run batches until the service stops; the body of an executor thread."""
        step_back()
        while (formed := self._next_batch()) is not None:
            self._run(*formed)

    def _next_batch(self) -> tuple[Lane, list[Waiting]] | None:
        with self._ready:
            self._idle += 1
            while True:
                lane = self._oldest_lane()
                if lane is None:
                    if self._stopping:
                        self._idle -= 1
                        return None
                    self._ready.wait()
                    continue
                share = -(-lane.queue.count // self._idle)
                batch = lane.queue.take_batch(
                    max_tokens=self._budget, max_count=share, alive=self._is_alive
                )
                lane.show_queue()
                if batch:
                    self._idle -= 1
                    return lane, batch

    def _oldest_lane(self) -> Lane | None:
        ages = [
            (arrived, index)
            for index, lane in enumerate(self._lanes)
            if (arrived := lane.queue.oldest_arrival()) is not None
        ]
        return self._lanes[min(ages)[1]] if ages else None

    def _is_alive(self, item: Waiting) -> bool:
        if time.monotonic() >= item.ticket.deadline:
            self._refused.labels("deadline").inc()
            return False
        if item.ticket.done.done():  # the client left, or another row of it failed
            self._refused.labels("departed").inc()
            return False
        return True

    def _run(self, lane: Lane, batch: list[Waiting]) -> None:
        started = time.monotonic()
        try:
            outputs = run_padded(lane.session, batch)
        except Exception as error:  # noqa: BLE001 - whatever a run raises belongs to its callers
            self._call_loop(self._fail, batch, lane.name, error)
            return
        finished = time.monotonic()
        lane.last_success = finished
        self._call_loop(self._deliver, batch, outputs, started, finished)
        # Counted after the answers are on their way.
        real = lane.observe_run(batch, started=started, finished=finished)
        rate = real / max(finished - started, 1e-6) * self._executors
        self._tokens_per_second += (
            _RATE_WEIGHT * (rate - self._tokens_per_second) if self._tokens_per_second else rate
        )

    def _call_loop(self, callback: object, *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *arguments)  # type: ignore[arg-type]
        except RuntimeError:
            return  # the loop is closed, so nobody waits for the rows any more

    def _deliver(
        self, batch: list[Waiting], outputs: dict[str, Matrix32], started: float, finished: float
    ) -> None:
        for index, item in enumerate(batch):
            ticket = item.ticket
            # A copy: a view would keep the whole batch alive for as long as one row is cached.
            row = outputs[ticket.output][index].copy()
            if not np.isfinite(row).all():  # its neighbours' answers are sound
                ticket.fail(
                    InvalidModelOutput(
                        f"The output {ticket.output!r} holds NaN or infinity for text "
                        f"{item.position}: the model file is unsound."
                    )
                )
                continue
            ticket.rows[item.position] = row
            ticket.queue_seconds = max(ticket.queue_seconds, started - item.arrived)
            ticket.run_seconds = max(ticket.run_seconds, finished - started)
            ticket.left -= 1
            if ticket.left == 0 and not ticket.done.done():
                ticket.done.set_result(None)

    def _fail(self, batch: list[Waiting], model: str, error: Exception) -> None:
        failure = error if isinstance(error, Internal) else Internal(f"{model} failed: {error}")
        for item in batch:
            item.ticket.fail(failure)

    async def aclose(self) -> None:
        """Let what is queued finish, then end the executor threads."""
        with self._ready:
            self._stopping = True
            self._ready.notify_all()
        for thread in self._threads:
            await asyncio.to_thread(thread.join)


def run_padded(session: Session, batch: Sequence[Waiting]) -> dict[str, Matrix32]:
    """Pad a batch to its longest row, run it, and check the answer.

    Returns:
        Output name to `(batch, d)` float32.

    Raises:
        InvalidModelOutput: the model returned another number of rows than it was given.
    """
    input_ids, attention_mask = pad([item.ids for item in batch])
    names = sorted({item.ticket.output for item in batch})
    outputs = session.run(input_ids, attention_mask, names)
    for name, matrix in zip(names, outputs, strict=True):
        if len(matrix) != len(batch):
            raise InvalidModelOutput(
                f"The output {name!r} has {len(matrix)} rows for {len(batch)} texts: "
                "the model file is unsound."
            )
    return dict(zip(names, outputs, strict=True))


def pad(sequences: Sequence[list[int]]) -> tuple[Ids64, Ids64]:
    """Return `(batch, longest)` int64 ids, padded right with 0, and the mask of real positions."""
    longest = max(map(len, sequences))
    ids = np.zeros((len(sequences), longest), dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = sequence
        mask[row, : len(sequence)] = 1
    return ids, mask
