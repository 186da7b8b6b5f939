"""Let sequences join and leave running batches between two steps."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from service.errors import Draining, Fault, Overloaded, PayloadTooLarge
from service.runtime.heap import release_freed_memory
from service.runtime.serving.deck import Deck
from service.runtime.serving.jobs import Job, Slot, Stepper

_MEBIBYTE = 2**20
# Of the running mean of how long a job takes: the last ten or so count.
_WEIGHT = 0.1
_MOST_RETRY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Bound what runs and what waits.

    Attributes:
        workers: threads that compute.
        slots: sequences that one worker advances together.
        piece: most tokens of a prompt that are computed at once.
        cache_bytes: keys and values of all sequences together.
        waiting: jobs that may wait for a slot.
    """

    workers: int
    slots: int
    piece: int
    cache_bytes: int
    waiting: int


@dataclass(eq=False, slots=True)
class Lane:
    """Hold the decks of one graph, one a worker; jobs of one lane share batches.

    Attributes:
        token_bytes: keys and values of one token.
        open_stepper: returns what computes so many sequences.
        decks: by worker.
        retired: whether it ends with its last job.
    """

    token_bytes: int
    open_stepper: Callable[[int], Stepper]
    decks: dict[int, Deck] = field(default_factory=dict)
    retired: bool = False


@dataclass(frozen=True, slots=True)
class Use:
    """Hold what is in use at one moment.

    Attributes:
        running: jobs in slots.
        waiting: jobs that wait for one.
        promised_bytes: keys and values that running jobs may come to need.
        kept_bytes: those of prefixes that may be used again.
        reused_tokens: tokens of prompts, ever, that needed no computing.
        steppers: open blocks of keys and values.
    """

    running: int
    waiting: int
    promised_bytes: int
    kept_bytes: int
    reused_tokens: int
    steppers: int


@dataclass(eq=False, slots=True)
class _Worker:
    """Hold the decks that one thread advances, shared ones and those of single jobs."""

    number: int
    decks: list[Deck] = field(default_factory=list)

    @property
    def load(self) -> int:
        return sum(len(job.seats) for deck in self.decks for job in deck.jobs)


