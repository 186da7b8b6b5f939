"""Measure whitening: quality on the STS benchmark, exactness, speed and memory.

```
python -m benchmarks.whitening --data FOLDER [--only quality|speed]
```

FOLDER holds `stsb-en-dev.csv`, `stsb-en-train.csv` and `stsb-zh-dev.csv`, rows `a,b,score`. Every
whitening is fitted on the file's own distinct sentences, without labels, on one thread. Prints
each bar, writes `results/whitening.json`, and puts the table of models, poolings and settings into
`docs/whitening.md`. Quality takes about two minutes, speed one.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks import results
from benchmarks.results import Bar, say
from benchmarks.whitening_exact import exact_bars, export_bars
from benchmarks.whitening_speed import apply_bars, fit_bars, hubness_bars, memory_bars
from benchmarks.whitening_table import (
    MODELS,
    Sentences,
    embed,
    read_pairs,
    table_rows,
    whitened,
    write_table,
)
from service.capabilities.whitening.numerics import Cell, Labelled, Tuned, tune
from service.numerics.hubness import Metric, centre_cosines, occurrences, sum_up_hubness
from service.numerics.moments import measure_moments
from service.numerics.vectors import wide_unit_rows
from service.numerics.whitening import Shrinkage, find_axes
from service.settings import default_models_dir

DEFAULT = "all-MiniLM-L6-v2"
SEED = 7
FOLDS = 5
DRAWS = 5
BETAS, GAMMAS = (0.0, 0.5, 1.0), (0.0, 0.25, 0.5, 0.75, 1.0)


def tuned_on(sentences: Sentences, pooling: str, cells: Sequence[Cell]) -> Tuned:
    """Return what the tuner says of a grid, fitted on the sentences themselves."""
    vectors = sentences.vectors[pooling]
    moments = measure_moments(vectors)
    pairs = Labelled(vectors, sentences.first, sentences.second, sentences.scores)
    return tune(
        pairs,
        cells,
        axes=lambda beta: find_axes(moments, beta=beta, shrinkage=Shrinkage.LEDOIT_WOLF),
        folds=FOLDS,
        seed=SEED,
        progress=lambda *_: None,
    )


def grid(*dimensions: int) -> list[Cell]:
    """Return the usual grid at some numbers of dimensions."""
    return [Cell(beta, gamma, k) for beta in BETAS for gamma in GAMMAS for k in dimensions]


def quality_bars(dev: Sentences, train: Sentences) -> list[Bar]:
    """Return the bars on sentence pairs; gains and losses are Spearman × 100."""
    mean = dev.vectors["mean"]
    moments = measure_moments(mean)
    raw = dev.spearman(mean)
    reduced = dev.spearman(whitened(mean, moments, beta=0, gamma=0, dimensions=256))
    bars = [Bar("MiniLM mean, β = γ = 0, k = 256: change", abs(reduced - raw), None, "<=", 0.35)]
    for name, sentences in (("dev", dev), ("train", train)):
        tuned = tuned_on(sentences, "mean", grid(128))
        gain = 100 * (tuned.held_out - tuned.baseline)
        note = f"chosen {tuned.cells[tuned.best]}, interval {_interval(tuned)}"
        what = f"MiniLM mean, tuned at k = 128, pairs of {name} that the tuner did not see: gain"
        bars.append(Bar(what, gain, None, ">=", -0.2, note=note))
    for pooling, limit in (("embedding", 12.0), ("cls", 3.5)):
        vectors = dev.vectors[pooling]
        hard = whitened(vectors, measure_moments(vectors), beta=1, gamma=1)
        gain = dev.spearman(hard) - dev.spearman(vectors)
        bars.append(Bar(f"MiniLM {pooling}, hard whitening: gain", gain, None, ">=", limit))
        tuned = tuned_on(dev, pooling, grid(384, 256, 128, 64))
        what = f"MiniLM {pooling}, tuned: gain on pairs that the tuner did not see"
        value = 100 * (tuned.held_out - tuned.baseline)
        bars.append(Bar(what, value, note=f"interval {_interval(tuned)}"))
    refused = tuned_on(dev, "mean", [Cell(1.0, 1.0, 384)])
    what = "MiniLM mean, hard whitening alone in the grid: verdict is gain"
    bars.append(Bar(what, float(refused.gains), None, "<=", 0, note=_interval(refused)))
    return [*bars, *small_fit_bars(dev, raw), hub_bar(dev)]


def _interval(tuned: Tuned) -> str:
    low, high = (100 * end for end in tuned.interval)
    return f"{low:+.2f} to {high:+.2f}"


def small_fit_bars(dev: Sentences, raw: float) -> list[Bar]:
    """Return the loss of hard whitening fitted on 256 sentences, with and without shrinkage."""
    mean = dev.vectors["mean"]
    losses: dict[Shrinkage, list[float]] = {Shrinkage.LEDOIT_WOLF: [], Shrinkage.NONE: []}
    for draw in range(DRAWS):
        chosen = np.random.default_rng(draw).choice(len(mean), size=256, replace=False)
        moments = measure_moments(mean[chosen])
        for shrinkage, found in losses.items():
            hard = whitened(mean, moments, beta=1, gamma=1, shrinkage=shrinkage)
            found.append(raw - dev.spearman(hard))
    what = "MiniLM mean, hard whitening of all dimensions fitted on 256 sentences: loss"
    return [
        results.median_bar(
            f"{what}, default shrinkage", losses[Shrinkage.LEDOIT_WOLF], relation="<=", limit=4
        ),
        results.median_bar(
            f"{what}, no shrinkage", losses[Shrinkage.NONE], relation="<=", limit=None
        ),
    ]


def hub_bar(dev: Sentences) -> Bar:
    """Return the skewness of occurrences of CLS vectors after hard whitening."""
    raw = dev.vectors["cls"]
    hard = whitened(raw, measure_moments(raw), beta=1, gamma=1)
    before, after = (
        sum_up_hubness(
            occurrences(wide_unit_rows(vectors), k=10, metrics=[], progress=lambda *_: None)[
                Metric.COSINE
            ],
            k=10,
            centre_cosines=centre_cosines(wide_unit_rows(vectors)),
        ).skewness
        for vectors in (raw, hard)
    )
    note = f"raw {before:.2f}"
    return Bar("MiniLM cls, skewness of N_10 after whitening", after, None, "<=", 1, note=note)


def measure_quality(data: Path) -> list[Bar]:
    """Embed, write the table, and return the bars on sentence pairs and of exactness."""
    models = default_models_dir()
    rows, dev = [], None
    for model, language in MODELS:
        pairs = read_pairs(data / f"stsb-{language}-dev.csv")
        sentences = embed(pairs, model=models / model)
        if dev is None:
            dev = sentences
        rows += table_rows(f"{model} {language}", sentences)
        say(f"  {model} {language}: {len(sentences.scores)} pairs")
    assert dev is not None
    write_table(rows)
    train = embed(read_pairs(data / "stsb-en-train.csv"), model=models / DEFAULT)
    return [*quality_bars(dev, train), *exact_bars(dev), *export_bars()]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.whitening")
    parser.add_argument("--data", type=Path, required=True, help="folder of the STS files")
    parser.add_argument("--only", choices=("quality", "speed"))
    given = parser.parse_args(arguments)
    before = os.getloadavg()
    bars: list[Bar] = []
    with threadpool_limits(1):  # as in the service; a bar in CPU time is one of one thread
        if given.only != "speed":
            bars += measure_quality(given.data)
        if given.only != "quality":
            for measure in (fit_bars, memory_bars, hubness_bars, apply_bars):
                bars += measure()
                say(f"  {measure.__name__}")
    kept = [] if given.only is None else _others(bars)
    results.write(
        "whitening",
        settings={"folds": FOLDS, "seed": SEED, "fitted_on": "the file's own sentences"},
        rounds=[],
        bars=[*bars, *kept],
        load_average_before=before,
    )
    say(results.report(["whitening"]))


def _others(bars: Sequence[Bar]) -> list[Bar]:
    """Return the bars of the last run that this one does not measure."""
    found = results.read("whitening")
    new = {bar.what for bar in bars}
    fields = Bar.__dataclass_fields__
    return [
        Bar(**{name: bar[name] for name in fields})
        for bar in (found["bars"] if found else [])
        if bar["what"] not in new
    ]


if __name__ == "__main__":
    main()
