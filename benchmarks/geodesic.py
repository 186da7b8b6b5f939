"""Measure geodesic similarity: exactness, worth, speed beside peers, and a million items.

```
python -m benchmarks.geodesic [--data FOLDER] [--only NAME] [--threads N]
```

Names: exact, value, hubness, neighbours, paths, isomap, queries, growth, http, million. FOLDER
holds `opinosis_dev.json`, `[{id, category, reviews: [sentence]}]`, and for `hubness` also
`yelp_dev.json` and `amazon_dev.json`, `[{reviews: [text]}]`; without it `value` measures the swiss
roll alone. All but `million` take about five minutes; `million` takes a quarter of an hour, and
5 GB. Prints each bar and writes `results/geodesic.json`, where bars of names not run stay.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from threadpoolctl import threadpool_limits

from benchmarks import results
from benchmarks.geodesic_hubness import hubness_bars
from benchmarks.geodesic_scale import growth_bars, http_bars, million_bars, query_bars
from benchmarks.geodesic_speed import exact_bars, isomap_bars, neighbour_bars, path_bars
from benchmarks.geodesic_value import value_bars
from benchmarks.results import Bar, say

NAME = "geodesic"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what was asked, print the bars and write them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.geodesic", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with opinosis_dev.json")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of an index's build")
    scenarios: dict[str, Callable[[], list[Bar]]] = {
        "exact": exact_bars,
        "value": lambda: value_bars(given.data),
        "hubness": lambda: hubness_bars(given.data),
        "neighbours": neighbour_bars,
        "paths": path_bars,
        "isomap": isomap_bars,
        "queries": query_bars,
        "growth": growth_bars,
        "http": http_bars,
        "million": lambda: million_bars(given.threads),
    }
    parser.add_argument("--only", action="append", choices=scenarios, help="may be repeated")
    given = parser.parse_args(arguments)
    before = os.getloadavg()
    kept = (results.read(NAME) or {}).get("bars", [])
    bars: list[Bar] = []
    for name, measure in scenarios.items():
        if given.only is None or name in given.only:
            say(f"{name} …")
            with threadpool_limits(1):
                bars += [_named(name, bar) for bar in measure()]
        else:
            fields = Bar.__dataclass_fields__
            bars += [
                Bar(**{field: value for field, value in bar.items() if field in fields})
                for bar in kept
                if bar["what"].startswith(f"{name}: ") and bar["value"] is not None
            ]
    settings = {"threads": given.threads, "data": given.data is not None, "only": given.only}
    results.write(NAME, settings=settings, rounds=[], bars=bars, load_average_before=before)
    say(results.report([NAME]))


def _named(name: str, bar: Bar) -> Bar:
    return Bar(
        f"{name}: {bar.what}", bar.value, bar.worst, bar.relation, bar.limit, bar.unit, bar.note
    )


if __name__ == "__main__":
    main()
