"""Measure summaries: ROUGE on sets with human references, exactness, and speed.

```
python -m benchmarks.opinions --data FOLDER [--only quality|speed]
```

FOLDER holds `amazon_dev.json`, `yelp_dev.json` and `opinosis_dev.json`: lists of `{id, reviews,
references}`. ROUGE is rouge-score's, Porter stemmer, F1, the mean over references. Prints each bar,
writes `results/opinions.json`, and puts the table of strategies into `docs/opinions.md`. Quality
takes about two minutes, speed three.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rouge_score.rouge_scorer import RougeScorer  # type: ignore[import-untyped]
from starlette.testclient import TestClient

from benchmarks import results
from benchmarks.opinions_speed import speed_bars
from benchmarks.results import Bar, say
from service.app import create_app
from service.settings import Settings

DOCUMENT = Path(__file__).parents[1] / "docs" / "opinions.md"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
MEASURES = ("rouge1", "rouge2", "rougeL")
SEED, DRAWS = 7, 10_000
STRATEGIES = (
    ("consensus", "geodesic"),
    ("consensus", "cosine"),
    ("coverage", "geodesic"),
    ("coverage", "cosine"),
    ("centrality", "geodesic"),
    ("centrality", "cosine"),
    ("lexrank", "geodesic"),
    ("centroid", "geodesic"),
)
# Words of the budget: the default, and for topics of one sentence each that of their references.
BUDGETS = {"amazon": 75, "yelp": 75, "opinosis": 25}
BARS = {
    "amazon": (33.6, 6.9, 18.2),
    "yelp": (31.1, 6.5, 17.5),
    "opinosis": (31.0, 9.4, None),
}


def rouge(scorer: RougeScorer, summary: str, references: Sequence[str]) -> list[float]:
    """Return F1 × 100 of each measure, the mean over references."""
    found = [scorer.score(reference, summary) for reference in references]
    return [100 * float(np.mean([each[name].fmeasure for each in found])) for name in MEASURES]


def summaries(
    client: TestClient, entities: Sequence[dict[str, Any]], **body: Any
) -> list[dict[str, Any]]:
    """Return the reply for each entity."""
    replies = []
    for entity in entities:
        answer = client.post("/v1/opinions/summarize", json={"reviews": entity["reviews"], **body})
        answer.raise_for_status()
        replies.append(answer.json())
    return replies


def interval(gains: np.ndarray) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the mean of paired differences."""
    drawn = np.random.default_rng(SEED).integers(0, len(gains), (DRAWS, len(gains)))
    low, high = np.quantile(gains[drawn].mean(axis=1), (0.025, 0.975))
    return float(low), float(high)


def measure_quality(data: Path) -> list[Bar]:
    """Score every strategy on every set, write the table, and return the bars."""
    scorer = RougeScorer(list(MEASURES), use_stemmer=True)
    scores: dict[tuple[str, str, str], np.ndarray] = {}
    inexact = 0
    settings = Settings(access_log=False, log_level="error")
    with TestClient(create_app(settings)) as client:
        for name, words in BUDGETS.items():
            entities = json.loads((data / f"{name}_dev.json").read_text(encoding="utf-8"))
            for strategy, distance in STRATEGIES:
                replies = summaries(
                    client,
                    entities,
                    strategy=strategy,
                    distance=distance,
                    budget={"words": words},
                )
                inexact += sum(map(_inexact, entities, replies))
                scores[name, strategy, distance] = np.array(
                    [
                        rouge(scorer, _joined(reply), entity["references"])
                        for entity, reply in zip(entities, replies, strict=True)
                    ]
                )
            say(f"  {name}: {len(entities)} entities")
    _write_table(scores)
    bars = [Bar("sentences that are no exact part of their review", inexact, None, "<=", 0)]
    for name, limits in BARS.items():
        ours = scores[name, "consensus", "geodesic"]
        bars += [
            Bar(f"{name} dev, default, {words} words: {measure}", float(value), None, ">=", limit)
            for words in [BUDGETS[name]]
            for measure, value, limit in zip(MEASURES, ours.mean(axis=0), limits, strict=True)
        ]
        gains = (ours - scores[name, "centroid", "geodesic"])[:, :2].sum(axis=1)
        low, high = interval(gains)
        what = f"{name} dev, default against centroid: gain in ROUGE-1 + ROUGE-2"
        note = f"interval {low:+.2f} to {high:+.2f}"
        bars.append(Bar(what, float(gains.mean()), None, ">=", 0.01, note=note))
    return bars


def _joined(reply: dict[str, Any]) -> str:
    return " ".join(sentence["text"] for sentence in reply["summary"])


def _inexact(entity: dict[str, Any], reply: dict[str, Any]) -> int:
    reviews = entity["reviews"]
    return sum(
        reviews[int(place["review_id"])][place["start"] : place["end"]] != place["text"]
        for sentence in reply["summary"]
        for place in [sentence, *sentence["support"]["evidence"]]
    )


def _write_table(scores: dict[tuple[str, str, str], np.ndarray]) -> None:
    """Put the table between the markers of the document."""
    lines = [["strategy", "distance"], ["---", "---"]]
    for name, words in BUDGETS.items():
        lines[0] += [f"{name}, {words} words", "against centroid"]
        lines[1] += ["---", "---"]
    for strategy, distance in STRATEGIES:
        row = [strategy, "" if strategy in {"lexrank", "centroid"} else distance]
        for name in BUDGETS:
            found = scores[name, strategy, distance]
            gains = (found - scores[name, "centroid", "geodesic"])[:, :2].sum(axis=1)
            low, high = interval(gains)
            row.append(" / ".join(f"{value:.2f}" for value in found.mean(axis=0)))
            row.append(
                "" if strategy == "centroid" else f"{gains.mean():+.2f} [{low:+.2f}, {high:+.2f}]"
            )
        lines.append(row)
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    say(table)
    text = DOCUMENT.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    DOCUMENT.write_text(f"{head}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.opinions")
    parser.add_argument("--data", type=Path, required=True, help="folder of the opinion sets")
    parser.add_argument("--only", choices=("quality", "speed"))
    given = parser.parse_args(arguments)
    before = os.getloadavg()
    bars: list[Bar] = []
    if given.only != "speed":
        bars += measure_quality(given.data)
    if given.only != "quality":
        bars += speed_bars(given.data)
    kept = [] if given.only is None else _others(bars)
    results.write(
        "opinions",
        settings={"budgets": BUDGETS, "draws": DRAWS, "seed": SEED},
        rounds=[],
        bars=[*bars, *kept],
        load_average_before=before,
    )
    say(results.report(["opinions"]))


def _others(bars: Sequence[Bar]) -> list[Bar]:
    """Return the bars of the last run that this one does not measure."""
    found = results.read("opinions")
    new = {bar.what for bar in bars}
    return [
        Bar(**{name: bar[name] for name in Bar.__dataclass_fields__})
        for bar in (found["bars"] if found else [])
        if bar["what"] not in new
    ]


if __name__ == "__main__":
    main()
