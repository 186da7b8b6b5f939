"""Hold the small models to what they are for: fair comparison, and reach beyond their training.

```
python -m benchmarks.small_models --text FILE [--python PYTHON_WITH_TORCH]
```

FILE is the text that the models were trained on; its last tenth is held out. Judges the recorded
perplexities of every seed, scores a part of them again with the shipped graphs, and with a Python
that has torch compares the graphs' logits to torch's. Prints each bar, writes
`results/small_models.json`, and puts the tables into `docs/attention-small-models.md`. Two minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import results
from benchmarks.contestants import CHECKOUT
from benchmarks.results import Bar, say
from models.training.evaluation import (
    EXTENDED_WINDOWS,
    PARITY_SCHEMES,
    TRAINED_WINDOWS,
    Measurement,
)
from models.training.family import forms
from models.training.recipe import TRAINED_LENGTH
from models.training.session import Graphs
from models.training.shape import VARIANTS
from models.training.tables import EXTENDED_LENGTH, length_table, variant_table
from models.training.text import ByteText, read_text, windows
from service.numerics.attention.positions import RopeName, RopeScheme
from service.numerics.attention.scales import ScaleName

FAMILY = CHECKOUT / "models" / "decoders" / "isotrope-bytes"
DOCUMENT = CHECKOUT / "docs" / "attention-small-models.md"
PARITY_IDS = 200
RESCORED = ("mqa", "mla", "gqa_log_n")


def recorded_bars(measured: Sequence[Measurement]) -> list[Bar]:
    """Return the bars over all seeds: reach of mixed positions with log n, latent against MQA."""
    seeds = sorted({one.seed for one in measured})

    def perplexity(variant: str, length: int, rope: str, scale: str, seed: int) -> float:
        wanted = (variant, length, rope, scale, seed)
        [found] = [
            one.perplexity
            for one in measured
            if (one.variant, one.length, one.rope, one.scale, one.seed) == wanted
        ]
        return found

    def ratios(length: int, one: tuple[str, str, str], other: tuple[str, str, str]) -> list[float]:
        return [
            perplexity(one[0], length, *one[1:], seed)
            / perplexity(other[0], length, *other[1:], seed)
            for seed in seeds
        ]

    mixed = ("gqa_log_n", "ntk_mixed", "log_n")
    bars = [Bar("seeds of each variant", len(seeds), relation=">=", limit=3)]
    for rope in ("direct", "pi"):
        for variant, scale in (("gqa_log_n", "log_n"), ("gqa", "sqrt")):
            bars.append(
                results.median_bar(
                    f"8 x length: gqa_log_n, ntk_mixed, log_n / {variant}, {rope}, {scale}",
                    ratios(EXTENDED_LENGTH, mixed, (variant, rope, scale)),
                    relation="<=",
                    limit=1.0,
                )
            )
    for length, rope in ((TRAINED_LENGTH, "direct"), (EXTENDED_LENGTH, "rerope")):
        bars.append(
            results.median_bar(
                f"equal cache, length {length}, {rope}: mla / mqa",
                ratios(length, ("mla", rope, "sqrt"), ("mqa", rope, "sqrt")),
                relation="<=",
                limit=1.0,
            )
        )
    return bars


def rescored_bar(measured: Sequence[Measurement], text: ByteText, *, seed: int) -> Bar:
    """Return the largest relative difference of a perplexity scored again with shipped graphs."""
    worst = 0.0
    for variant in RESCORED:
        graphs = Graphs(FAMILY, VARIANTS[variant], name=variant)
        for one in measured:
            if (one.variant, one.seed, one.rope) != (variant, seed, "direct"):
                continue
            most = TRAINED_WINDOWS if one.length == TRAINED_LENGTH else EXTENDED_WINDOWS
            ids = windows(text.held_out, length=one.length, most=most)
            losses = graphs.score(ids, RopeScheme(name=RopeName.DIRECT), ScaleName(one.scale))
            again = float(np.exp(losses.astype(np.float64).mean()))
            worst = max(worst, abs(again / one.perplexity - 1))
    return Bar(
        "shipped graphs scored again: a perplexity differs from the record by, relative",
        worst,
        relation="<=",
        limit=1e-4,
    )


def parity_bars(python: str) -> Iterator[Bar]:
    """Yield how far the graphs' logits are from torch's, for each variant and position scheme."""
    ids = np.random.default_rng(7).integers(0, 256, PARITY_IDS)
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "logits.npz"
        np.savez(out, ids=ids)
        command = [python, "-m", "models.training", "logits", str(out)]
        environment = os.environ | {"PYTHONPATH": str(CHECKOUT)}
        subprocess.run(command, check=True, cwd=CHECKOUT, env=environment)
        torch = dict(np.load(out))
    for suffix, scheme in PARITY_SCHEMES.items():
        worst = 0.0
        for shape in VARIANTS.values():
            for name in forms(shape):
                found = Graphs(FAMILY, shape, name=name).logits(ids, scheme, ScaleName(shape.scale))
                worst = max(worst, float(np.abs(found - torch[shape.variant + suffix]).max()))
        yield Bar(
            f"ONNX against torch, {scheme.name.value}, all graphs: logits differ by",
            worst * 1e6,
            relation="<=",
            limit=50,
            unit="e-6",
        )


def write_document(told: dict[str, Any], measured: Sequence[Measurement]) -> None:
    """Put the tables between their markers in the document."""
    held_out = {
        name: [run["held_out"] for run in variant["runs"]]
        for name, variant in told["variants"].items()
    }
    made = {
        "variants": variant_table(measured, held_out),
        "lengths": length_table(measured, last_half=False),
        "last half": length_table(measured, last_half=True),
    }
    text = DOCUMENT.read_text(encoding="utf-8")
    for name, table in made.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        head, rest = text.split(begin)
        text = f"{head}{begin}{table}{end}{rest.split(end)[1]}"
    DOCUMENT.write_text(text, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """Judge, print, and write down."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.small_models", description=__doc__)
    parser.add_argument("--text", type=Path, required=True, help="what the models were trained on")
    parser.add_argument("--python", help="a Python that has torch, for the comparison of logits")
    given = parser.parse_args(arguments)
    load = os.getloadavg()
    told = json.loads((FAMILY / "provenance.json").read_text(encoding="utf-8"))
    text = read_text(given.text)
    if text.sha256 != told["text"]["sha256"]:
        parser.error(f"{given.text} is not the text of the models: sha256 {text.sha256}")
    measured = [Measurement(**one) for one in told["measured"]]
    bars = recorded_bars(measured)
    bars.append(rescored_bar(measured, text, seed=told["exported_seed"]))
    if given.python:
        bars += parity_bars(given.python)
    write_document(told, measured)
    results.write(
        "small_models",
        settings={"steps": told["recipe"]["steps"], "torch": bool(given.python)},
        rounds=[],
        bars=bars,
        load_average_before=load,
    )
    say(results.report(["small_models"]))


if __name__ == "__main__":
    main()
