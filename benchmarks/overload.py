"""Offer four times what the service can do: it must refuse fast and lose no work."""

from __future__ import annotations

import os
from dataclasses import dataclass

from benchmarks import results
from benchmarks.compare import Plan
from benchmarks.contestants import Ours, start
from benchmarks.process import Server
from benchmarks.results import median_bar, say
from benchmarks.wrk import Load, Sample, measure

# The default lets 65,536 tokens wait, over five thousand short texts: more than a few hundred
# connections can hold, so nothing would be refused. This is about 160 short texts or 30 reviews.
_SETTINGS = {"SERVICE_MAX_QUEUED_TOKENS": "2048"}
_TIMES = 4.0
_CLIENTS = 256
# As many clients as the queue surely has room for: batches are then as full as in overload.
_CAPACITY = {"short": Load(128), "reviews": Load(16, kind="reviews")}
_LEAST_SECONDS = 5.0
_REFUSAL_BAR_MS, _GOODPUT_BAR = 50.0, 0.9


@dataclass(frozen=True, slots=True)
class Overloaded:
    """Hold one round.

    Attributes:
        capacity: what clients that wait for their answers get, too few to be refused.
        sample: what happened under four times as many, sent on a schedule.
    """

    capacity: Sample
    sample: Sample

    @property
    def goodput(self) -> float:
        """Return accepted answers a second, as a share of capacity."""
        accepted = self._count("200") / max(1, self.sample.requests)
        return accepted * self.sample.requests_per_second / self.capacity.texts_per_second

    @property
    def offered(self) -> float:
        """Return requests a second, as a multiple of capacity."""
        return self.sample.requests_per_second / self.capacity.texts_per_second

    @property
    def others(self) -> int:
        """Return answers other than 200 and 429, and requests without any."""
        expected = self._count("200") + self._count("429")
        return self.sample.requests - int(expected) + self.sample.broken

    def time_ms(self, status: str, share: str) -> float:
        """Return a percentile of the answers with one status, NaN without any."""
        return self.sample.by_status.get(status, {}).get(f"{share}_ms", float("nan"))

    def _count(self, status: str) -> float:
        return self.sample.by_status.get(status, {}).get("count", 0.0)


def run_overload(plan: Plan) -> None:
    """Measure capacity and overload, round by round, with short texts and with reviews."""
    before = os.getloadavg()
    seconds = max(plan.seconds, _LEAST_SECONDS)
    rounds: dict[str, list[Overloaded]] = {kind: [] for kind in _CAPACITY}
    server = start(Ours(settings=_SETTINGS))
    try:
        for number in range(plan.rounds):
            for kind, taken in rounds.items():
                seed = 80_000 + 10 * number
                taken.append(measure_overload(server, kind, seconds=seconds, seed=seed))
                say(f"  round {number + 1}, {kind}: goodput {taken[-1].goodput:.2f} of capacity")
    finally:
        server.stop()
    bars = [bar for kind, taken in rounds.items() for bar in _bars(kind, taken)]
    shown = [
        {"kind": kind, "capacity": one.capacity.as_dict(), "overload": one.sample.as_dict()}
        for kind, taken in rounds.items()
        for one in taken
    ]
    settings = {
        "rounds": plan.rounds, "seconds": seconds, "times_capacity": _TIMES,
        "clients": _CLIENTS, **_SETTINGS,
    }  # fmt: skip
    results.write(
        "overload", settings=settings, rounds=shown, bars=bars, load_average_before=before
    )


def measure_overload(server: Server, kind: str, *, seconds: float, seed: int) -> Overloaded:
    """Measure capacity, then offer four times as much for as long."""
    measure(server, _CAPACITY[kind], seconds=1, seed=seed + 3)
    capacity = measure(server, _CAPACITY[kind], seconds=seconds, seed=seed)
    rate = _TIMES * capacity.texts_per_second
    load = Load(_CLIENTS, kind=kind, rate=rate, track=True)
    return Overloaded(capacity, measure(server, load, seconds=seconds, seed=seed + 1))


def _bars(kind: str, taken: list[Overloaded]) -> list[results.Bar]:
    refusals = [one.time_ms("429", "p99") for one in taken if "429" in one.sample.by_status]
    waits = [one.time_ms("200", "p99") for one in taken if "200" in one.sample.by_status]
    return [
        median_bar(
            f"overload, {kind}: p99 of a 429", refusals,
            relation="<=", limit=_REFUSAL_BAR_MS, unit="ms",
        ),
        median_bar(
            f"overload, {kind}: goodput / capacity", [one.goodput for one in taken],
            relation=">=", limit=_GOODPUT_BAR,
        ),
        median_bar(
            f"overload, {kind}: neither 200 nor 429", [float(one.others) for one in taken],
            relation="<=", limit=0,
        ),
        median_bar(
            f"overload, {kind}: load offered / capacity", [one.offered for one in taken],
            relation=">=", limit=None,
        ),
        median_bar(
            f"overload, {kind}: p99 of a 200", waits, relation="<=", limit=None, unit="ms"
        ),
    ]  # fmt: skip
