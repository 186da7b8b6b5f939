"""Run the model alone, in this process, on the batches that the batcher makes.

First the service's own batcher is driven by as many clients as the HTTP load has, and every batch
is written down as token ids. Then only those batches are run: padding and the model, no queue, no
tokeniser, no HTTP, with the session, the options and the number of callers that the service has.

`python -m benchmarks.replay --texts 32 --clients 4 --seconds 3 --seed 1` prints one JSON object.
"""

from __future__ import annotations

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before onnxruntime is imported

import argparse
import asyncio
import itertools
import json
import random
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.contestants import model_folder
from service.metrics import Metrics
from service.numerics.dtypes import Ids64, Matrix32
from service.runtime.batcher import Batcher, pad
from service.runtime.session import Session, SessionOptions, open_session
from service.runtime.threads import count_cores
from service.runtime.tokenizer import TextTokenizer, Truncate, open_tokenizer
from service.settings import Settings

_WORDS = (Path(__file__).parent / "loads" / "words.txt").read_text().split()
_RECORD_SECONDS = 2.0
_OUTPUT = "mean"
Batch = list[list[int]]


class Recorder:
    """Pass runs on to a session and keep the ids of each."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.provider = session.provider
        self.batches: list[Batch] = []

    def run(
        self, input_ids: Ids64, attention_mask: Ids64, outputs: Sequence[str]
    ) -> list[Matrix32]:
        """Return what the session returns."""
        lengths = attention_mask.sum(axis=1)
        self.batches.append(
            [row[:length].tolist() for row, length in zip(input_ids, lengths, strict=True)]
        )
        return self._session.run(input_ids, attention_mask, outputs)


async def record(
    session: Session, tokenizer: TextTokenizer, *, executors: int, given: argparse.Namespace
) -> list[Batch]:
    """Return the batches that the batcher forms for clients which send as soon as they can."""
    recorder = Recorder(session)
    settings, metrics = Settings(), Metrics()
    batcher = Batcher(
        executors=executors,
        max_batch_tokens=settings.max_batch_tokens,
        run_overhead_tokens=settings.run_overhead_tokens,
        max_queued_tokens=settings.max_queued_tokens,
        metrics=metrics,
    )
    lane = batcher.add_lane("model", recorder, metrics)
    source = random.Random(given.seed)
    ends = time.monotonic() + _RECORD_SECONDS

    async def send() -> None:
        while time.monotonic() < ends:
            texts = [
                " ".join(source.choices(_WORDS, k=source.randint(5, 14)))
                for _ in range(given.texts)
            ]
            ids = [found.ids for found in tokenizer.encode_texts(texts, Truncate.RIGHT)]
            await batcher.submit(lane, ids, output=_OUTPUT, deadline=time.monotonic() + 30)

    await asyncio.gather(*(send() for _ in range(given.clients)))
    await batcher.aclose()
    return recorder.batches


def replay(session: Session, batches: Sequence[Batch], *, callers: int, seconds: float) -> float:
    """Return the CPU time per text, in milliseconds, of padding and running the batches."""
    source, lock = itertools.cycle(batches), threading.Lock()
    done = [0] * callers
    ends = time.monotonic() + seconds

    def work(caller: int) -> None:
        while time.monotonic() < ends:
            with lock:
                batch = next(source)
            session.run(*pad(batch), [_OUTPUT])
            done[caller] += len(batch)

    before = time.process_time()
    threads = [threading.Thread(target=work, args=(caller,)) for caller in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 1000 * (time.process_time() - before) / sum(done)


def main() -> None:
    """Record, replay, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replay", description=__doc__)
    parser.add_argument("--texts", type=int, required=True, help="texts in one request")
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    given = parser.parse_args()
    settings, folder = Settings(), model_folder()
    options = SessionOptions(
        providers=settings.providers,
        policy=settings.provider_policy,
        threads_per_run=settings.threads_per_run,
    )
    session = open_session(folder / "model.onnx", options)
    tokenizer = open_tokenizer(folder / "tokenizer.json", max_tokens=256, prefix="")
    executors = settings.executors or count_cores().usable
    batches = asyncio.run(record(session, tokenizer, executors=executors, given=given))
    callers = min(executors, given.clients)
    cpu = replay(session, batches, callers=callers, seconds=given.seconds)
    texts = sum(map(len, batches))
    tokens = sum(len(batch) * max(map(len, batch)) for batch in batches)
    found = {
        "cpu_ms_per_text": round(cpu, 4),
        "callers": callers,
        "texts_per_run": round(texts / len(batches), 3),
        "tokens_per_run": round(tokens / len(batches), 3),
    }
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
