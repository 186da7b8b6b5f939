"""Measure the service beside its peers: short texts, 32 texts a request, reviews."""

from __future__ import annotations

import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks import results
from benchmarks.contestants import Contestant, Infinity, LitServe, Ours, paused_servers, running
from benchmarks.process import Server
from benchmarks.results import Bar, median_bar, say
from benchmarks.wrk import Load, Sample, measure

SHORT = {f"{clients} clients": Load(clients) for clients in (1, 8, 32, 64)}
BATCH32 = Load(4, texts=32)
REVIEWS = Load(16, kind="reviews")
TUNING = "peer_batch_sizes"

_WARM_SECONDS = 1
_TRIES = 3
_NEVER_USED_AGAIN = 1_000_000  # seeds of warm-up texts lie above those of measured ones

# Bars of the rate, ours over the peer's.
_SHORT_BARS = {
    "infinity": {"1 clients": 1.4, "8 clients": 1.2, "32 clients": 1.25, "64 clients": 1.25},
    "litserve": {"1 clients": 1.35, "8 clients": 1.45, "32 clients": 1.6, "64 clients": 1.7},
}
_BATCH32_BARS = {"infinity": 1.05, "litserve": 1.6}
_REVIEWS_BARS = {"infinity": 1.5, "litserve": 1.7}
_TAIL_BAR = 2.2

Round = dict[str, dict[str, Sample]]  # load name -> server name -> what it did


@dataclass(frozen=True, slots=True)
class Plan:
    """Hold how long to measure.

    Attributes:
        rounds: times that every server is measured.
        seconds: of one measurement.
    """

    rounds: int
    seconds: float


def run_short(plan: Plan) -> None:
    """Measure one short text a request; the peers as they are set up by most: 32 and 64."""
    contestants: list[Contestant] = [Ours(), Infinity(), LitServe()]
    before = os.getloadavg()
    rounds = alternate(contestants, SHORT, plan=plan)
    bars = []
    for peer in contestants[1:]:
        kind = peer.name.partition("-")[0]
        for load in SHORT:
            limit = _SHORT_BARS[kind][load]
            bars += rate_bars(rounds, load, peer=peer.name, limit=limit, what=f"short, {load}")
    tails = [
        taken["32 clients"]["ours"].p99_ms / taken["32 clients"]["ours"].p50_ms
        for taken in rounds
        if is_valid(taken["32 clients"])
    ]
    bars.append(median_bar("p99 / p50, 32 clients", tails, relation="<=", limit=_TAIL_BAR))
    save("short", plan=plan, rounds=rounds, bars=bars, before=before)


def run_batch32(plan: Plan) -> None:
    """Measure 32 short texts a request, 4 clients; peers at their best batch size."""
    _run_at_best("batch32", BATCH32, limits=_BATCH32_BARS, plan=plan)


def run_reviews(plan: Plan) -> None:
    """Measure one review a request, 16 clients; peers at their best batch size."""
    _run_at_best("reviews", REVIEWS, limits=_REVIEWS_BARS, plan=plan)


def _run_at_best(name: str, load: Load, *, limits: Mapping[str, float], plan: Plan) -> None:
    best = best_peers(name, plan=plan)
    before = os.getloadavg()
    rounds = alternate([Ours(), *best], {name: load}, plan=plan)
    bars = []
    for peer in best:
        limit = limits[peer.name.partition("-")[0]]
        bars += rate_bars(rounds, name, peer=peer.name, limit=limit, what=name)
    save(name, plan=plan, rounds=rounds, bars=bars, before=before)


def alternate(
    contestants: Sequence[Contestant], loads: Mapping[str, Load], *, plan: Plan
) -> list[Round]:
    """Return rounds in which each server in turn runs alone, in an order that rotates."""
    rounds: list[Round] = []
    with paused_servers(contestants) as servers:
        for number in range(plan.rounds):
            taken: Round = {}
            shift = number % len(servers)
            for index, (name, load) in enumerate(loads.items()):
                seed = 10_000 * (number + 1) + 100 * index
                taken[name] = {
                    server.name: measure_alone(server, load, seconds=plan.seconds, seed=seed)
                    for server in (*servers[shift:], *servers[:shift])
                }
                rates = ", ".join(
                    f"{who} {one.texts_per_second:.0f}/s" for who, one in taken[name].items()
                )
                say(f"  round {number + 1}, {name}: {rates}")
            rounds.append(taken)
    return rounds


