"""Measure attention layers: graphs against plain arithmetic, published figures, cache, decoding.

```
python -m benchmarks.attention [--only graphs|published|cache|decode]
```

Prints each bar and writes `results/attention.json`; about a minute. Decode times are CPU seconds of
one thread, ratios of medians of alternated rounds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Sequence
from itertools import product

import numpy as np
import onnxruntime as ort
from scipy.special import softmax
from threadpoolctl import threadpool_limits

from benchmarks import results
from benchmarks.results import Bar, say
from service.numerics.attention.cache import HeadSizes, Variant, cache_elements
from service.numerics.attention.forms import (
    Heads,
    Latents,
    LayerForm,
    compress,
    head_size,
    pool_heads,
    rope_size,
)
from service.numerics.attention.measures import row_entropy
from service.numerics.attention.positions import RopeName, RopeScheme, rope_tables
from service.numerics.attention.reference import Conditions, Layout, Normaliser, Path, attend
from service.numerics.attention.scales import ScaleName, ScaleScheme, row_scale
from service.numerics.seeds import generator
from service.runtime.attention.graphs import GraphKind, Turn, build
from service.runtime.attention.sessions import LayerGraphs
from service.runtime.session import SessionOptions
from service.settings import ProviderPolicy

OPTIONS = SessionOptions(("cpu",), ProviderPolicy.CPU, 1)
TOKENS, HEADS, GROUPS, SIZE, RANK, TURNING = 160, 6, 3, 32, 24, 16
ROUNDS = 15
DECODE_TOKENS = (512, 2048, 8192)


def normal(*shape: int, seed: object = 0) -> np.ndarray:
    return generator(20, str(seed), *shape).standard_normal(shape, dtype=np.float32)


def grouped(groups: int) -> Heads:
    return Heads(
        normal(1, HEADS, TOKENS, SIZE, seed="q"),
        normal(1, groups, TOKENS, SIZE, seed="k"),
        normal(1, groups, TOKENS, SIZE, seed="v"),
    )


def decoupled() -> Latents:
    return Latents(
        queries=normal(1, HEADS, TOKENS, SIZE, seed="qc"),
        rope_queries=normal(1, HEADS, TOKENS, TURNING, seed="qr"),
        latent=normal(1, TOKENS, RANK, seed="c"),
        rope_keys=normal(1, TOKENS, TURNING, seed="kr"),
        key_maps=normal(HEADS, RANK, SIZE, seed="wk") / np.sqrt(np.float32(RANK)),
        value_maps=normal(HEADS, RANK, SIZE, seed="wv") / np.sqrt(np.float32(RANK)),
    )


def forms() -> dict[Variant, tuple[LayerForm, Path]]:
    return {
        Variant.MHA: (grouped(HEADS), Path.HEADS),
        Variant.GQA: (grouped(GROUPS), Path.HEADS),
        Variant.MQA: (pool_heads(grouped(GROUPS)), Path.HEADS),
        Variant.MLA: (decoupled(), Path.EXPANDED),
        Variant.MLA_ABSORBED: (decoupled(), Path.ABSORBED),
    }


def conditions(
    form: LayerForm, rope: RopeName, scale: ScaleName, normaliser: Normaliser
) -> Conditions:
    at = np.arange(TOKENS)
    scheme = RopeScheme(name=rope, factor=4, window=48)
    tables = rope_tables(scheme, queries=at, keys=at, rope_dim=rope_size(form), base=1e4)
    size = head_size(form)
    chosen = ScaleScheme(name=scale, length=64, value=0.2)
    return Conditions(
        tables=tables,
        scale=row_scale(chosen, at + 1, head_dim=size) / np.sqrt(size),
        causal=True,
        normaliser=normaliser,
    )


def graph_bars() -> list[Bar]:
    """Return how far every variant × scheme × scale × normaliser is from float64."""
    graphs = LayerGraphs(OPTIONS)
    bars = []
    for variant, (form, path) in forms().items():
        worst = 0.0
        for choice in product(RopeName, ScaleName, Normaliser):
            asked = conditions(form, *choice)
            found, expected = graphs.attend(form, asked, path=path), attend(form, asked, path=path)
            assert found.weights is not None
            worst = max(
                worst,
                float(np.abs(found.output - expected.output).max()),
                float(np.abs(found.weights - expected.weights).max()),
            )
        cases = len(RopeName) * len(ScaleName) * len(Normaliser)
        bars.append(
            Bar(f"{variant.value}: largest error, {cases} cases", worst, relation="<=", limit=1e-5)
        )
    return [*bars, *_absorption_bars(graphs)]


def _absorption_bars(graphs: LayerGraphs) -> list[Bar]:
    heads = grouped(GROUPS)
    made = compress(heads, rank=None).latents
    plain = conditions(heads, RopeName.NONE, ScaleName.SQRT, Normaliser.SOFTMAX)
    turned = conditions(decoupled(), RopeName.DIRECT, ScaleName.SQRT, Normaliser.SOFTMAX)
    pairs = {
        "absorbed against expanded, decoupled positions": (
            graphs.attend(decoupled(), turned, path=Path.EXPANDED),
            graphs.attend(decoupled(), turned, path=Path.ABSORBED),
        ),
        "latent of full rank against its heads": (
            graphs.attend(heads, plain, path=Path.HEADS),
            graphs.attend(made, plain, path=Path.ABSORBED),
        ),
    }
    return [
        Bar(what, float(np.abs(a.output - b.output).max()), relation="<=", limit=1e-4)
        for what, (a, b) in pairs.items()
    ]


def published_bars() -> list[Bar]:
    """Return the synthetic figures: entropy by length and scale, robustness to noise."""
    moved = {
        scale: mean_entropy(8192, scale) - mean_entropy(512, scale)
        for scale in (ScaleName.SQRT, ScaleName.LOG_N)
    }
    near, far = (relative_change(tokens) for tokens in (16, 8192))
    return [
        Bar(
            "entropy n 512 to 8192, log n: change",
            abs(moved[ScaleName.LOG_N]),
            relation="<=",
            limit=0.3,
            unit="nat",
        ),
        Bar("the same, plain", moved[ScaleName.SQRT], limit=1.5, unit="nat"),
        Bar("relative change under noise 0.5, n 8192", far, relation="<=", limit=0.02),
        Bar("n 16 over n 8192", near / far, limit=8.0, unit="x"),
    ]


def mean_entropy(tokens: int, scale: ScaleName) -> float:
    """Return nats of softmax over independent scores of standard deviation 3."""
    scores = 3 * generator(21, "entropy", tokens).standard_normal((64, tokens))
    factor = row_scale(ScaleScheme(name=scale), np.array([tokens]), head_dim=1)[0]
    return float(row_entropy(softmax(scores * factor, axis=1)).mean())


def relative_change(tokens: int) -> float:
    """Return ‖õ - o‖ / ‖o‖ for scores N(0, 1), noise of 0.5, values around 1."""
    drawn = generator(22, "noise", tokens)
    scores, noise = drawn.standard_normal((2, 64, tokens))
    values = 1 + drawn.standard_normal((tokens, 64))
    clean, noisy = (softmax(s, axis=1) @ values for s in (scores, scores + 0.5 * noise))
    return float(np.linalg.norm(noisy - clean) / np.linalg.norm(clean))


def cache_bars() -> list[Bar]:
    """Return the difference between the formula and the bytes of the arrays that are kept."""
    sizes = HeadSizes(q_heads=HEADS, kv_heads=GROUPS, head_dim=SIZE, kv_rank=RANK, rope_dim=TURNING)
    return [
        Bar(
            f"{variant.value}: bytes by formula less bytes of arrays",
            float(
                abs(
                    4 * TOKENS * cache_elements(variant, sizes)
                    - sum(array.nbytes for array in form.kept)
                )
            ),
            relation="<=",
            limit=0.0,
            unit="B",
        )
        for variant, (form, _) in forms().items()
    ]


def decode_bars() -> list[Bar]:
    """Return times of one query over n keys, 9 heads of 64 as in a small language model."""
    bars = []
    for tokens in DECODE_TOKENS:
        seconds = decode_seconds(tokens)
        bars += [
            Bar(f"n {tokens}: mqa / gqa", seconds["mqa"] / seconds["gqa"], None, "<=", 1.0, "x"),
            Bar(f"n {tokens}: gqa / mha", seconds["gqa"] / seconds["mha"], None, "<=", 1.0, "x"),
            Bar(f"n {tokens}: mla absorbed / gqa", seconds["mla"] / seconds["gqa"], unit="x"),
        ]
    return bars


def decode_seconds(tokens: int) -> dict[str, float]:
    """Return the median CPU seconds of each variant, rounds alternated."""
    session = ort.InferenceSession(build(_decode_kind()).SerializeToString(), _options())
    shapes = {"mha": (9, 64, 64), "gqa": (3, 64, 64), "mqa": (1, 64, 64), "mla": (1, 256, 192)}
    feeds = {
        name: {
            "queries": normal(1, 9, 1, key, seed="q"),
            "keys": normal(1, groups, tokens, key, seed="k"),
            "values": normal(1, groups, tokens, value, seed="v"),
            "scale": np.full((1, 1), key**-0.5, dtype=np.float32),
        }
        for name, (groups, key, value) in shapes.items()
    }
    taken: dict[str, list[float]] = {name: [] for name in feeds}
    for _ in range(ROUNDS):
        for name, feed in feeds.items():
            started = time.process_time()
            for _ in range(5):
                session.run(["output"], feed)
            taken[name].append(time.process_time() - started)
    return {name: statistics.median(each) for name, each in taken.items()}


def _decode_kind() -> GraphKind:
    return GraphKind(
        path=Path.HEADS,
        turn=Turn.NONE,
        turning=0,
        layout=Layout.HALVES,
        decoupled=False,
        normaliser=Normaliser.SOFTMAX,
        causal=False,
        biased=False,
        weighed=False,
    )


def _options() -> ort.SessionOptions:
    chosen = ort.SessionOptions()
    chosen.intra_op_num_threads = 1
    return chosen


PARTS = {
    "graphs": graph_bars,
    "published": published_bars,
    "cache": cache_bars,
    "decode": decode_bars,
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attention")
    parser.add_argument("--only", action="append", choices=PARTS, help="one part; may be repeated")
    chosen = parser.parse_args(arguments).only or list(PARTS)
    load = os.getloadavg()
    bars: list[Bar] = []
    for part in chosen:
        say(f"{part}:")
        with threadpool_limits(1):  # as in the service, which sets it before numpy is loaded
            found = PARTS[part]()
        bars += found
        for bar in found:
            verdict = {True: "met", False: "MISSED", None: ""}[bar.met]
            limit = "" if bar.limit is None else f"{bar.relation} {bar.limit:g}"
            say(f"  {verdict:7}{bar.value:>10.3g} {limit:>9}  {bar.what}")
    if set(chosen) == set(PARTS):
        results.write(
            "attention",
            settings={"rounds": ROUNDS, "tokens": TOKENS},
            rounds=[],
            bars=bars,
            load_average_before=load,
        )
    missed = [bar.what for bar in bars if bar.met is False]
    say(f"{len(missed)} missed" if missed else "all met")


if __name__ == "__main__":
    main()
