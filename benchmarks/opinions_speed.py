"""Time summaries of many reviews: alone, again, and of a set that grew by one review."""

from __future__ import annotations

import json
import random
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

from starlette.testclient import TestClient

from benchmarks.results import Bar, median_bar, say
from service.app import create_app
from service.settings import Settings

PATH = "/v1/opinions/summarize"
SETS = "/v1/opinions/sets"
A_REVIEW = 8
# Each embeds 8,000 sentences, half a minute of two quiet cores.
ONCE_ROUNDS = 2
GROWN_ROUNDS = 3


def sentences(data: Path) -> Iterator[str]:
    """Yield sentences without end, no two alike: halves of real ones, put together by chance."""
    drawn = random.Random(7)
    real = []
    for path in sorted(data.glob("*_dev.json")):
        for entity in json.loads(path.read_text(encoding="utf-8")):
            text = " ".join(entity["reviews"])
            real += [part.split() for part in re.split(r"(?<=[.!?])\s+", text) if part]
    seen: set[str] = set()
    while True:
        first, second = drawn.choice(real), drawn.choice(real)
        words = first[: len(first) // 2] + second[len(second) // 2 :]
        text = re.sub(r"[.!?]", "", " ".join(words)).strip()
        if len(text.split()) > 2 and text not in seen:
            seen.add(text)
            yield f"{text[0].upper()}{text[1:]}."


def reviews(source: Iterator[str], count: int) -> list[dict[str, str]]:
    """Return reviews of eight sentences."""
    return [
        {"id": f"r{number}", "text": " ".join(next(source) for _ in range(A_REVIEW))}
        for number in range(count)
    ]


def timed(client: TestClient, path: str, body: dict[str, Any]) -> tuple[float, Any]:
    """Return seconds and the answer."""
    started = perf_counter()
    answer = client.post(path, json=body)
    seconds = perf_counter() - started
    answer.raise_for_status()
    return seconds, answer


def stage(answer: Any, name: str) -> float:
    """Return the seconds of one stage."""
    found = re.search(rf"{name};dur=([0-9.]+)", answer.headers["server-timing"])
    return float(found.group(1)) / 1000 if found else 0.0


def once_bars(source: Iterator[str]) -> list[Bar]:
    """Return the bars of 1,000 reviews, embedding included."""
    shares, ratios = [], []
    with TestClient(create_app(_settings())) as client:
        client.post(PATH, json={"reviews": ["Warm up. It is warm."]})
        for _ in range(ONCE_ROUNDS):
            body = {"reviews": reviews(source, 1000)}
            first, answer = timed(client, PATH, body)
            shares.append(100 * (1 - stage(answer, "embed") / stage(answer, "total")))
            again, _ = timed(client, PATH, body)
            ratios.append(first / again)
            say(f"  1,000 reviews: {first:.1f} s, again {again:.2f} s")
    return [
        median_bar(
            "1,000 reviews: time besides the embedding", shares, relation="<=", limit=15, unit="%"
        ),
        median_bar("1,000 reviews asked again: times faster", ratios, relation=">=", limit=10),
    ]


def set_bars(source: Iterator[str]) -> list[Bar]:
    """Return the bars of a stored set of 10,000 sentences that grows by one review."""
    faster, faster_embedded, unlike = [], [], 0
    with (
        tempfile.TemporaryDirectory() as folder,
        TestClient(create_app(_settings(data_location=folder))) as client,
    ):
        held = reviews(source, 1250)
        client.post(SETS, json={"name": "grown", "reviews": held}).raise_for_status()
        scratch, _ = timed(client, f"{SETS}/grown/summarize", {})
        for number in range(GROWN_ROUNDS):
            new = {"id": f"new{number}", "text": reviews(source, 1)[0]["text"]}
            held.append(new)
            adding, _ = timed(client, f"{SETS}/grown/reviews", {"reviews": [new]})
            asking, grown = timed(client, f"{SETS}/grown/summarize", {})
            # A service that has the embeddings of all of them, and nothing else.
            embedded, fresh = timed(client, PATH, {"reviews": held})
            unlike += grown.json() != fresh.json()
            faster.append(scratch / (adding + asking))
            faster_embedded.append(embedded / (adding + asking))
            say(f"  one more review: {adding + asking:.2f} s, anew {scratch:.1f} s")
    what = "10,000 sentences and one review more: times faster than"
    return [
        Bar("grown sets whose summary is another than from scratch", unlike, None, "<=", 0),
        median_bar(f"{what} from scratch", faster, relation=">=", limit=10),
        median_bar(
            f"{what} with all embeddings cached", faster_embedded, relation=">=", limit=None
        ),
    ]


def speed_bars(data: Path) -> list[Bar]:
    """Return all bars of speed."""
    source = sentences(data)
    return [*once_bars(source), *set_bars(source)]


def _settings(**changes: Any) -> Settings:
    return Settings(access_log=False, log_level="error", **changes)
