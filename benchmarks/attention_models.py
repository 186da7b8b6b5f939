"""Measure what `/v1/attention/compare` costs beside the model's own runs.

```
python -m benchmarks.attention_models --models FOLDER --text FILE \
    [--model ID] [--variants gqa,mha,mqa,mla] [--tokens 500] [--rounds 7]
```

Starts the service, sends one comparison over HTTP, then runs the same graphs over the same tokens
in this process; rounds alternate, and each gives a ratio. `--text` is any text longer than the
tokens. Prints each bar and writes `results/attention_models.json`.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import results
from benchmarks.contestants import CHECKOUT
from benchmarks.process import Server, free_port, start_server
from benchmarks.results import Bar, median_bar, say
from service.metrics import Metrics
from service.numerics.attention.positions import RopeName
from service.runtime.decoders.feeds import Reading
from service.runtime.decoders.forward import read_text
from service.runtime.decoders.graph import Giving
from service.runtime.decoders.lending import Decoders
from service.runtime.decoders.opened import Decoder
from service.runtime.decoders.reading import ReadingChoice, RopeChoice, choose_reading
from service.runtime.engine import Engine
from service.runtime.library import Library, load_catalogues
from service.settings import Settings

BAR = 1.2


@dataclass(frozen=True, slots=True)
class Case:
    """Hold what is compared: the same in the request and in this process."""

    decoders: Sequence[Decoder]
    ids: Sequence[int]
    text: str
    rope: str
    reading: Reading


@asynccontextmanager
async def open_decoders(models: Path) -> AsyncIterator[Decoders]:
    settings = Settings(models_dir=models, decoder_memory_mb=1 << 14)
    metrics = Metrics()
    engine = Engine(settings, metrics, Library(models, load_catalogues()))
    decoders = Decoders(settings, engine, metrics)
    try:
        yield decoders
    finally:
        await decoders.aclose()
        await engine.aclose()


async def open_case(
    decoders: Decoders, *, model: str, variants: Sequence[str], text: str, tokens: int
) -> Case:
    """Return the graphs and the text, cut to the wanted number of tokens."""
    family = await decoders.family(model)
    ids = family.tokenizer.encode(text[: 64 * tokens])[:tokens]
    cut = family.tokenizer.decode(ids)
    ids = family.tokenizer.encode(cut)
    rope = "direct" if len(ids) <= family.manifest.max_tokens else "ntk_mixed"
    choice = ReadingChoice(rope=RopeChoice(name=RopeName(rope)))
    reading = choose_reading(
        family, family.variant(variants[0]), choice, tokens=len(ids), pointer=""
    )
    opened = [await decoders.decoder(model, name, giving=Giving.ENTROPY) for name in variants]
    return Case(opened, ids, cut, rope, reading)


def run_models(case: Case) -> tuple[float, float]:
    """Return wall and CPU seconds of the graphs' runs over the text."""
    wall, cpu = time.perf_counter(), time.process_time()
    for decoder in case.decoders:
        for _ in read_text(decoder, case.ids, case.reading, extras=["entropy"]):
            pass
    return time.perf_counter() - wall, time.process_time() - cpu


def ask(server: Server, body: bytes) -> tuple[float, float, dict[str, object]]:
    """Return wall and CPU seconds of one comparison over HTTP, and the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=600)
    cpu, wall = server.cpu_ms(), time.perf_counter()
    connection.request("POST", "/v1/attention/compare", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    content = answer.read()
    seconds = time.perf_counter() - wall
    if answer.status != 200:
        raise SystemExit(content.decode())
    return seconds, (server.cpu_ms() - cpu) / 1000, json.loads(content)


def measure(
    case: Case, server: Server, *, model: str, count: int
) -> tuple[list[Bar], list[dict[str, object]]]:
    """Return the bars and every round."""
    variants = [{"variant": each.variant.name, "rope": case.rope} for each in case.decoders]
    body = json.dumps({"model": model, "text": case.text, "variants": variants}).encode()
    ask(server, body)
    run_models(case)
    rounds: list[dict[str, object]] = []
    walls, cpus = [], []
    reply: dict[str, object] = {}
    for number in range(count):
        if number % 2:
            model_wall, model_cpu = run_models(case)
            wall, cpu, reply = ask(server, body)
        else:
            wall, cpu, reply = ask(server, body)
            model_wall, model_cpu = run_models(case)
        walls.append(wall / model_wall)
        cpus.append(cpu / model_cpu)
        rounds.append({"http": wall, "http_cpu": cpu, "models": model_wall, "cpu": model_cpu})
    names = ", ".join(each.variant.name for each in case.decoders)
    what = f"{model}: compare {names} on {len(case.ids)} tokens over HTTP / the models' runs"
    bars = [
        median_bar(f"{what}, wall", walls, relation="<=", limit=BAR),
        median_bar(f"{what}, CPU", cpus, relation="<=", limit=None),
    ]
    for each in reply["variants"]:  # type: ignore[attr-defined]
        note = f"perplexity {each['perplexity']:.4g}, KL {each['kl']:.4g} nats"
        what = f"{model}, {each['variant']}: cache bytes a token"
        bars.append(Bar(what, each["cache_bytes_per_token"], None, note=note))
    return bars, rounds


async def run(arguments: argparse.Namespace) -> None:
    """Measure and report."""
    load = os.getloadavg()
    text = arguments.text.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        env = {
            "SERVICE_ROOMS": "attention",
            "SERVICE_PRELOAD_MODELS": "",
            "SERVICE_DATA_LOCATION": folder,
            "SERVICE_ACCESS_LOG": "false",
            "SERVICE_MODELS_DIR": str(arguments.models),
            "SERVICE_DECODER_MEMORY_MB": str(arguments.memory),
            "PYTHONPATH": str(CHECKOUT),
        }
        command = [sys.executable, "-m", "service", "serve", "--port", str(port)]
        server = start_server(
            "attention", command, port=port, ready="/livez", env=env, folder=Path(folder)
        )
        try:
            async with open_decoders(arguments.models) as decoders:
                case = await open_case(
                    decoders,
                    model=arguments.model,
                    variants=arguments.variants.split(","),
                    text=text,
                    tokens=arguments.tokens,
                )
                bars, rounds = measure(case, server, model=arguments.model, count=arguments.rounds)
            bars.append(
                Bar("resident memory of the service", server.rss_bytes() / 2**20, unit="MiB")
            )
        finally:
            server.stop()
    name = "attention_models" if arguments.model == "isotrope-bytes" else "attention_smollm2"
    results.write(
        arguments.result or name,
        settings={name: getattr(arguments, name) for name in ("rounds", "tokens", "variants")},
        rounds=rounds,
        bars=bars,
        load_average_before=load,
    )
    say(results.report([arguments.result or name]))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", type=Path, required=True, help="folder of built models")
    parser.add_argument("--text", type=Path, required=True, help="any long text")
    parser.add_argument("--model", default="isotrope-bytes")
    parser.add_argument("--variants", default="gqa,mha,mqa,mla")
    parser.add_argument("--tokens", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--memory", type=int, default=1024, help="MiB for graphs in the service")
    parser.add_argument("--result", help="name of the result file")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