def measure_alone(server: Server, load: Load, *, seconds: float, seed: int) -> Sample:
    """Let one server run, warm it up, and measure it; a round with failures is tried again."""
    with running(server):
        measure(server, load, seconds=_WARM_SECONDS, seed=seed + _NEVER_USED_AGAIN)
        for attempt in range(_TRIES):
            sample = measure(server, load, seconds=seconds, seed=seed + attempt)
            if sample.failures == 0 and sample.requests > 0:
                break
    return sample


def is_valid(samples: Mapping[str, Sample]) -> bool:
    """Return whether no server failed a request and each answered some."""
    return all(one.failures == 0 and one.requests > 0 for one in samples.values())


def rate_bars(
    rounds: Sequence[Round], load: str, *, peer: str, limit: float, what: str
) -> list[Bar]:
    """Return the ratio of rates, which is judged, and those of CPU and p99, which are shown."""
    valid = [taken[load] for taken in rounds if is_valid(taken[load])]
    rates = [one["ours"].texts_per_second / one[peer].texts_per_second for one in valid]
    cpu = [one[peer].cpu_ms_per_request / one["ours"].cpu_ms_per_request for one in valid]
    tails = [one["ours"].p99_ms / one[peer].p99_ms for one in valid]
    lost = len(rounds) - len(valid)
    note = f"{lost} rounds invalid" if lost else ""
    return [
        median_bar(f"{what}: rate over {peer}", rates, relation=">=", limit=limit, note=note),
        median_bar(f"{what}: CPU of {peer} over ours", cpu, relation=">=", limit=None),
        median_bar(f"{what}: p99 over that of {peer}", tails, relation="<=", limit=None),
    ]


def save(
    name: str, *, plan: Plan, rounds: Sequence[Round], bars: Sequence[Bar], before: Sequence[float]
) -> None:
    """Write the result file of a comparison."""
    shown = [
        {
            load: {who: one.as_dict() for who, one in samples.items()}
            for load, samples in taken.items()
        }
        for taken in rounds
    ]
    settings = {"rounds": plan.rounds, "seconds": plan.seconds, "others": "stopped by SIGSTOP"}
    results.write(name, settings=settings, rounds=shown, bars=bars, load_average_before=before)


_CANDIDATES: dict[str, tuple[Load, tuple[Infinity | LitServe, ...]]] = {
    "batch32": (
        BATCH32,
        (
            *(Infinity(size) for size in (4, 8, 16, 32)),
            # LitServe gathers requests, of 32 texts each here, and runs so many texts at a time
            *(LitServe(*sizes) for sizes in ((4, 0), (4, 32), (4, 16), (4, 8), (1, 0), (1, 16))),
        ),
    ),
    "reviews": (
        REVIEWS,
        (
            *(Infinity(size) for size in (4, 8, 16, 32)),
            *(LitServe(size) for size in (1, 4, 8, 16, 64)),
        ),
    ),
}


def tune_peers(plan: Plan) -> None:
    """Find the batch size at which each peer is fastest, load by load, and write it down."""
    before = os.getloadavg()
    shown: list[dict[str, object]] = []
    for name, (load, candidates) in _CANDIDATES.items():
        for peer in candidates:
            with paused_servers([peer]) as [server]:
                rates = [
                    measure_alone(
                        server, load, seconds=plan.seconds, seed=50_000 + 100 * turn
                    ).texts_per_second
                    for turn in range(3)
                ]
            say(f"  {name}, {peer.name}: {statistics.median(rates):.0f} texts/s")
            shown.append({"load": name, "peer": peer.name, "texts_per_second": rates})
    settings = {"seconds": plan.seconds}
    results.write(TUNING, settings=settings, rounds=shown, bars=[], load_average_before=before)


def best_peers(load: str, *, plan: Plan) -> list[Infinity | LitServe]:
    """Return each peer at the batch size that was fastest for a load; tune first if need be."""
    found = results.read(TUNING)
    if found is None:
        say("  tuning the peers first")
        tune_peers(plan)
        found = results.read(TUNING)
    assert found is not None  # just written
    medians = {
        one["peer"]: statistics.median(one["texts_per_second"])
        for one in found["rounds"]
        if one["load"] == load
    }
    best: list[Infinity | LitServe] = []
    for kind in (Infinity, LitServe):
        peers = [peer for peer in _CANDIDATES[load][1] if isinstance(peer, kind)]
        best.append(max(peers, key=lambda peer: medians.get(peer.name, 0.0)))
    return best
