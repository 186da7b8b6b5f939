"""Score built encoders in this process: Spearman on sentence pairs, speed, batch dependence.

```
python benchmarks/encoder_quality.py --sentences stsb-en-dev.csv FOLDER [FOLDER ...]
```

One thread; speeds are sentences per CPU-second at batch 1 and 16, medians of rounds in which
the encoders take turns. Prints one JSON line for each encoder; the first is the baseline.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from tokenizers import Tokenizer

ROUNDS = 7
SAMPLE = 256
Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Encoder:
    """Hold one opened artefact."""

    entry: dict[str, Any]
    tokenizer: Tokenizer
    session: Any

    @classmethod
    def open(cls, folder: Path) -> Encoder:
        entry = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.enable_truncation(max_length=entry["max_tokens"])
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = ort.InferenceSession(
            str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        return cls(entry, tokenizer, session)

    def rows(self, texts: list[str]) -> list[list[int]]:
        prefixed = [self.entry["prefix"] + text for text in texts]
        return [one.ids for one in self.tokenizer.encode_batch(prefixed)]

    def run(self, rows: list[list[int]], *, length: int = 0) -> Vectors:
        length = max(length, *map(len, rows))
        ids, mask = np.zeros((2, len(rows), length), dtype=np.int64)
        for index, row in enumerate(rows):
            ids[index, : len(row)], mask[index, : len(row)] = row, 1
        feed = {"input_ids": ids, "attention_mask": mask}
        vectors: Vectors = self.session.run([self.entry["pooling"]], feed)[0]
        return vectors

    def encode(self, rows: list[list[int]], *, batch: int) -> Vectors:
        order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
        vectors = np.empty((len(rows), self.entry["dimensions"]), dtype=np.float32)
        for start in range(0, len(order), batch):
            chosen = order[start : start + batch]
            vectors[chosen] = self.run([rows[index] for index in chosen])
        return vectors


def ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ranks from 0, ties sharing their mean."""
    order = np.argsort(values, kind="stable")
    places = np.empty(len(values))
    places[order] = np.arange(len(values))
    _, group = np.unique(values, return_inverse=True)
    means: NDArray[np.float64] = np.bincount(group, places) / np.bincount(group)
    return means[group]


def spearman(encoder: Encoder, pairs: list[list[str]]) -> float:
    rows = encoder.rows([pair[0] for pair in pairs] + [pair[1] for pair in pairs])
    vectors = encoder.encode(rows, batch=16)
    cosines = (vectors[: len(pairs)] * vectors[len(pairs) :]).sum(axis=1).astype(np.float64)
    scores = np.array([float(pair[2]) for pair in pairs])
    return float(np.corrcoef(ranks(cosines), ranks(scores))[0, 1] * 100)


def batch_dependence(encoder: Encoder, texts: list[str]) -> float:
    """Return the largest change of a number between a text alone and among 63 others."""
    rows = encoder.rows(texts[:64])
    together = encoder.run(rows, length=max(map(len, rows)) + 5)
    alone = np.concatenate([encoder.run([row]) for row in rows])
    return float(np.abs(together - alone).max())


def speeds(encoders: list[Encoder], texts: list[str], *, batch: int) -> list[float]:
    rows = [encoder.rows(texts) for encoder in encoders]
    seconds: list[list[float]] = [[] for _ in encoders]
    for turn in range(ROUNDS):
        order = range(len(encoders)) if turn % 2 else reversed(range(len(encoders)))
        for index in order:
            start = time.process_time()
            encoders[index].encode(rows[index], batch=batch)
            seconds[index].append(time.process_time() - start)
    return [len(texts) / float(np.median(taken)) for taken in seconds]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sentences", type=Path, required=True, help="CSV: a, b, score")
    parser.add_argument("folders", type=Path, nargs="+", help="built artefact folders")
    options = parser.parse_args()
    with options.sentences.open(encoding="utf-8", newline="") as stream:
        pairs = list(csv.reader(stream))
    encoders = [Encoder.open(folder) for folder in options.folders]
    texts = [pair[0] for pair in pairs[:SAMPLE]]
    one, sixteen = (speeds(encoders, texts, batch=batch) for batch in (1, 16))
    for index, encoder in enumerate(encoders):
        line = {
            "model": encoder.entry["id"],
            "spearman": round(spearman(encoder, pairs), 3),
            "batch_dependence": batch_dependence(encoder, texts),
            "sentences_per_cpu_second": {
                "batch_1": round(one[index], 1),
                "batch_16": round(sixteen[index], 1),
            },
            "ratio": {
                "batch_1": round(one[index] / one[0], 2),
                "batch_16": round(sixteen[index] / sixteen[0], 2),
            },
        }
        print(json.dumps(line))
    return 0


if __name__ == "__main__":
    sys.exit(main())
