"""Be a stepper without a model: logits that follow from the whole past, steps that can be held."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Sequence
from hashlib import blake2b

import numpy as np

from service.numerics.dtypes import Ids64, Matrix32, Vector32
from service.runtime.serving.jobs import Row

VOCABULARY = 32
_PATIENCE_SECONDS = 10.0


class FakeStepper:
    """Answer with logits that follow from every call that built a slot's past.

    The same tokens in other pieces give other logits, as they may in a model, whose kernels differ
    with the number of rows. What breaks the contract of `Stepper` fails.

    Attributes:
        slots: sequences that fit.
        calls: what was computed, in order: `("extend", slot, tokens)`, `("step", slots)`.
        errors: raised by the next calls, one each.
        closed: whether it was closed.
    """

    def __init__(self, slots: int, *, gate: threading.Event | None = None) -> None:
        self.slots = slots
        self.calls: list[tuple[object, ...]] = []
        self.errors: list[Exception] = []
        self.closed = False
        self._pasts: list[list[bytes]] = [[] for _ in range(slots)]
        self._under: list[Hashable] = [None] * slots
        self._gate = gate
        self._busy = threading.Lock()

    @property
    def held_tokens(self) -> int:
        """Return how many tokens lie in slots."""
        return sum(len(past) for past in self._pasts)

    def extend(self, slot: int, ids: Ids64, *, start: int, positions: Hashable) -> Vector32:
        """Return the logits of the last of some tokens that follow the first `start`."""
        self._begin(("extend", slot, len(ids)))
        past = self._pasts[slot]
        assert start <= len(past)
        assert len(ids) > 0
        assert start == 0 or self._under[slot] == positions
        self._under[slot] = positions
        before = past[start - 1] if start else repr(positions).encode()
        name = blake2b(before + b"extend" + ids.astype("<i8").tobytes()).digest()
        past[start:] = [name + bytes([place]) for place in range(len(ids) - 1)] + [name]
        return _logits(name)

    def step(self, rows: Sequence[Row]) -> Matrix32:
        """Return the logits of one more token a row."""
        self._begin(("step", tuple(row.slot for row in rows)))
        assert rows
        assert [row.slot for row in rows] == sorted({row.slot for row in rows})
        found = []
        for row in rows:
            past = self._pasts[row.slot]
            assert len(past) == row.at
            assert self._under[row.slot] == row.positions
            past.append(blake2b(past[-1] + b"step" + str(row.id).encode()).digest())
            found.append(_logits(past[-1]))
        return np.stack(found)

    def forget(self, slot: int, length: int) -> None:
        """Drop what lies behind the first `length` tokens of a slot."""
        del self._pasts[slot][length:]

    def close(self) -> None:
        """Note that it was closed."""
        self.closed = True

    def _begin(self, call: tuple[object, ...]) -> None:
        assert self._busy.acquire(blocking=False), "two threads compute in one stepper"
        try:
            assert not self.closed
            self.calls.append(call)
            if self._gate is not None and not self._gate.wait(_PATIENCE_SECONDS):
                raise TimeoutError("The test held this step back and never let it go.")
            if self.errors:
                raise self.errors.pop(0)
        finally:
            self._busy.release()


def _logits(name: bytes) -> Vector32:
    seed = int.from_bytes(name[:8], "little")
    return np.random.default_rng(seed).normal(size=VOCABULARY, scale=3).astype(np.float32)


class FakeAuthor:
    """Write the likeliest token until enough are there; keep what was written.

    Attributes:
        ids: the tokens.
        error: what ended it, or None.
        done: set at the end, whatever it was.
    """

    def __init__(self, count: int) -> None:
        self.ids: list[int] = []
        self.error: Exception | None = None
        self.done = threading.Event()
        self._count = count

    def advance(self, logits: Matrix32) -> int | None:
        """Return the likeliest token over all rows."""
        assert not self.done.is_set()
        self.ids.append(int(logits.sum(axis=0).argmax()))
        if len(self.ids) < self._count:
            return self.ids[-1]
        self.done.set()
        return None

    def fail(self, error: Exception) -> None:
        """Take the end."""
        assert not self.done.is_set()
        self.error = error
        self.done.set()
