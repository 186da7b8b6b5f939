"""Measure how well a model's similarities follow human judgement, over HTTP or in this process.

```
python -m benchmarks.sts --data FOLDER --model all-MiniLM-L6-v2 --url http://127.0.0.1:8000
python -m benchmarks.sts --data FOLDER --model multilingual-e5-small --cross-lingual --speed
```

FOLDER holds `stsb-en-dev.csv` and `stsb-zh-dev.csv` (the STS benchmark and its translation):
rows `a,b,score` without a header, score 0 to 5. Printed are Spearman's rank correlations of
cosine and score, times 100. `--cross-lingual` adds the share of English sentences whose nearest
Chinese sentence is their own translation. `--speed`, in this process only, adds sentences per
second of CPU and the time of one short query.
"""

from __future__ import annotations

import argparse
import base64
import csv
import json
import os
import statistics
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.results import commit, machine, say

LANGUAGES = ("en", "zh")
HTTP_BATCH = 64
# Batches of this size, sorted by length, were the best for every model here on one thread.
PROCESS_BATCH = 16
SPEED_ROUNDS = 3
SPEED_SENTENCES = 200

Matrix = NDArray[np.float32]
Embed = Callable[[Sequence[str]], Matrix]


@dataclass(frozen=True, slots=True)
class Pair:
    """Hold two sentences and how alike people found them, 0 to 5."""

    first: str
    second: str
    score: float


@dataclass(frozen=True, slots=True)
class Speed:
    """Hold what one thread does in this process, tokenisation included.

    Attributes:
        sentences_per_cpu_second: median of the rounds, batches of 16 sorted by length.
        query_ms: median wall time of one sentence alone, in milliseconds.
    """

    sentences_per_cpu_second: float
    query_ms: float


@dataclass(frozen=True, slots=True)
class Report:
    """Hold one run's figures; Spearman and accuracies are times 100."""

    model: str
    way: str
    spearman: dict[str, float]
    aligned_sentences: int
    accuracy_en_zh: float | None
    accuracy_zh_en: float | None
    speed: Speed | None


def read_pairs(folder: Path, *, language: str) -> list[Pair]:
    """Return the pairs of one language.

    Raises:
        SystemExit: the file is missing or a row has no score.
    """
    path = folder / f"stsb-{language}-dev.csv"
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            return [Pair(row[0], row[1], float(row[2])) for row in csv.reader(stream)]
    except (OSError, IndexError, ValueError) as error:
        message = f"{path} cannot be read as rows of a,b,score: {error}"
        raise SystemExit(message) from error


def ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rank of each of the (n,) values, from 1; equal values share their mean rank."""
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(sizes)
    means: NDArray[np.float64] = (last - sizes + 1 + last) / 2
    return means[group]


def spearman(left: NDArray[np.float64], right: NDArray[np.float64]) -> float:
    """Return the rank correlation of two (n,) arrays: Pearson's r of their ranks, -1 to 1."""
    return float(np.corrcoef(ranks(left), ranks(right))[0, 1])


def similarity_correlation(pairs: Sequence[Pair], *, embed: Embed) -> float:
    """Return Spearman x 100 between cosine and score; each distinct sentence is embedded once."""
    texts = sorted({text for pair in pairs for text in (pair.first, pair.second)})
    rows = {text: index for index, text in enumerate(texts)}
    vectors = _unit(embed(texts))
    first = vectors[[rows[pair.first] for pair in pairs]]
    second = vectors[[rows[pair.second] for pair in pairs]]
    cosines = np.einsum("nd,nd->n", first, second)
    return 100 * spearman(cosines, np.array([pair.score for pair in pairs]))


def aligned_sentences(left: Sequence[Pair], right: Sequence[Pair]) -> list[tuple[str, str]]:
    """Return each sentence with its translation, where the row order of two files agrees.

    Only sentences whose text is new on both sides are kept, so that each has one right answer.

    Raises:
        SystemExit: the files are not translations of each other, row by row.
    """
    if [pair.score for pair in left] != [pair.score for pair in right]:
        message = "the two files differ in their scores, so their rows are not translations"
        raise SystemExit(message)
    kept: list[tuple[str, str]] = []
    seen: tuple[set[str], set[str]] = (set(), set())
    for one, other in zip(left, right, strict=True):
        for a, b in ((one.first, other.first), (one.second, other.second)):
            if a not in seen[0] and b not in seen[1]:
                kept.append((a, b))
            seen[0].add(a)
            seen[1].add(b)
    return kept


def nearest_accuracy(queries: Matrix, answers: Matrix) -> float:
    """Return the share x 100 of rows whose nearest answer by cosine is in the same row."""
    nearest = np.argmax(_unit(queries) @ _unit(answers).T, axis=1)
    return 100 * float(np.mean(nearest == np.arange(len(queries))))


def _unit(vectors: Matrix) -> NDArray[np.float64]:
    wide = vectors.astype(np.float64)
    unit: NDArray[np.float64] = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    return unit


