"""Measure the generation room: what batching changes (nothing), and what HTTP costs.

```
python -m benchmarks.generation [--model NAME] [--only same|cost|memory|drops]
```

Prints each bar and writes `results/generation.json`. The model is an installed one with a serving
graph, found where `SERVICE_MODELS_DIR` says. In process means the same room without HTTP, in this
process; both sides run alternately, medians of rounds. All of it takes about five minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import results
from benchmarks.process import Server, free_port, start_server
from benchmarks.results import Bar, median_bar, say
from service.capabilities.generation.numerics.choosing import Sampling
from service.capabilities.generation.pipeline.events import Token
from service.capabilities.generation.pipeline.prompts import Prompt
from service.capabilities.generation.pipeline.room import Ask, GenerationRoom
from service.capabilities.generation.settings import GenerationSettings
from service.metrics import Metrics
from service.runtime.decoders.lending import Decoders
from service.runtime.decoders.reading import ReadingChoice
from service.runtime.engine import open_engine
from service.runtime.serving.scheduler import Limits, Scheduler
from service.settings import Settings

PATH = "/v1/attention/generate"
ROUNDS, LENGTH, PROMPT = 7, 48, 32
STREAMS = 500
SECONDS = 170.0
KEPT = 'isotrope_sequence_cache_bytes{state="kept"}'


@dataclass(frozen=True, slots=True)
class Timed:
    """Hold seconds to the first token, tokens a second after it, and CPU seconds of it all."""

    first: float
    rate: float
    cpu: float


def words(count: int, seed: int) -> list[int]:
    """Return ids of ordinary pieces; the first differs, so that no prefix is reused."""
    draw = random.Random(seed)
    return [draw.randrange(1000, 40_000) for _ in range(count)]


@contextmanager
def serving(model: str, **settings: str) -> Iterator[Server]:
    """Yield a service that has the model loaded."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        server = start_server(
            "generation",
            [sys.executable, "-m", "service", "serve", "--port", str(port)],
            port=port,
            ready="/livez",
            env={
                "SERVICE_PRELOAD_MODELS": "",
                "SERVICE_ROOMS": "generation",
                "SERVICE_ACCESS_LOG": "false",
                "SERVICE_DATA_LOCATION": f"{folder}/data",
                **settings,
            },
            folder=Path(folder),
        )
        try:
            ask(server, {"model": model, "ids": [1000], "max_tokens": 2})
            yield server
        finally:
            server.stop()