class Scheduler:
    """Place jobs in the slots of a few worker threads, oldest first.

    ::

        submit ─► waiting ─► slot of a worker: piece, piece, token, token, … ─► free again
                  (bounded)  chosen by: longest kept prefix, least load

    A job of several prompts gets a deck of its own, whose rows step together. A job that does not
    fit into the cache waits, and whatever came after it too: nothing starves.

    Args:
        limits: bounds.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._lock = threading.Condition()
        self._waiting: list[tuple[Lane, Job]] = []
        self._lanes: dict[Job, Lane] = {}  # of the jobs in slots
        self._known: list[Lane] = []
        self._promised = 0
        self._reused = 0
        self._moment = 0
        self._mean_seconds = 1.0
        self._closing = False
        self._workers = [_Worker(number) for number in range(limits.workers)]
        self._threads = [
            threading.Thread(target=self._work, args=(worker,), name=f"sequences-{worker.number}")
            for worker in self._workers
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, lane: Lane, job: Job) -> None:
        """Take a job; its author hears of it from a worker's thread.

        Raises:
            PayloadTooLarge: it needs more cache than there is.
            Overloaded: as many jobs wait already as may.
            Draining: the service is stopping.
        """
        needed = job.tokens * lane.token_bytes
        if needed > self.limits.cache_bytes:
            raise PayloadTooLarge(
                f"Keys and values of {job.tokens} tokens need {needed / _MEBIBYTE:.1f} MiB and "
                f"{self.limits.cache_bytes / _MEBIBYTE:.1f} MiB are set aside for all. Ask for "
                "fewer tokens, or send a shorter prompt.",
                faults=(Fault("/max_tokens", f"leads to {job.tokens} tokens with the prompt"),),
            )
        with self._lock:
            if self._closing:
                raise Draining("The service is stopping and takes no new work.")
            if len(self._waiting) >= self.limits.waiting:
                raise Overloaded(
                    f"{len(self._waiting)} generations wait for a slot already. Send fewer at one "
                    "time.",
                    retry_after_seconds=self._patience(),
                )
            if lane not in self._known:
                self._known.append(lane)
            self._waiting.append((lane, job))
            self._place()

    def leave(self, job: Job) -> None:
        """Give a job up: its slots are free after the step that is under way."""
        with self._lock:
            job.left = True
            self._waiting = [pair for pair in self._waiting if pair[1] is not job]
            self._place()
            self._lock.notify_all()

    def use(self) -> Use:
        """Return what is in use now."""
        with self._lock:
            return Use(
                running=len(self._lanes),
                waiting=len(self._waiting),
                promised_bytes=self._promised,
                kept_bytes=self._kept_bytes(),
                reused_tokens=self._reused,
                steppers=sum(len(worker.decks) for worker in self._workers),
            )

    def retire(self, lane: Lane) -> None:
        """Give back what a lane holds, as soon as it has no job."""
        with self._lock:
            lane.retired = True
            self._close_retired()

    def close(self) -> None:
        """End every job and every thread."""
        with self._lock:
            self._closing = True
            waiting, self._waiting = self._waiting, []
            self._lock.notify_all()
        for _, job in waiting:
            job.end(Draining("The service is stopping."))
        for thread in self._threads:
            thread.join()
        for worker in self._workers:
            for deck in worker.decks:
                for job in list(deck.jobs):
                    job.end(Draining("The service is stopping."))
                deck.stepper.close()
            worker.decks.clear()

    def _work(self, worker: _Worker) -> None:
        while True:
            with self._lock:
                self._lock.wait_for(lambda: worker.load or self._closing)
                if self._closing:
                    return
                turns = [(deck, list(deck.jobs)) for deck in worker.decks if deck.jobs]
            for deck, jobs in turns:
                deck.turn(jobs)
            over = [(deck, job) for deck, jobs in turns for job in jobs if job.over]
            if over:
                self._leave_slots(worker, over)
                if not worker.load:
                    release_freed_memory()

    def _leave_slots(self, worker: _Worker, over: list[tuple[Deck, Job]]) -> None:
        with self._lock:
            for deck, job in over:
                self._moment += 1
                deck.vacate(job, self._moment)
                lane = self._lanes.pop(job)
                self._promised -= job.tokens * lane.token_bytes
                took = time.monotonic() - job.arrived
                self._mean_seconds += _WEIGHT * (took - self._mean_seconds)
                if deck.private:
                    worker.decks.remove(deck)
                    deck.stepper.close()
            self._place()
            self._close_retired()

    def _close_retired(self) -> None:
        busy = {*self._lanes.values(), *(lane for lane, _ in self._waiting)}
        for lane in [lane for lane in self._known if lane.retired and lane not in busy]:
            self._known.remove(lane)
            for number, deck in lane.decks.items():
                self._workers[number].decks.remove(deck)
                deck.stepper.close()
            lane.decks.clear()

    def _place(self) -> None:
        """Seat every waiting job that may be seated, oldest first."""
        full: list[Lane] = []
        left: list[tuple[Lane, Job]] = []
        waiting = iter(self._waiting)
        for lane, job in waiting:
            if lane in full:
                left.append((lane, job))
                continue
            needed = job.tokens * lane.token_bytes
            if self._promised + needed > self.limits.cache_bytes:
                left += [(lane, job), *waiting]  # what came later must not eat what it waits for
                break
            if not self._seat(lane, job):
                full.append(lane)
                left.append((lane, job))
                continue
            self._lanes[job] = lane
            self._promised += needed
            self._make_room()
            self._lock.notify_all()
        self._waiting = left

    def _seat(self, lane: Lane, job: Job) -> bool:
        """Give a job its slots, where there are some."""
        if len(job.prompts) > 1:
            worker = min(self._workers, key=lambda one: (one.load, one.number))
            deck = Deck(lane.open_stepper(len(job.prompts)), self.limits.piece, private=True)
            worker.decks.append(deck)
            deck.seat(job, deck.slots)
            return True
        best = min(self._free(lane, job), key=lambda found: found[0], default=None)
        if best is None:
            return False
        _, worker, slot = best
        self._reused += self._deck(lane, worker).seat(job, [slot])
        return True

    def _free(
        self, lane: Lane, job: Job
    ) -> Iterator[tuple[tuple[int, int, bool, int, int], _Worker, Slot]]:
        """Yield the free slots of a lane with their rank, the best lowest."""
        for worker in self._workers:
            deck = self._deck(lane, worker)
            for slot in deck.slots:
                if slot.job is None:
                    rank = (
                        -deck.reusable(slot, job),
                        worker.load,
                        bool(slot.kept),
                        slot.vacated if slot.kept else 0,
                        slot.index,
                    )
                    yield rank, worker, slot

    def _deck(self, lane: Lane, worker: _Worker) -> Deck:
        deck = lane.decks.get(worker.number)
        if deck is None:
            stepper = lane.open_stepper(self.limits.slots)
            deck = lane.decks[worker.number] = Deck(stepper, self.limits.piece, private=False)
            worker.decks.append(deck)
        return deck

    def _idle(self) -> Iterator[tuple[int, Deck, Slot, int]]:
        """Yield the free slots that keep a prefix, with when they became free and its bytes."""
        for lane in self._known:
            for deck in lane.decks.values():
                for slot in deck.slots:
                    if slot.job is None and slot.kept:
                        yield slot.vacated, deck, slot, len(slot.kept) * lane.token_bytes

    def _kept_bytes(self) -> int:
        return sum(size for *_, size in self._idle())

    def _make_room(self) -> None:
        """Give up prefixes, the oldest first, until they and what is promised fit."""
        excess = self._promised + self._kept_bytes() - self.limits.cache_bytes
        for _, deck, slot, size in sorted(self._idle(), key=lambda found: found[0]):
            if excess <= 0:
                return
            slot.kept, slot.length = (), 0
            deck.stepper.forget(slot.index, 0)
            excess -= size

    def _patience(self) -> float:
        """Return when a slot is likely to be free for one more, in seconds."""
        places = self.limits.workers * self.limits.slots
        expected = self._mean_seconds * (len(self._waiting) + 1) / places
        return min(_MOST_RETRY_SECONDS, max(1.0, expected))
