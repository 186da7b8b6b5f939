"""Describe what is to be continued, who writes it, and what computes it."""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from service.errors import ClientLeft, DeadlineExceeded
from service.numerics.dtypes import Ids64, Matrix32, Vector32


class Author(Protocol):
    """Choose the tokens of one job; called from a worker's thread, one call at a time."""

    def advance(self, logits: Matrix32) -> int | None:
        """Return the id that follows, or None once the text is at its end.

        Args:
            logits: (rows, vocabulary), a row a prompt; the author's own to keep.
        """
        ...

    def fail(self, error: Exception) -> None:
        """Take the error that ends the job; nothing is called after it."""
        ...


@dataclass(frozen=True, slots=True)
class Row:
    """Describe one row of a step.

    Attributes:
        slot: where its past lies.
        id: the token that goes in.
        at: its position.
        positions: how positions become angles.
    """

    slot: int
    id: int
    at: int
    positions: Hashable


class Stepper(Protocol):
    """Compute logits; the past of a sequence lies in a slot.

    One thread computes. `forget` of a slot that holds no job may come from any thread.

    Attributes:
        slots: sequences that fit.
    """

    slots: int

    def extend(self, slot: int, ids: Ids64, *, start: int, positions: Hashable) -> Vector32:
        """Append tokens to the first `start` of a slot, and return the last one's logits.

        Args:
            slot: where.
            ids: (tokens,) of a prompt; what lies behind `start` is forgotten.
            start: position of the first.
            positions: how positions become angles.
        """
        ...

    def step(self, rows: Sequence[Row]) -> Matrix32:
        """Append one token to each row's slot, and return the logits (rows, vocabulary).

        A row's bits depend on its own past alone, whatever runs beside it.

        Args:
            rows: by rising slot, each slot once.
        """
        ...

    def forget(self, slot: int, length: int) -> None:
        """Give back the memory of what lies behind the first `length` tokens of a slot."""
        ...

    def close(self) -> None:
        """Give everything back."""
        ...


@dataclass(eq=False, slots=True)
class Slot:
    """Hold one place for a sequence.

    Attributes:
        index: its number in the deck.
        job: whose it is, None where it is free.
        row: which prompt of the job.
        length: tokens whose past lies there.
        logits: of the prompt's last token, until the job's other rows have theirs.
        kept: the prompt's first tokens, whole pieces, that a later prompt may begin with.
        positions: under which `kept` was computed.
        vacated: number of the moment at which it was given back; the oldest goes first.
    """

    index: int
    job: Job | None = None
    row: int = 0
    length: int = 0
    logits: Vector32 | None = None
    kept: tuple[int, ...] = ()
    positions: object = None
    vacated: int = 0


@dataclass(eq=False, slots=True)
class Job:
    """Hold one text that is being continued, from one prompt or from several in step.

    Attributes:
        prompts: ids a row; at least one id each. Rows get the same token at every step.
        most_new: tokens that may be added to each.
        positions: how positions become angles; a kept prefix is reused under the same ones only.
        author: chooses the tokens.
        deadline: monotonic seconds after which it is given up.
        seats: its slots, one a prompt, once it is placed.
        next: id that every row gets next, once all prompts are computed.
        left: whether nobody waits for it any more.
        over: whether it is at its end.
        arrived: monotonic seconds.
    """

    prompts: tuple[Ids64, ...]
    most_new: int
    positions: Hashable
    author: Author
    deadline: float
    seats: list[Slot] = field(default_factory=list)
    next: int | None = None
    left: bool = False
    over: bool = False
    arrived: float = field(default_factory=time.monotonic)

    @property
    def tokens(self) -> int:
        """Return how many tokens of cache it may come to need, all rows together."""
        return sum(len(prompt) + self.most_new for prompt in self.prompts)

    def end(self, error: Exception) -> None:
        """End it with an error, unless it is at its end."""
        if not self.over:
            self.over = True
            self.author.fail(error)

    def end_if_unwanted(self) -> None:
        """End it where nobody waits any more."""
        if self.left:
            self.end(ClientLeft("The client left, so the generation was given up."))
        elif time.monotonic() > self.deadline:
            self.end(
                DeadlineExceeded(
                    "The deadline passed before the text was complete. Allow more time with "
                    "X-Request-Timeout-Ms, or ask for fewer tokens."
                )
            )