def ask(server: Server, body: dict[str, Any]) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=SECONDS)
    connection.request("POST", PATH, json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    if answer.status != 200:
        raise RuntimeError(content.decode())
    return dict(json.loads(content))


def lines(server: Server, body: dict[str, Any]) -> Iterator[bytes]:
    """Yield the lines of a stream; closing the iterator closes the connection."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=SECONDS)
    head = {"Content-Type": "application/json", "Accept": "text/event-stream"}
    connection.request("POST", PATH, json.dumps(body), head)
    answer = connection.getresponse()
    try:
        while line := answer.readline():
            yield line
    finally:
        connection.close()


def over_http(server: Server, model: str, ids: Sequence[int], count: int) -> Timed:
    body = {"model": model, "ids": ids, "max_tokens": count, **_NEVER_ENDS}
    spent, started = server.cpu_ms(), time.perf_counter()
    times = [
        time.perf_counter() for line in lines(server, body) if line.startswith(b"event: token")
    ]
    return timed(started, times, cpu=(server.cpu_ms() - spent) / 1000)


_NEVER_ENDS: dict[str, Any] = {"temperature": 0, "logit_bias": {"0": -100, "2": -100}}


def timed(started: float, times: Sequence[float], *, cpu: float) -> Timed:
    return Timed(times[0] - started, (len(times) - 1) / (times[-1] - times[0]), cpu)


@asynccontextmanager
async def in_process() -> AsyncIterator[GenerationRoom]:
    """Yield the room without HTTP, with the settings that a service has by default."""
    settings, own, metrics = Settings(preload_models=()), GenerationSettings(), Metrics()
    async with open_engine(settings, metrics) as engine:
        decoders = Decoders(settings, engine, metrics)
        limits = Limits(
            workers=engine.cores.usable,
            slots=own.slots,
            piece=own.prompt_piece,
            cache_bytes=own.cache_mb * 2**20,
            waiting=own.max_waiting,
        )
        scheduler = Scheduler(limits)
        try:
            yield GenerationRoom(decoders, engine, scheduler, own, metrics)
        finally:
            await asyncio.to_thread(scheduler.close)
            await decoders.aclose()


async def without_http(room: GenerationRoom, model: str, ids: Sequence[int], count: int) -> Timed:
    wish = Ask(
        prompts=[Prompt(ids, "/ids")],
        model=model,
        variant=None,
        choice=ReadingChoice(),
        sampling=Sampling(temperature=0, logit_bias={0: -100, 2: -100}),
        asked=count,
        stops=(),
        seed=0,
        deadline=time.monotonic() + SECONDS,
    )
    spent, started = time.process_time(), time.perf_counter()
    texts = await room.begin(wish)
    times = []
    async for event in texts.events():
        if isinstance(event, Token):
            times.append(time.perf_counter())
    texts.close()
    return timed(started, times, cpu=time.process_time() - spent)


def same_bars(model: str) -> list[Bar]:
    """Return whether 8 seeded texts are the same alone, together and on another replica."""
    bodies = [
        {"model": model, "ids": words(8 + 29 * number, number), "max_tokens": 24, "seed": number}
        for number in range(8)
    ]
    with serving(model) as server:
        alone = [ids_of(ask(server, body)) for body in bodies]
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(lambda body: ids_of(ask(server, body)), bodies))
    with serving(model, SERVICE_GENERATION_WORKERS="1") as other, ThreadPoolExecutor(8) as pool:
        elsewhere = list(pool.map(lambda body: ids_of(ask(other, body)), bodies[::-1]))[::-1]
    return [
        Bar(f"texts of 8 that are the same {where} as alone", share(found, alone), None, ">=", 1.0)
        for where, found in (("among 7 others", together), ("on a second replica", elsewhere))
    ]


def ids_of(reply: dict[str, Any]) -> list[int]:
    return [token["id"] for token in reply["tokens"]]


def share(found: Sequence[list[int]], expected: Sequence[list[int]]) -> float:
    pairs = list(zip(found, expected, strict=True))
    return sum(one == other for one, other in pairs) / len(pairs)


def cost_bars(model: str) -> list[Bar]:
    """Return what HTTP costs, and what running together gains."""
    with serving(model) as server:
        pairs = asyncio.run(alternate(server, model))
        firsts = [http.first / own.first for http, own in pairs]
        rates = [http.rate / own.rate for http, own in pairs]
        spent = [http.cpu / own.cpu for http, own in pairs]
        gains = [gain(server, model, count) for count in (4, 8)]
    first = statistics.median(http.first for http, _ in pairs)
    rate = statistics.median(http.rate for http, _ in pairs)
    return [
        median_bar(f"first token over HTTP / in process, prompt of {PROMPT}", firsts,
                   relation="<=", limit=1.3, unit="×", note=f"{1000 * first:.0f} ms"),
        median_bar("tokens a second over HTTP / in process", rates,
                   relation=">=", limit=0.85, unit="×", note=f"{rate:.1f} tokens/s"),
        median_bar("CPU time over HTTP, of the server alone / in process", spent,
                   relation="<=", limit=None, unit="×"),
        Bar("4 streams / one stream over HTTP, tokens a second", gains[0] / rate, unit="×"),
        Bar("8 streams / one stream over HTTP, tokens a second", gains[1] / rate, unit="×"),
    ]  # fmt: skip


async def alternate(server: Server, model: str) -> list[tuple[Timed, Timed]]:
    pairs = []
    async with in_process() as room:
        await without_http(room, model, words(PROMPT, 999), 4)
        for number in range(ROUNDS):
            theirs, ours = words(PROMPT, 2 * number), words(PROMPT, 2 * number + 1)
            over = await asyncio.to_thread(over_http, server, model, theirs, LENGTH)
            pairs.append((over, await without_http(room, model, ours, LENGTH)))
    return pairs


def gain(server: Server, model: str, count: int) -> float:
    """Return the tokens a second of so many streams together, without their first ones."""
    gate = threading.Barrier(count)

    def one(number: int) -> tuple[float, float]:
        body = {"model": model, "ids": words(PROMPT, 100 * count + number),
                "max_tokens": LENGTH, **_NEVER_ENDS}  # fmt: skip
        gate.wait()
        times = [time.perf_counter() for line in lines(server, body)
                 if line.startswith(b"event: token")]  # fmt: skip
        return times[0], times[-1]

    with ThreadPoolExecutor(count) as pool:
        spans = list(pool.map(one, range(count)))
    seconds = max(end for _, end in spans) - min(start for start, _ in spans)
    return count * (LENGTH - 1) / seconds


def memory_bars(model: str) -> list[Bar]:
    """Return the largest resident memory while 8 sequences come to 512 tokens."""
    with serving(model) as server:
        loaded = server.rss_bytes()
        with ThreadPoolExecutor(8) as pool:
            bodies = [
                {"model": model, "ids": words(448, number), "max_tokens": 64, **_NEVER_ENDS}
                for number in range(8)
            ]
            list(pool.map(lambda body: ask(server, body), bodies))
        status = Path(f"/proc/{server.process.pid}/status").read_text()
        peak = next(int(row.split()[1]) for row in status.splitlines() if row.startswith("VmHWM"))
    note = f"{loaded / 2**20:.0f} MiB with the model loaded"
    return [
        Bar("peak memory, model loaded and 8 sequences of 512", peak * 1024 / 1e9, None, "<=", 1.0,
            unit="GB", note=note),
    ]  # fmt: skip


def drop_bars(model: str) -> list[Bar]:
    """Return what is left behind by streams that are closed at random."""
    with serving(model, SERVICE_GENERATION_MAX_WAITING="32") as server:
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda number: drop(server, model, number), range(2 * 16)))
            settle(server)
            before = descriptors(server), server.rss_bytes()
            kept = metric(server, KEPT)
            started = time.monotonic()
            list(pool.map(lambda number: drop(server, model, number), range(STREAMS)))
        took = time.monotonic() - started
        settle(server)
        limit = time.monotonic() + 10
        while descriptors(server) > before[0] and time.monotonic() < limit:
            time.sleep(0.1)  # connections close a moment after their last sequence
        left = gauge(server, "running") + gauge(server, "waiting")
        promised = metric(server, 'isotrope_sequence_cache_bytes{state="promised"}')
        kept = metric(server, KEPT) - kept
        after = descriptors(server), server.rss_bytes()
    grown = (after[1] - before[1] - kept) / 2**20
    return [
        Bar(f"sequences left by {STREAMS} dropped streams", left, None, "<=", 0,
            note=f"in {took:.0f} s"),
        Bar("bytes still promised to them", promised, None, "<=", 0),
        Bar("descriptors more than before", after[0] - before[0], None, "<=", 0),
        Bar("memory more than before, prefixes aside", grown, None, "<=", 32, unit="MiB",
            note=f"of prefixes {kept / 2**20:.0f} MiB more"),
    ]  # fmt: skip


def settle(server: Server) -> None:
    """Wait until no sequence runs, and a moment more."""
    limit = time.monotonic() + SECONDS
    while time.monotonic() < limit and gauge(server, "running"):
        time.sleep(0.1)
    time.sleep(1)


def drop(server: Server, model: str, number: int) -> None:
    draw = random.Random(number)
    ids = words(draw.randrange(1, 80), number)
    stream = lines(server, {"model": model, "ids": ids, "max_tokens": 400, **_NEVER_ENDS})
    for _ in range(draw.choice([1, 1, 4, 13])):
        next(stream, b"")
    stream.close()  # type: ignore[attr-defined]


def descriptors(server: Server) -> int:
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


def gauge(server: Server, state: str) -> float:
    return metric(server, f'isotrope_sequences{{state="{state}"}}')


def metric(server: Server, name: str) -> float:
    rows = server.fetch("/metrics", timeout=30).splitlines()
    return next(float(row.split()[-1]) for row in rows if row.startswith(name))


PARTS: dict[str, Callable[[str], list[Bar]]] = {
    "same": same_bars,
    "cost": cost_bars,
    "memory": memory_bars,
    "drops": drop_bars,
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.generation")
    parser.add_argument("--only", action="append", choices=PARTS, help="one part; may be repeated")
    parser.add_argument("--model", default="smollm2-135m-instruct", help="an installed model")
    given = parser.parse_args(arguments)
    chosen = given.only or list(PARTS)
    load = os.getloadavg()
    bars: list[Bar] = []
    for part in chosen:
        say(f"{part}:")
        found = PARTS[part](given.model)
        bars += found
        for bar in found:
            verdict = {True: "met", False: "MISSED", None: ""}[bar.met]
            limit = "" if bar.limit is None else f"{bar.relation} {bar.limit:g}"
            worst = "" if bar.worst is None else f"[{bar.worst:.3g}]"
            note = f" ({bar.note})" if bar.note else ""
            say(f"  {verdict:7}{bar.value:>10.3g} {worst:>10} {limit:>9}  {bar.what}{note}")
    if set(chosen) == set(PARTS):
        results.write(
            "generation",
            settings={"model": given.model, "rounds": ROUNDS, "tokens": LENGTH},
            rounds=[],
            bars=bars,
            load_average_before=load,
        )
    missed = [bar.what for bar in bars if bar.met is False]
    say(f"{len(missed)} missed" if missed else "all met")


if __name__ == "__main__":
    main()
