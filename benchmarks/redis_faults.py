"""Kill, freeze, garble and restart Redis under load: no request may fail or wait for it."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks import results
from benchmarks.compare import Plan
from benchmarks.contestants import Ours, start
from benchmarks.metrics import read_total
from benchmarks.process import Server
from benchmarks.results import Bar, median_bar, say
from benchmarks.wrk import Load, Sample, measure
from tests.support.fault_proxy import Fault, FaultProxy
from tests.support.redis_servers import RedisServer, binaries
from tests.support.redis_servers import running as running_redis

# New texts only: every request asks Redis and writes to it.
_LOAD = Load(16)
_LEAST_SECONDS = 6.0
_RECOVERY_SECONDS = 60.0
_TAIL_BAR = 1.2

Action = Callable[[], None]


@dataclass(frozen=True, slots=True)
class FaultRound:
    """Hold one round.

    Attributes:
        healthy: the load without the fault.
        faulty: the same load, the fault coming after a quarter of it.
        recovery_seconds: from the repair until the service asks Redis again.
    """

    healthy: Sample
    faulty: Sample
    recovery_seconds: float

    def as_dict(self) -> dict[str, object]:
        """Return the fields for the result file."""
        return {
            "healthy": self.healthy.as_dict(),
            "faulty": self.faulty.as_dict(),
            "recovery_seconds": round(self.recovery_seconds, 2),
        }


def run_redis(plan: Plan) -> None:
    """Measure each fault beside the same load without it, round by round."""
    before = os.getloadavg()
    seconds = max(plan.seconds, _LEAST_SECONDS)
    rounds: list[dict[str, object]] = []
    bars: list[Bar] = []
    kind = next(iter(binaries()))
    with running_redis(kind) as redis, garbling_proxy(redis) as (garbled_url, set_fault):
        faults = _faults(redis, set_fault, seconds=seconds)
        for name, (inject, repair) in faults.items():
            url = garbled_url if name == "garbled" else redis.url
            server = start(Ours(settings={"SERVICE_REDIS_URL": url}))
            try:
                taken = [
                    measure_fault(server, number, seconds=seconds, inject=inject, repair=repair)
                    for number in range(plan.rounds)
                ]
            finally:
                server.stop()
            bars += _bars(name, taken)
            rounds += [{"fault": name} | one.as_dict() for one in taken]
            say(f"  {name}: p99 {bars[-1].value:.2f} times, {bars[-2].value:.0f} failed")
    settings = {
        "rounds": plan.rounds, "seconds": seconds, "clients": _LOAD.clients, "server": kind,
    }  # fmt: skip
    results.write("redis", settings=settings, rounds=rounds, bars=bars, load_average_before=before)


def _faults(
    redis: RedisServer, set_fault: Callable[[Fault], None], *, seconds: float
) -> Mapping[str, tuple[Action, Action]]:
    """Return what to do while the clients send, and how to mend it afterwards."""

    def later(action: Action) -> Action:
        def wait_and_act() -> None:
            time.sleep(seconds / 4)
            action()

        return wait_and_act

    def restart() -> None:
        redis.kill()
        time.sleep(seconds / 4)
        redis.start()

    return {
        "killed": (later(redis.kill), redis.start),
        "frozen": (later(redis.freeze), redis.thaw),
        "garbled": (later(lambda: set_fault(Fault.GARBLE)), lambda: set_fault(Fault.NONE)),
        "restarted": (later(restart), lambda: None),
    }


@contextmanager
def garbling_proxy(redis: RedisServer) -> Iterator[tuple[str, Callable[[Fault], None]]]:
    """Run the fault proxy on a loop of its own; yield its address and a way to set the fault."""
    proxy = FaultProxy(redis.host, redis.port)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def set_fault(fault: Fault) -> None:
        proxy.fault = fault

    try:
        asyncio.run_coroutine_threadsafe(proxy.accept(), loop).result()
        yield proxy.url, set_fault
    finally:
        asyncio.run_coroutine_threadsafe(proxy.refuse(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def measure_fault(
    server: Server, number: int, *, seconds: float, inject: Action, repair: Action
) -> FaultRound:
    """Return the load without and with the fault, which change places from round to round."""
    seed = 90_000 + 10 * number
    measure(server, _LOAD, seconds=1, seed=seed + 5)
    if number % 2 == 0:
        healthy = measure(server, _LOAD, seconds=seconds, seed=seed)
    faulty = measure(server, _LOAD, seconds=seconds, seed=seed + 1, meanwhile=inject)
    repair()
    recovery = wait_for_recovery(server, seed=seed + 2)
    if number % 2:
        healthy = measure(server, _LOAD, seconds=seconds, seed=seed)
    return FaultRound(healthy, faulty, recovery)


def wait_for_recovery(server: Server, *, seed: int) -> float:
    """Keep a little load on until the service asks Redis again; return the seconds it took."""
    started = time.monotonic()
    while time.monotonic() < started + _RECOVERY_SECONDS:
        measure(server, Load(1), seconds=1, seed=seed)
        if read_total(server, "isotrope_redis_breaker_open") == 0:
            break
        seed += 100_000
    return time.monotonic() - started


def _bars(name: str, rounds: list[FaultRound]) -> list[Bar]:
    failed = [float(one.healthy.failures + one.faulty.failures) for one in rounds]
    tails = [one.faulty.p99_ms / one.healthy.p99_ms for one in rounds]
    recovery = [one.recovery_seconds for one in rounds]
    return [
        median_bar(
            f"Redis {name}: seconds until it is asked again", recovery,
            relation="<=", limit=None, unit="s",
        ),
        Bar(f"Redis {name}: failed requests, all rounds", sum(failed), max(failed), "<=", 0),
        median_bar(
            f"Redis {name}: p99 over that without fault", tails, relation="<=", limit=_TAIL_BAR
        ),
    ]  # fmt: skip
