"""Hold the living state of one corpus in this process, in step with its log."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from threading import Event
from typing import TypeVar
from uuid import uuid4

import structlog

from service.capabilities.geodesic.pipeline.corpus import (
    Change,
    Corpus,
    Description,
    Making,
    first_version,
    next_version,
)
from service.capabilities.geodesic.pipeline.entries import Alteration, Creation, Entry, Removal
from service.capabilities.geodesic.pipeline.journal import Journal, State, Superseded
from service.errors import ArtefactDamaged, ClientLeft, Conflict, ServiceError, UnknownArtefact
from service.numerics.dtypes import Progress
from service.numerics.neighbours import silent
from service.runtime.engine import Engine

T = TypeVar("T")
logger = structlog.get_logger(__name__)

# A snapshot follows when so many entries, or such a share of the items, came since the last one.
_ENTRIES_A_SNAPSHOT = 64
_SHARE_A_SNAPSHOT = 0.2
_FEW_ITEMS = 2000
_TRIES = 10


class Shelf:
    """Read and change one corpus.

    Changes go one after another. Queries take the version that is there and wait for nobody, except
    where it is older than `refresh_seconds`: then other processes' changes are looked for.

    Args:
        journal: its log and snapshots.
        name: the corpus.
        engine: compute threads.
        refresh_seconds: see above.
    """

    def __init__(
        self, journal: Journal, name: str, engine: Engine, *, refresh_seconds: float
    ) -> None:
        self._journal = journal
        self._name = name
        self._engine = engine
        self._refresh_seconds = refresh_seconds
        self._lock = asyncio.Lock()
        self._corpus: Corpus | None = None
        self._request: tuple[str, str] | None = None
        self._number: int | None = None  # of the last entry seen; None before the first look
        self._looked = 0.0
        self._entries = self._rows = 0  # since the last snapshot
        self._snapshot: asyncio.Task[None] | None = None

    async def current(self) -> Corpus:
        """Return the version to answer from.

        Raises:
            UnknownArtefact: there is no such corpus, or not any more.
        """
        stale = time.monotonic() - self._looked > self._refresh_seconds
        if self._number is None or (stale and not self._lock.locked()):
            async with self._lock:
                await self._catch_up()
        return self._living()

    async def describe(self, state: State) -> Description | None:
        """Return what the corpus is, None where it ended; it is opened only where that is not kept.

        Args:
            state: how far its log is.
        """
        if state.described:
            with suppress(Superseded, ArtefactDamaged):
                return await self._journal.described(state.last)
        with suppress(UnknownArtefact):
            return (await self.current()).describe()
        return None

    async def create(
        self, making: Making, change: Change, *, request: tuple[str, str] | None, progress: Progress
    ) -> Corpus:
        """Return a new corpus, stored; the same one where the same request came before.

        Raises:
            Conflict: the name is taken.
        """
        async with self._lock:
            for _ in range(_TRIES):
                await self._catch_up()
                if self._corpus is not None:
                    if request is not None and request == self._request:
                        return self._corpus
                    raise Conflict(
                        f"There is a corpus {self._name!r} already. Add items to it, delete it, or "
                        "choose another name."
                    )
                number = (self._number or 0) + 1
                made = await self._finish(
                    partial(first_version, self._name, number, making, change), progress
                )
                entry = Creation(uuid4().hex, making, change, request)
                if await self._commit(number, entry, made, len(change.items)):
                    return made
        raise _too_many_writers()

    async def change(self, plan: Callable[[Corpus], Change], *, progress: Progress) -> Corpus:
        """Return the next version, stored.

        Args:
            plan: says what changes, given the latest version; it is asked again where another
                process was faster.
            progress: told the stages.
        """
        async with self._lock:
            for _ in range(_TRIES):
                await self._catch_up()
                before = self._living()
                change = plan(before)
                try:
                    made = await self._finish(partial(next_version, before, change), progress)
                    rows = len(change.items) + len(change.removed)
                    entry = Alteration(uuid4().hex, change)
                    if await self._commit(made.version, entry, made, rows):
                        return made
                except BaseException:
                    self._distrust(before)
                    raise
                self._distrust(before)
        raise _too_many_writers()

    async def remove(self) -> None:
        """End the corpus; queries that run finish on their version.

        Raises:
            UnknownArtefact: there is none.
        """
        async with self._lock:
            for _ in range(_TRIES):
                await self._catch_up()
                self._living()
                number = (self._number or 0) + 1
                if await self._commit(number, Removal(uuid4().hex), None, 0):
                    await self._journal.clear(number)
                    return
        raise _too_many_writers()

    async def aclose(self) -> None:
        """Give up a snapshot that is being written; the log holds everything."""
        if self._snapshot is not None:
            self._snapshot.cancel()
            await asyncio.gather(self._snapshot, return_exceptions=True)

    def _living(self) -> Corpus:
        if self._corpus is None:
            raise UnknownArtefact(f"There is no corpus {self._name!r}.")
        return self._corpus

    async def _commit(self, number: int, entry: Entry, made: Corpus | None, rows: int) -> bool:
        if not await self._journal.append(number, entry):
            return False
        self._take(number, made, entry, rows)
        await self._journal.describe(number, None if made is None else made.describe())
        if made is not None and self._is_due(made) and self._snapshot is None:
            self._snapshot = asyncio.create_task(self._write_snapshot(made))
        return True

    def _take(self, number: int, made: Corpus | None, entry: Entry, rows: int) -> None:
        self._number, self._corpus, self._looked = number, made, time.monotonic()
        if isinstance(entry, Creation):
            self._request, self._entries, self._rows = entry.request, 0, 0
        self._entries += 1
        self._rows += rows

    def _is_due(self, made: Corpus) -> bool:
        most = max(_FEW_ITEMS, _SHARE_A_SNAPSHOT * len(made.items))
        return self._entries >= _ENTRIES_A_SNAPSHOT or self._rows >= most

    async def _write_snapshot(self, made: Corpus) -> None:
        self._entries = self._rows = 0
        try:
            await self._journal.write_snapshot(made)
        except ServiceError as error:  # the log holds everything; the next change tries again
            logger.warning("snapshot_failed", corpus=self._name, detail=error.detail)
        finally:
            self._snapshot = None

    def _distrust(self, before: Corpus) -> None:
        """Read everything again next time, where a lost change left rows in the shared index."""
        if before.mesh.proposals is not None:
            self._number = None

    async def _catch_up(self) -> None:
        """Bring the state to the end of the log."""
        if self._number is None:
            await self._load()
            return
        try:
            while (entry := await self._journal.read(self._number + 1)) is not None:
                await self._replay(self._number + 1, entry)
        except Superseded:
            await self._load()
        self._looked = time.monotonic()

    async def _load(self) -> None:
        """Read the latest snapshot and what came after it."""
        for _ in range(_TRIES):
            try:
                snapshot = await self._journal.latest_snapshot()
                last = await self._journal.last_number()
                self._corpus = snapshot
                self._number = 0 if snapshot is None else snapshot.version
                self._entries = self._rows = 0
                await self._replay_until(last)
            except Superseded:
                self._number = None
                continue
            self._looked = time.monotonic()
            return
        raise ArtefactDamaged(
            f"The log of the corpus {self._name!r} has no beginning. Restore it from a backup."
        )

    async def _replay_until(self, last: int) -> None:
        """Replay up to a number; emptied entries are passed over before a beginning only."""
        ended = self._corpus is not None or last == 0
        for number in range((self._number or 0) + 1, last + 1):
            try:
                entry = await self._journal.read(number)
            except Superseded:
                if self._corpus is not None:
                    raise
                self._number = number
                continue
            if entry is None:
                break
            await self._replay(number, entry)
            ended = True
        if not ended:
            raise Superseded

    async def _replay(self, number: int, entry: Entry) -> None:
        corpus, rows = self._corpus, 0
        made: Corpus | None = None
        if isinstance(entry, Creation):
            rows = len(entry.change.items)
            begin = partial(first_version, self._name, number, entry.making, entry.change)
            made = await self._engine.compute(partial(begin, progress=silent))
        elif isinstance(entry, Alteration):
            if corpus is None:
                raise Superseded
            rows = len(entry.change.items) + len(entry.change.removed)
            go_on = partial(next_version, corpus, entry.change, progress=silent)
            made = await self._engine.compute(go_on)
        self._take(number, made, entry, rows)

    async def _finish(self, work: Callable[..., T], progress: Progress) -> T:
        """Return what a compute thread returns; a caller that leaves waits until it has stopped.

        Two threads must not write behind the same version.
        """
        left = Event()

        def told(stage: str, done: int, total: int) -> None:
            if left.is_set():
                raise ClientLeft("The client left, so the change was given up.")
            progress(stage, done, total)

        task = asyncio.ensure_future(self._engine.compute(partial(work, progress=told)))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            left.set()
            await asyncio.wait([task])
            if not task.cancelled():
                task.exception()  # read here, since nobody waits for it
            raise


def _too_many_writers() -> Conflict:
    return Conflict("Too many writers change this corpus at once. Send the request again.")
