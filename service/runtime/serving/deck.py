"""Advance the sequences of one worker: a piece of a prompt, then a token for every other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import numpy as np
import structlog

from service.errors import Internal, ServiceError
from service.numerics.dtypes import Matrix32
from service.runtime.serving.jobs import Job, Row, Slot, Stepper

T = TypeVar("T")

logger = structlog.get_logger(__name__)


@dataclass(eq=False, slots=True)
class Deck:
    """Seat jobs in the slots of one stepper and advance them in turn.

    A turn is one piece of one prompt, then one token for every sequence whose prompt is done, so
    a long prompt holds the others up by one piece a token, and they it by one step a piece.

    Pieces end at multiples of `piece` whatever is reused: a sequence's past is computed by the
    same calls with and without a kept prefix, and so has the same bits.

    Args:
        stepper: computes.
        piece: most tokens of a prompt that are computed at once.
        private: whether it was opened for one job, and goes with it.
    """

    stepper: Stepper
    piece: int
    private: bool
    slots: list[Slot] = field(init=False)
    jobs: list[Job] = field(default_factory=list)
    _last: int = -1

    def __post_init__(self) -> None:
        self.slots = [Slot(index) for index in range(self.stepper.slots)]

    def reusable(self, slot: Slot, job: Job, row: int = 0) -> int:
        """Return how many tokens of a prompt a slot holds already; one at least is left to do."""
        prompt = job.prompts[row]
        if slot.positions != job.positions:
            return 0
        limit = min(len(slot.kept), len(prompt) - 1) // self.piece * self.piece
        same = np.asarray(slot.kept[:limit], dtype=np.int64) == prompt[:limit]
        common = limit if same.all() else int(same.argmin())
        return common // self.piece * self.piece

    def seat(self, job: Job, slots: Sequence[Slot]) -> int:
        """Give a job its slots, one a prompt, and return how many tokens need no computing."""
        reused = 0
        for row, slot in enumerate(slots):
            slot.length = self.reusable(slot, job, row)
            reused += slot.length
            slot.job, slot.row, slot.logits = job, row, None
            slot.kept = slot.kept[: slot.length]
            slot.positions = job.positions
        job.seats = list(slots)
        self.jobs.append(job)
        return reused

    def vacate(self, job: Job, moment: int) -> None:
        """Take a job's slots back; the prompt's whole pieces are kept for a prompt like it."""
        for slot in job.seats:
            prompt = job.prompts[slot.row]
            whole = min(slot.length, len(prompt)) // self.piece * self.piece
            slot.kept = tuple(prompt[:whole].tolist())
            slot.job, slot.logits, slot.length, slot.vacated = None, None, whole, moment
            self.stepper.forget(slot.index, whole)
        self.jobs.remove(job)

    def turn(self, jobs: Sequence[Job]) -> None:
        """Advance jobs that are seated here; those at their end are marked as over."""
        for job in jobs:
            job.end_if_unwanted()
        self._prefill([job for job in jobs if not job.over])
        self._step([job for job in jobs if not job.over and job.next is not None])

    def _prefill(self, jobs: Sequence[Job]) -> None:
        """Compute one piece of the prompt that is next in turn."""
        open_ = [
            slot
            for job in jobs
            for slot in job.seats
            if job.next is None and slot.length < len(job.prompts[slot.row])
        ]
        if not open_:
            return
        slot = min(open_, key=lambda one: (one.index <= self._last, one.index))
        self._last = slot.index
        job = slot.job
        assert job is not None  # it is one of its seats
        prompt = job.prompts[slot.row]
        stop = min(len(prompt), (slot.length // self.piece + 1) * self.piece)
        ids = prompt[slot.length : stop]
        extend = partial(self.stepper.extend, slot.index, ids)
        slot.logits = _guarded([job], extend, start=slot.length, positions=job.positions)
        if job.over:
            return
        slot.length = stop
        if all(seat.length == len(job.prompts[seat.row]) for seat in job.seats):
            rows = [seat.logits for seat in job.seats]
            _advance(job, np.stack([row for row in rows if row is not None]))

    def _step(self, jobs: Sequence[Job]) -> None:
        """Compute the next token of every sequence that has its prompt behind it."""
        places = sorted(
            ((slot, job) for job in jobs for slot in job.seats), key=lambda pair: pair[0].index
        )
        if not places:
            return
        rows = [
            Row(slot.index, job.next, slot.length, job.positions)
            for slot, job in places
            if job.next is not None
        ]
        logits = _guarded(jobs, self.stepper.step, rows)
        if logits is None:
            return
        found = {slot.index: logits[place] for place, (slot, _) in enumerate(places)}
        for job in jobs:
            for slot in job.seats:
                slot.length += 1
            _advance(job, np.stack([found[slot.index] for slot in job.seats]))


def _advance(job: Job, logits: Matrix32) -> None:
    job.next = _guarded([job], job.author.advance, logits)
    job.over = job.next is None  # also after an error


def _guarded(
    jobs: Sequence[Job], work: Callable[..., T], *arguments: object, **options: object
) -> T | None:
    """Return what the work returns, or None after it has ended its jobs with an error."""
    try:
        return work(*arguments, **options)
    except ServiceError as error:
        failure: ServiceError = error
    except Exception as error:
        logger.error("generation_step_failed", exc_info=error)
        failure = Internal("A step of the model failed; the log has it.")
    for job in jobs:
        job.end(failure)
    return None
