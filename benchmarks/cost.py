"""Measure what the service adds to the model: CPU of a miss against the model alone, of a hit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from benchmarks import results
from benchmarks.compare import Plan, measure_alone
from benchmarks.contestants import CHECKOUT, Ours, paused_servers, running
from benchmarks.metrics import read_batches
from benchmarks.process import Server, ServerError
from benchmarks.results import median_bar, say
from benchmarks.wrk import Load

_LOADS = {"1 text": (Load(1), 1.4), "32 texts": (Load(4, texts=32), 1.25)}
_HIT = Load(8, kind="fixed")
_HIT_BAR_MS = 0.5


def run_overhead(plan: Plan) -> None:
    """Compare the CPU of a text over HTTP with the model alone on the same batches."""
    before = os.getloadavg()
    rounds: list[dict[str, Any]] = []
    with paused_servers([Ours()]) as [server]:
        for number in range(plan.rounds):
            taken = {}
            for index, (name, (load, _)) in enumerate(_LOADS.items()):
                seed = 60_000 + 1_000 * number + 100 * index
                # The two change places from round to round, so that no drift favours one.
                if number % 2:
                    alone = replay_alone(load, seconds=plan.seconds, seed=seed)
                served = measure_served(server, load, seconds=plan.seconds, seed=seed)
                if number % 2 == 0:
                    alone = replay_alone(load, seconds=plan.seconds, seed=seed)
                ratio = served["cpu_ms_per_text"] / alone["cpu_ms_per_text"]
                say(f"  round {number + 1}, {name}: {ratio:.3f} times the model alone")
                taken[name] = {
                    "served": served,
                    "model_alone": alone,
                    "ratio": round(ratio, 4),
                    "valid": not served["bad_status"] and not served["broken"],
                }
            rounds.append(taken)
    bars = [
        median_bar(
            f"CPU over HTTP / model alone, {name} a request",
            [taken[name]["ratio"] for taken in rounds if taken[name]["valid"]],
            relation="<=",
            limit=limit,
        )
        for name, (_, limit) in _LOADS.items()
    ]
    settings = {"rounds": plan.rounds, "seconds": plan.seconds}
    results.write(
        "overhead", settings=settings, rounds=rounds, bars=bars, load_average_before=before
    )


def measure_served(server: Server, load: Load, *, seconds: float, seed: int) -> dict[str, Any]:
    """Return the server's CPU per text and the means of the batches it ran."""
    with running(server):
        earlier = read_batches(server)
    sample = measure_alone(server, load, seconds=seconds, seed=seed)
    with running(server):
        batches = read_batches(server).since(earlier)
    cpu = {"cpu_ms_per_text": sample.cpu_ms_per_request / load.texts}
    return sample.as_dict() | cpu | batches


def replay_alone(load: Load, *, seconds: float, seed: int) -> dict[str, float]:
    """Run the model alone in a process of its own and return what it measured.

    Raises:
        ServerError: the process ended with an error; its last words are in the message.
    """
    command = [
        sys.executable, "-m", "benchmarks.replay", "--texts", str(load.texts),
        "--clients", str(load.clients), "--seconds", str(seconds), "--seed", str(seed),
    ]  # fmt: skip
    ran = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise ServerError(f"the model alone did not run:\n{ran.stderr[-1500:]}")
    return dict(json.loads(ran.stdout))


def run_hits(plan: Plan) -> None:
    """Measure the CPU of a request whose one text the in-process cache holds."""
    before = os.getloadavg()
    with paused_servers([Ours()]) as [server]:
        samples = [
            measure_alone(server, _HIT, seconds=plan.seconds, seed=number)
            for number in range(plan.rounds)
        ]
    valid = [one for one in samples if not one.failures]
    bars = [
        median_bar(
            "all-hit request, one text: CPU",
            [one.cpu_ms_per_request for one in valid],
            relation="<=", limit=_HIT_BAR_MS, unit="ms",
        ),
        median_bar(
            "all-hit request, one text: rate",
            [one.requests_per_second for one in valid], relation=">=", limit=None, unit="/s",
        ),
    ]  # fmt: skip
    settings = {"rounds": plan.rounds, "seconds": plan.seconds, "clients": _HIT.clients}
    rounds = [one.as_dict() for one in samples]
    results.write("hits", settings=settings, rounds=rounds, bars=bars, load_average_before=before)
