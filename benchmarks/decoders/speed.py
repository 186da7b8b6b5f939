"""Speed of the serving graph: beside llama.cpp on the same file, to the memory limit, in batches.

Both engines run one thread, so CPU time is what a quiet machine would need; it judges, and wall
time is shown beside it.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.decoders.arena import Arena
from benchmarks.decoders.graphs import Family
from benchmarks.results import Bar, say

PROMPTS = (32, 128, 512)
BLOCK = 16
WORKER = Path(__file__).parents[1] / "peers" / "llama_worker.py"
READ_BYTES = 2**28


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds of one block of work."""

    wall: float
    cpu: float


def timed(work: Callable[[], object]) -> Spent:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Spent(time.perf_counter() - wall, time.process_time() - cpu)


class LlamaCpp:
    """Speak with a worker process; it waits for a line between blocks of work."""

    def __init__(self, python: Path, gguf: Path, *, flash: bool) -> None:
        self._process = subprocess.Popen(
            [python, WORKER, gguf, str(int(flash))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def ask(self, **command: object) -> Spent:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return Spent(**json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def peer_bars(
    family: Family, windows: list[list[int]], *, python: Path, gguf: Path, rounds: int
) -> list[Bar]:
    """Return decode and prefill against llama.cpp with its better flash-attention setting."""
    session = family.session(family.manifest["serving"], threads=1)
    arena = Arena(session, family, rows=1, capacity=1024)
    tokens = [token for window in windows for token in window]
    peers = {flash: LlamaCpp(python, gguf, flash=flash) for flash in (False, True)}
    bars, ratios = [], []
    try:
        for length in PROMPTS:
            found, decode = _one_prompt(arena, peers, tokens[:length], rounds=rounds)
            bars += found
            ratios.append(decode)
    finally:
        for peer in peers.values():
            peer.close()
    mean = statistics.geometric_mean(ratios)
    bars.append(Bar("decode / llama.cpp, geometric mean", mean, limit=1.1, unit="x"))
    return bars


def _one_prompt(
    arena: Arena, peers: dict[bool, LlamaCpp], prompt: list[int], *, rounds: int
) -> tuple[list[Bar], float]:
    prefill: dict[object, list[Spent]] = {"ours": [], False: [], True: []}
    decode: dict[object, list[Spent]] = {"ours": [], False: [], True: []}
    first = arena.prefill(prompt)
    for done in range(rounds):
        spent = [("ours", timed(lambda: arena.prefill(prompt)))]
        spent += [(flash, peer.ask(prefill=prompt)) for flash, peer in peers.items()]
        later = [("ours", timed(lambda: arena.decode(first, BLOCK)))]
        later += [(flash, peer.ask(decode=BLOCK)) for flash, peer in peers.items()]
        # The first round warms both.
        if done:
            for into, of in ((prefill, spent), (decode, later)):
                for name, each in of:
                    into[name].append(each)
    length = len(prompt)
    bars = []
    ratios = {}
    for what, kind, limit in ((prefill, "prefill", 1.8), (decode, "decode", 1.0)):
        cpu = {name: statistics.median(each.cpu for each in of) for name, of in what.items()}
        wall = {name: statistics.median(each.wall for each in of) for name, of in what.items()}
        best = min((False, True), key=cpu.__getitem__)
        setting = "on" if best else "off"
        count = length if kind == "prefill" else BLOCK
        ratios[kind] = cpu[best] / cpu["ours"]
        note = (
            f"CPU; wall {wall[best] / wall['ours']:.2f} x; {count / cpu['ours']:.0f} against "
            f"{count / cpu[best]:.0f} tokens a CPU-second; flash attention {setting}"
        )
        say(f"  prompt {length}, {kind}: {ratios[kind]:.2f} x, {note}")
        bars.append(
            Bar(
                f"{kind} / llama.cpp, prompt {length}",
                ratios[kind],
                limit=limit,
                unit="x",
                note=note,
            )
        )
    return bars, ratios["decode"]


def limit_bars(family: Family, windows: list[list[int]], *, rounds: int) -> list[Bar]:
    """Return the share of the read-bandwidth limit that decoding one sequence reaches."""
    session = family.session(family.manifest["serving"], threads=1)
    arena = Arena(session, family, rows=1, capacity=512)
    numbers = np.ones(READ_BYTES // 4, dtype=np.float32)
    token = arena.prefill(windows[0][:128])
    weights = (family.folder / "weights.bin").stat().st_size
    shares = []
    with threadpool_limits(1):
        for done in range(rounds):
            arena.lengths[:] = 128
            read = timed(lambda: numbers @ numbers)
            spent = timed(lambda: arena.decode(token, BLOCK))
            if done:
                needed = weights + arena.past_bytes * (128 + BLOCK / 2)
                reached = needed * BLOCK / spent.cpu
                shares.append(reached / (READ_BYTES / read.cpu))
    share = statistics.median(shares)
    note = f"{weights / 1e6:.0f} MB a token; by CPU time, a dot product of 256 MB beside it"
    return [Bar("decode, share of the read bandwidth", share, min(shares), limit=0.40, note=note)]


def batch_bars(family: Family, windows: list[list[int]], *, rounds: int) -> list[Bar]:
    """Return tokens a second of 4 and 8 rows, and of two callers with 4, over one row."""
    session = family.session(family.manifest["serving"], threads=1)
    arenas = {rows: Arena(session, family, rows=rows, capacity=256) for rows in (1, 4, 8)}
    second = Arena(session, family, rows=4, capacity=256)
    prompt = windows[0][:64]
    tokens = {rows: arena.prefill(prompt) for rows, arena in arenas.items()}
    other = second.prefill(prompt)
    rates: dict[str, list[float]] = {"1": [], "4": [], "8": [], "2 x 4": [], "2 x 4 CPU": []}
    for done in range(rounds):
        for arena in (*arenas.values(), second):
            arena.lengths[:] = 64
        found = {
            str(rows): rows * BLOCK / timed(lambda: arena.decode(tokens[rows], BLOCK)).cpu  # noqa: B023
            for rows, arena in arenas.items()
        }
        arenas[4].lengths[:] = 64

        def both() -> None:
            caller = threading.Thread(target=lambda: second.decode(other, BLOCK))
            caller.start()
            arenas[4].decode(tokens[4], BLOCK)
            caller.join()

        arenas[1].lengths[:] = 64
        alone = timed(lambda: arenas[1].decode(tokens[1], BLOCK))
        pair = timed(both)
        found["2 x 4"] = 8 * BLOCK / pair.wall / (BLOCK / alone.wall)
        found["2 x 4 CPU"] = 8 * BLOCK / pair.cpu * 2 / (BLOCK / alone.cpu)
        if done:
            for name, value in found.items():
                rates[name].append(value)
    median = {name: statistics.median(of) for name, of in rates.items()}
    note = "tokens a CPU-second, one thread"
    return [
        Bar("4 rows / 1 row", median["4"] / median["1"], limit=1.6, unit="x", note=note),
        Bar("8 rows / 1 row", median["8"] / median["1"], limit=1.9, unit="x", note=note),
        Bar("2 callers of 4 rows / 1 row", median["2 x 4"], limit=2.5, unit="x",
            note=f"wall time, needs both cores; by CPU time of two free cores "
            f"{median['2 x 4 CPU']:.2f} x"),
    ]  # fmt: skip
