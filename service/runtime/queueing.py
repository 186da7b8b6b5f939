"""Keep the sequences that wait for one model, and choose which of them run together."""

from __future__ import annotations

import asyncio
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable

from service.numerics.dtypes import Vector32


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


class LengthQueue:
    """Order waiting sequences by age and by length at once.

    A batch is the oldest sequence and its nearest neighbours in length, so nothing starves and
    little is padded: ::

        oldest 12 ──► lengths  7  9 [12 12 12] 13  40      budget 64 = 5 rows of 13 at most
                                  └── nearest first ──┘

    Not safe for threads: its owner holds a lock.
    """

    def __init__(self) -> None:
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
        if first is None:
            self._forget_empty_rows()
            return []
        batch = [first]
        longest = len(first.ids)
        below = bisect_left(self._lengths, longest + 1) - 1
        above = below + 1
        while len(batch) < max_count and (below >= 0 or above < len(self._lengths)):
            shorter = self._lengths[below] if below >= 0 else None
            longer = self._lengths[above] if above < len(self._lengths) else None
            go_down = longer is None or (
                shorter is not None and len(first.ids) - shorter <= longer - len(first.ids)
            )
            length = shorter if go_down else longer
            assert length is not None  # one side is left, by the loop's condition
            widest = max(longest, length)
            room = min(max_count, max_tokens // max(widest, 1)) - len(batch)
            if room <= 0:
                if go_down:
                    break
                above = len(self._lengths)  # every longer row would widen it as well
                continue
            taken = self._take_row(length, room, alive)
            if taken:
                batch += taken
                longest = widest
            if go_down:
                below -= 1
            else:
                above += 1
        self._forget_empty_rows()
        return batch

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
