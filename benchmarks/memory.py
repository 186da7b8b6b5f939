"""Measure resident memory: idle, warm, with the cache full, and after 10,000 more requests."""

from __future__ import annotations

import os
import time

from benchmarks import results
from benchmarks.compare import Plan
from benchmarks.contestants import Ours, start
from benchmarks.metrics import read_total
from benchmarks.process import Server
from benchmarks.results import Bar, say
from benchmarks.wrk import Load, measure
from service.settings import Settings

_REVIEWS = Load(16, kind="reviews")
_FILL = Load(4, texts=32)
_REQUESTS = 10_000
_STEP_SECONDS = 10
_SETTLE_SECONDS = 3
_FULL = 0.97  # share of its limit at which the cache is called full
_MOST_FILLS = 60
_IDLE_BAR_MB, _GROWTH_BAR_PERCENT = 260, 5


def run_memory(plan: Plan) -> None:  # noqa: ARG001 - counted in requests, not in rounds
    """Watch one service from its start; lengths of the texts are random throughout.

    The cache is filled first: until then memory grows by what the cache is meant to hold, and
    that would hide what must not grow.
    """
    before = os.getloadavg()
    server = start(Ours())
    try:
        time.sleep(_SETTLE_SECONDS)
        idle = _megabytes(server)
        failures = _load(server, _REVIEWS, seed=70_000)
        warm = _megabytes(server)
        say(f"  idle {idle:.0f} MB, after {_STEP_SECONDS} s of reviews {warm:.0f} MB")
        failures += fill_cache(server)
        failures += _load(server, _REVIEWS, seed=70_001)
        full = _megabytes(server)
        say(f"  cache full: {full:.0f} MB")
        readings, more = watch_requests(server)
    finally:
        server.stop()
    growth = 100 * (readings[-1] - full) / full
    note = f"{failures + more} requests failed" if failures + more else ""
    bars = [
        Bar("resident memory, idle", idle, None, "<=", _IDLE_BAR_MB, "MB"),
        Bar("resident memory, warm, cache nearly empty", warm, unit="MB"),
        Bar("resident memory, cache full", full, unit="MB"),
        Bar("resident memory, after 10,000 more requests", readings[-1], unit="MB"),
        Bar("growth over those requests", growth, None, "<=", _GROWTH_BAR_PERCENT, "%", note),
    ]
    settings = {"cache_memory_bytes": Settings().cache_memory_bytes, "requests": _REQUESTS}
    rounds = [{"megabytes_every_10_s": readings}]
    results.write("memory", settings=settings, rounds=rounds, bars=bars, load_average_before=before)


def fill_cache(server: Server) -> int:
    """Send new texts until the in-process cache is full; return the failed requests."""
    limit = Settings().cache_memory_bytes
    failures, held = 0, -1.0
    for turn in range(_MOST_FILLS):
        now = read_total(server, "isotrope_cache_memory_bytes")
        if now >= _FULL * limit or now <= held:
            break
        held = now
        failures += _load(server, _FILL, seed=71_000 + turn)
    return failures


def watch_requests(server: Server) -> tuple[list[float], int]:
    """Send 10,000 reviews; return memory in MB every ten seconds, and the failed requests."""
    readings: list[float] = []
    sent = failures = turn = 0
    while sent < _REQUESTS:
        sample = measure(server, _REVIEWS, seconds=_STEP_SECONDS, seed=72_000 + turn)
        sent += sample.requests
        failures += sample.failures
        turn += 1
        readings.append(round(_megabytes(server), 2))
        if sample.requests == 0:
            break
    say(f"  after {sent} more requests: {readings[-1]:.0f} MB")
    return readings, failures


def _load(server: Server, load: Load, *, seed: int) -> int:
    return measure(server, load, seconds=_STEP_SECONDS, seed=seed).failures


def _megabytes(server: Server) -> float:
    return server.rss_bytes() / 1e6
