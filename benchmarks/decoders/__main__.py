"""Measure decoder graphs: exactness, what each variant keeps, speed beside llama.cpp.

```
python -m benchmarks.decoders --model FOLDER --text FILE [--only NAME] [--windows 8]
```

Names: variants, schemes, closeness, rows, limit, batches, peer. FOLDER is a built decoder, FILE
plain text, whose last fifth is not read: the variants were calibrated on it. `peer` takes
`--gguf FILE`, the file that the decoder was built from, and `--peer-python PYTHON`, which has
llama-cpp-python (`benchmarks/peers/llama.txt`). Prints each bar and writes
`results/decoders.json`, where bars of names not run stay.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from benchmarks import results
from benchmarks.decoders.graphs import Family, judging_windows
from benchmarks.decoders.quality import scheme_bars, variant_bars
from benchmarks.decoders.serving import PROMPT_TOKENS, PROMPTS, closeness_bars, row_bars
from benchmarks.decoders.speed import batch_bars, limit_bars, peer_bars
from benchmarks.results import Bar, say

NAME = "decoders"


def main() -> None:
    """Measure what was asked, print the bars and write them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decoders", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="a built decoder's folder")
    parser.add_argument("--text", type=Path, required=True, help="plain text, UTF-8")
    parser.add_argument("--windows", type=int, default=8)
    parser.add_argument("--length", type=int, default=512, help="tokens of a window")
    parser.add_argument("--rounds", type=int, default=7, help="of timings; the first warms")
    parser.add_argument("--gguf", type=Path, help="the file that the decoder was built from")
    parser.add_argument("--peer-python", type=Path, help="has llama-cpp-python")
    scenarios: dict[str, Callable[[], list[Bar]]] = {
        "variants": lambda: variant_bars(family, windows),
        "schemes": lambda: scheme_bars(family, windows),
        "closeness": lambda: closeness_bars(family, prompts),
        "rows": lambda: row_bars(family, windows),
        "limit": lambda: limit_bars(family, windows, rounds=given.rounds),
        "batches": lambda: batch_bars(family, windows, rounds=given.rounds),
        "peer": lambda: peer_bars(
            family, windows, python=given.peer_python, gguf=given.gguf, rounds=given.rounds
        ),
    }
    parser.add_argument("--only", action="append", choices=scenarios, help="may be repeated")
    given = parser.parse_args()
    family = Family.open(given.model)
    text = given.text.read_text(encoding="utf-8")
    windows = judging_windows(family, text, count=given.windows, length=given.length)
    prompts = judging_windows(family, text, count=PROMPTS, length=PROMPT_TOKENS)
    chosen = given.only or [name for name in scenarios if name != "peer" or given.gguf]
    before = os.getloadavg()
    kept = (results.read(NAME) or {}).get("bars", [])
    bars: list[Bar] = []
    for name, measure in scenarios.items():
        if name in chosen:
            say(f"{name} …")
            bars += [_named(name, bar) for bar in measure()]
        else:
            bars += [_read(bar) for bar in kept if bar["what"].startswith(f"{name}: ")]
    settings = {"windows": given.windows, "length": given.length, "only": given.only}
    results.write(NAME, settings=settings, rounds=[], bars=bars, load_average_before=before)
    say(results.report([NAME]))


def _named(name: str, bar: Bar) -> Bar:
    return Bar(
        f"{name}: {bar.what}", bar.value, bar.worst, bar.relation, bar.limit, bar.unit, bar.note
    )


def _read(bar: dict[str, object]) -> Bar:
    fields = Bar.__dataclass_fields__
    return Bar(**{field: value for field, value in bar.items() if field in fields})  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
