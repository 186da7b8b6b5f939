"""Get the entries of a request from the process, from the shared tier, or by computing them.

```
keys ──► memory ──► somebody computes it already? ──► shared tier ──► compute
           │ hit        │ wait for that flight            │ hit          │
           └────────────┴─────────────► entries ◄─────────┴──────────────┘
```
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

from service.errors import Internal
from service.metrics import Metrics
from service.stores.entry import Entry
from service.stores.flights import Flight, FlightBoard
from service.stores.memory import MemoryTier
from service.stores.shared import SharedState, SharedTier

Compute = Callable[[Sequence[int]], Awaitable[Sequence[Entry]]]

# How often one request waits for others' flights: twice lets the waiters of a departed leader
# gather behind one of them, and a text that fails every time cannot make them queue up for ever.
_MOST_WAITS = 2


@dataclass(frozen=True, slots=True)
class Fetched:
    """Hold the entries of one fetch and where they came from; the counts add up to all entries.

    Attributes:
        entries: one per key, in the order asked.
        memory_hits: entries that the process held.
        redis_hits: entries that the shared tier held.
        computed: entries computed for this call.
        shared: entries that another call computed meanwhile.
        repeated: entries that repeat an earlier missing key of the same call.
        cache_seconds: time spent in the cache tiers, waiting and computing left out.
    """

    entries: Sequence[Entry]
    memory_hits: int
    redis_hits: int
    computed: int
    shared: int
    repeated: int
    cache_seconds: float


@dataclass(frozen=True, slots=True)
class CacheState:
    """Describe the cache for `/v1/info`.

    Attributes:
        memory_entries: entries held in the process.
        memory_bytes: their size, overhead included.
        memory_limit_bytes: the bound of it; 0 means that the tier is off.
        flights: keys being computed now.
        shared: the tier outside the process, None if there is none.
    """

    memory_entries: int
    memory_bytes: int
    memory_limit_bytes: int
    flights: int
    shared: SharedState | None


class _Call:
    """Carry one fetch past its first miss."""

    __slots__ = ("away_seconds", "compute", "computed", "deadline", "got", "redis_hits", "wanted")

    def __init__(self, wanted: dict[bytes, int], compute: Compute, deadline: float | None) -> None:
        self.wanted = wanted  # key -> the first index that asks for it
        self.compute = compute
        self.deadline = deadline
        self.got: dict[bytes, Entry] = {}
        self.redis_hits = 0
        self.computed = 0
        self.away_seconds = 0.0


class VectorCache:
    """Look entries up in two tiers and compute each missing one once.

    Belongs to one event loop. `open_cache` builds it from settings.

    Args:
        memory: the tier in the process.
        shared: the tier outside of it; None for none.
        metrics: where look-ups are counted.
    """

    def __init__(self, *, memory: MemoryTier, shared: SharedTier | None, metrics: Metrics) -> None:
        self._memory = memory
        self._shared = shared
        self._flights = FlightBoard()
        # bound once: looking a label up costs more than counting
        self._count_hits = metrics.cache_lookups.labels("memory", "hit").inc
        self._count_misses = metrics.cache_lookups.labels("memory", "miss").inc
        self._count_shared = metrics.flights_shared.inc
        metrics.cache_bytes.set_function(lambda: memory.held_bytes)

    async def fetch(
        self, keys: Sequence[bytes], compute: Compute, *, deadline: float | None = None
    ) -> Fetched:
        """Return the entry of each key, in order.

        Args:
            keys: from `Keyspace.key`; repeats are allowed and cost nothing.
            compute: gets the indices of the keys to compute, each key once, and returns their
                entries in the same order. Called at most once unless a flight that this call
                waited for came back without a result.
            deadline: in seconds of the event loop's clock. It bounds the waiting for others and
                the shared tier; `compute` must see to its own.

        Raises:
            DeadlineExceeded: the deadline passed while another call was computing.
            Internal: `compute` returned another number of entries than it was asked for.
            Exception: whatever `compute` raises.
        """
        started = perf_counter()
        found, missing = self._memory.find(keys)
        hits = len(keys) - missing
        if hits:
            self._count_hits(hits)
        if not missing:
            seconds = perf_counter() - started
            return Fetched(found, hits, 0, 0, 0, 0, seconds)  # type: ignore[arg-type]
        self._count_misses(missing)
        wanted: dict[bytes, int] = {}
        for index, entry in enumerate(found):
            if entry is None:
                wanted.setdefault(keys[index], index)
        call = _Call(wanted, compute, deadline)
        await self._resolve(call)
        got = call.got
        distinct = len(wanted)
        return Fetched(
            entries=[entry or got[key] for key, entry in zip(keys, found, strict=True)],
            memory_hits=hits,
            redis_hits=call.redis_hits,
            computed=call.computed,
            shared=distinct - call.redis_hits - call.computed,
            repeated=missing - distinct,
            cache_seconds=perf_counter() - started - call.away_seconds,
        )

    def state(self) -> CacheState:
        """Return what the cache holds and how its tiers are."""
        return CacheState(
            memory_entries=len(self._memory),
            memory_bytes=self._memory.held_bytes,
            memory_limit_bytes=self._memory.limit_bytes,
            flights=len(self._flights),
            shared=None if self._shared is None else self._shared.state(),
        )

    async def aclose(self) -> None:
        """Let the shared tier write what still waits, within a short bound, and close it."""
        if self._shared is not None:
            await self._shared.aclose()

    async def _resolve(self, call: _Call) -> None:
        """Fill `call.got` with every key it wants."""
        pending: Sequence[bytes] = list(call.wanted)
        waits = 0
        while pending:
            mine, theirs = self._divide(pending, may_wait=waits < _MOST_WAITS)
            if mine:
                # own keys first: while they are computed the others' flights go on, and two
                # calls that need each other's keys cannot wait for one another
                await self._lead(call, mine, ask_shared=waits == 0)
            if not theirs:
                return
            await self._follow(call, theirs)
            waits += 1
            pending = [key for key, _ in theirs if key not in call.got]

    def _divide(
        self, pending: Sequence[bytes], *, may_wait: bool
    ) -> tuple[list[bytes], list[tuple[bytes, Flight]]]:
        """Return the keys to compute here and those to wait for."""
        if not may_wait or not len(self._flights):
            return list(pending), []
        mine: list[bytes] = []
        theirs: list[tuple[bytes, Flight]] = []
        for key in pending:
            flight = self._flights.joinable(key, wanted=len(pending))
            if flight is None:
                mine.append(key)
            else:
                theirs.append((key, flight))
        return mine, theirs

    async def _lead(self, call: _Call, mine: Sequence[bytes], *, ask_shared: bool) -> None:
        """Get `mine` from the shared tier or by computing, and tell those who wait."""
        flight = self._flights.depart(mine, size=len(mine))
        try:
            if ask_shared and self._shared is not None:
                for key, entry in zip(
                    mine, await self._shared.find(mine, deadline=call.deadline), strict=True
                ):
                    if entry is not None:
                        flight.entries[key] = entry
                call.redis_hits += len(flight.entries)
            absent = [key for key in mine if key not in flight.entries]
            if absent:
                computed = await self._compute(call, absent)
                flight.entries.update(computed)
                if self._shared is not None:
                    self._shared.keep(computed)
        finally:
            # also when this call was cancelled: what is there serves those who wait
            self._memory.keep(flight.entries.items())
            self._flights.arrive(flight, mine)
        call.got.update(flight.entries)

    async def _compute(self, call: _Call, absent: Sequence[bytes]) -> list[tuple[bytes, Entry]]:
        started = perf_counter()
        try:
            entries = await call.compute([call.wanted[key] for key in absent])
        finally:
            call.away_seconds += perf_counter() - started
        if len(entries) != len(absent):
            raise Internal(f"{len(absent)} texts were to be computed, {len(entries)} came back.")
        call.computed += len(absent)
        return list(zip(absent, entries, strict=True))

    async def _follow(self, call: _Call, theirs: Sequence[tuple[bytes, Flight]]) -> None:
        """Wait for others' flights and take what they brought."""
        started = perf_counter()
        before = len(call.got)
        for key, flight in theirs:
            await flight.wait(call.deadline)
            entry = flight.entries.get(key)
            if entry is not None:
                call.got[key] = entry
        call.away_seconds += perf_counter() - started
        brought = len(call.got) - before
        if brought:
            self._count_shared(brought)