def over_http(url: str, *, model: str) -> Embed:
    """Return a function that embeds through `POST /v1/embeddings` of a running service."""
    address = f"{url.rstrip('/')}/v1/embeddings"

    def embed(texts: Sequence[str]) -> Matrix:
        rows: list[NDArray[np.float32]] = []
        for start in range(0, len(texts), HTTP_BATCH):
            asked = {"model": model, "input": list(texts[start : start + HTTP_BATCH])}
            body = json.dumps(asked | {"encoding_format": "base64"}).encode()
            request = urllib.request.Request(
                address, data=body, headers={"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(request) as reply:
                answer = json.load(reply)
            for item in sorted(answer["data"], key=lambda item: int(item["index"])):
                raw = base64.b64decode(item["embedding"])
                rows.append(np.frombuffer(raw, dtype="<f4").astype(np.float32))
        return np.stack(rows)

    return embed


def in_process(folder: Path, *, batch: int = PROCESS_BATCH) -> Embed:
    """Return a function that embeds with the artefact in `folder`, on one thread.

    Raises:
        SystemExit: the folder holds no artefact.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime
    from tokenizers import Tokenizer

    try:
        entry = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except OSError as error:
        message = f"{folder} holds no built model: {error}"
        raise SystemExit(message) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(
        folder / "model.onnx", options, providers=["CPUExecutionProvider"]
    )
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(entry["max_tokens"])
    prefix, output = str(entry["prefix"]), str(entry["pooling"])

    def embed(texts: Sequence[str]) -> Matrix:
        pieces = [found.ids for found in tokenizer.encode_batch([prefix + text for text in texts])]
        order = sorted(range(len(pieces)), key=lambda index: len(pieces[index]))
        vectors = np.empty((len(texts), int(entry["dimensions"])), dtype=np.float32)
        for start in range(0, len(order), batch):
            chosen = order[start : start + batch]
            ids, mask = _padded([pieces[index] for index in chosen])
            feeds = {"input_ids": ids, "attention_mask": mask}
            vectors[chosen] = session.run([output], feeds)[0]
        return vectors

    return embed


def _padded(rows: Sequence[Sequence[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    ids = np.zeros((len(rows), max(map(len, rows))), dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, pieces in enumerate(rows):
        ids[row, : len(pieces)] = pieces
        mask[row, : len(pieces)] = 1
    return ids, mask


def measure_speed(texts: Sequence[str], *, embed: Embed) -> Speed:
    """Return the speed over `texts`; one warm-up round is not counted."""
    embed(texts)
    rates = []
    for _ in range(SPEED_ROUNDS):
        before = time.process_time()
        embed(texts)
        rates.append(len(texts) / (time.process_time() - before))
    waits = []
    for text in texts:
        before = time.perf_counter()
        embed([text])
        waits.append(1000 * (time.perf_counter() - before))
    return Speed(statistics.median(rates), statistics.median(waits))


def measure(given: argparse.Namespace) -> Report:
    """Return the figures that the command line asks for."""
    if given.url:
        embed = over_http(given.url, model=given.model)
    else:
        embed = in_process(given.models_dir / given.model)
    pairs = {language: read_pairs(given.data, language=language) for language in given.languages}
    correlations = {
        language: similarity_correlation(rows, embed=embed) for language, rows in pairs.items()
    }
    forth = back = None
    sentences: list[tuple[str, str]] = []
    if given.cross_lingual:
        both = [read_pairs(given.data, language=language) for language in LANGUAGES]
        sentences = aligned_sentences(both[0], both[1])
        english = embed([pair[0] for pair in sentences])
        chinese = embed([pair[1] for pair in sentences])
        forth, back = nearest_accuracy(english, chinese), nearest_accuracy(chinese, english)
    speed = None
    if given.speed:
        share = SPEED_SENTENCES // len(pairs)
        texts = [pair.first for rows in pairs.values() for pair in rows[:share]]
        speed = measure_speed(texts, embed=embed)
    way = given.url or "in process"
    return Report(given.model, way, correlations, len(sentences), forth, back, speed)


def table(report: Report) -> str:
    """Return the figures as lines of text."""
    lines = [f"{report.model}, {report.way}"]
    lines += [f"  Spearman x100, {name:<12} {x:8.2f}" for name, x in report.spearman.items()]
    for what, share in (("en -> zh", report.accuracy_en_zh), ("zh -> en", report.accuracy_zh_en)):
        if share is not None:
            count = report.aligned_sentences
            lines.append(f"  nearest is right, {what}  {share:8.2f} %  of {count} sentences")
    if report.speed is not None:
        lines.append(f"  sentences per CPU-second    {report.speed.sentences_per_cpu_second:8.1f}")
        lines.append(f"  one sentence alone          {report.speed.query_ms:8.2f} ms")
    return "\n".join(lines)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return what was asked on the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sts",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    models = Path.home() / ".cache" / "isotrope" / "models"
    parser.add_argument("--data", type=Path, required=True, help="folder of stsb-*-dev.csv")
    parser.add_argument("--model", required=True, help="model id")
    parser.add_argument("--url", help="address of a running service; without it, in process")
    parser.add_argument("--models-dir", type=Path, default=models, help="where built models are")
    parser.add_argument("--languages", nargs="+", choices=LANGUAGES, default=list(LANGUAGES))
    parser.add_argument("--cross-lingual", action="store_true", help="match translations too")
    parser.add_argument("--speed", action="store_true", help="measure speed too, in process only")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    given = parser.parse_args(arguments)
    if given.speed and given.url:
        parser.error("--speed measures this process; over HTTP use `make bench`")
    return given


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write the file where one is asked for."""
    given = parse_arguments(arguments)
    report = measure(given)
    say(table(report))
    if given.json:
        body = {"commit": commit(), "machine": machine(), "report": asdict(report)}
        given.json.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
