"""Keep the sequences that wait for one model, and choose which of them run together."""

from __future__ import annotations

import asyncio
import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable

from service.numerics.dtypes import Vector32

_NOTHING = (math.inf, -1, 0)


class Ticket:
    """Collect the rows of one submission.

    Attributes:
        rows: one `(d,)` float32 vector for each sequence, in order.
        done: future that resolves when every row is there.
        output: name of the graph output wanted.
        deadline: monotonic seconds after which nobody waits any more.
        queue_seconds: longest wait of its sequences.
        run_seconds: time of its longest run.
    """

    __slots__ = ("deadline", "done", "left", "output", "queue_seconds", "rows", "run_seconds")

    def __init__(
        self, count: int, *, output: str, deadline: float, done: asyncio.Future[None]
    ) -> None:
        self.rows: list[Vector32 | None] = [None] * count
        self.left = count
        self.output = output
        self.deadline = deadline
        self.done = done
        self.queue_seconds = 0.0
        self.run_seconds = 0.0

    def fail(self, error: Exception) -> None:
        """Resolve with an error, unless it is resolved already."""
        if not self.done.done():
            self.done.set_exception(error)


class Waiting:
    """Hold one sequence in the queue.

    Attributes:
        ids: token ids.
        ticket: the request that it belongs to.
        position: its place in that request.
        arrived: monotonic seconds.
        taken: whether a batch already has it.
    """

    __slots__ = ("arrived", "ids", "position", "taken", "ticket")

    def __init__(self, ids: list[int], ticket: Ticket, position: int, arrived: float) -> None:
        self.ids = ids
        self.ticket = ticket
        self.position = position
        self.arrived = arrived
        self.taken = False


class _Growing:
    """Hold a batch that is being formed, and what a real token of it costs."""

    __slots__ = ("_overhead", "longest", "real", "rows")

    def __init__(self, first: Waiting, *, overhead: int) -> None:
        self._overhead = overhead
        self.rows = [first]
        self.longest = self.real = len(first.ids)

    @property
    def cost(self) -> float:
        """Return (overhead + rows × longest) / real tokens."""
        return self.cost_with(0, 0)

    def cost_with(self, count: int, length: int) -> float:
        """Return the cost that `count` more sequences of a length would lead to."""
        padded = (len(self.rows) + count) * max(self.longest, length)
        return (self._overhead + padded) / max(1, self.real + count * length)

    def add(self, rows: list[Waiting], length: int) -> None:
        """Take in sequences of one length."""
        if rows:
            self.rows += rows
            self.longest = max(self.longest, length)
            self.real += len(rows) * length


class LengthQueue:
    """Order waiting sequences by age and by length at once.

    A batch is the oldest sequence and neighbours in length, so nothing starves and little is
    padded. A run costs its padded tokens and a fixed overhead, so a neighbour joins as long as it
    lowers the cost of a real token, (overhead + rows × longest) / real tokens: ::

        oldest 12 ──► lengths  7  9 [11 12 12 13] 40      overhead 8: (8 + 4·13) / 48 = 1.25
                                  nearest first             with 9:   (8 + 5·13) / 57 = 1.28, no

    Not safe for threads: its owner holds a lock.

    Args:
        overhead_tokens: what a run costs besides its tokens, in tokens.
    """

    def __init__(self, overhead_tokens: int) -> None:
        self._overhead = overhead_tokens
        self._by_age: deque[Waiting] = deque()
        self._by_length: dict[int, deque[Waiting]] = {}
        self._lengths: list[int] = []  # sorted keys of the non-empty `_by_length`
        self.tokens = 0
        self.count = 0

    def push(self, item: Waiting) -> None:
        """Add a sequence at the end."""
        length = len(item.ids)
        row = self._by_length.get(length)
        if row is None:
            row = self._by_length[length] = deque()
            insort(self._lengths, length)
        row.append(item)
        self._by_age.append(item)
        self.tokens += length
        self.count += 1

    def oldest_arrival(self) -> float | None:
        """Return when the oldest waiting sequence came, or None for an empty queue."""
        while self._by_age and self._by_age[0].taken:
            self._by_age.popleft()
        return self._by_age[0].arrived if self._by_age else None

    def take_batch(
        self, *, max_tokens: int, max_count: int, alive: Callable[[Waiting], bool]
    ) -> list[Waiting]:
        """Remove and return sequences whose count times longest stays within the budget.

        The oldest is always among them, even where it alone exceeds the budget: otherwise a long
        text would wait for ever.

        Args:
            max_tokens: budget in padded tokens.
            max_count: most sequences to take.
            alive: whether a sequence is still wanted; those that are not are dropped here.
        """
        first = self._take_oldest(alive)
        self._forget_empty_rows()
        if first is None:
            return []
        growing = _Growing(first, overhead=self._overhead)
        below = bisect_left(self._lengths, len(first.ids) + 1) - 1
        above = below + 1
        while True:
            offers = [
                self._offer(growing, index, max_tokens, max_count)
                for index in (below, above)
                if 0 <= index < len(self._lengths)
            ]
            cost, index, count = min(offers, default=_NOTHING)
            if cost >= growing.cost:
                break
            length = self._lengths[index]
            growing.add(self._take_row(length, count, alive), length)
            if index == below:
                below -= 1
            else:
                above += 1
        self._forget_empty_rows()
        return growing.rows

    def _offer(
        self, growing: _Growing, index: int, max_tokens: int, max_count: int
    ) -> tuple[float, int, int]:
        """Return the cost with a row of the queue, the row's index and how many of it fit."""
        length = self._lengths[index]
        widest = max(1, growing.longest, length)
        most = min(max_count, max_tokens // widest) - len(growing.rows)
        count = min(most, len(self._by_length[length]))
        return (growing.cost_with(count, length), index, count) if count > 0 else _NOTHING

    def _take_oldest(self, alive: Callable[[Waiting], bool]) -> Waiting | None:
        while self._by_age:
            item = self._by_age.popleft()
            if item.taken:
                continue
            row = self._by_length[len(item.ids)]
            row.popleft()  # rows are in order of age too, so the oldest of all leads its row
            self._drop(item)
            if alive(item):
                return item
        return None

    def _take_row(self, length: int, room: int, alive: Callable[[Waiting], bool]) -> list[Waiting]:
        row = self._by_length[length]
        taken: list[Waiting] = []
        while row and len(taken) < room:
            item = row.popleft()
            self._drop(item)
            if alive(item):
                taken.append(item)
        return taken

    def _drop(self, item: Waiting) -> None:
        item.taken = True
        self.tokens -= len(item.ids)
        self.count -= 1

    def _forget_empty_rows(self) -> None:
        if any(not self._by_length[length] for length in self._lengths):
            self._by_length = {length: row for length, row in self._by_length.items() if row}
            self._lengths = sorted(self._by_length)
