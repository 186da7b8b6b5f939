"""Score whitened vectors on the STS benchmark: models × poolings × settings."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.sts import Pair, spearman
from service.numerics.moments import Moments, measure_moments
from service.numerics.vectors import pair_cosines
from service.numerics.whitening import Shrinkage, find_axes, make_kernel, whiten

MODELS = (
    ("all-MiniLM-L6-v2", "en"),
    ("all-MiniLM-L6-v2-int8", "en"),
    ("multilingual-e5-small", "en"),
    ("use-multilingual-3", "en"),
    ("use-multilingual-3", "zh"),
)
SETTINGS = ((0.0, 0.0), (1.0, 0.0), (0.0, 0.25), (0.0, 0.5), (1.0, 0.5), (1.0, 1.0))
DIMENSIONS = (None, 256, 128, 64)
DOCUMENT = Path(__file__).parents[1] / "docs" / "whitening.md"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
_BATCH = 16

Matrix = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Sentences:
    """Hold the pairs of one file and the raw vectors of their distinct sentences.

    Attributes:
        vectors: (n, d) float32 by pooling, not normalised.
        first: row of the first sentence of each pair.
        second: row of the second.
        scores: 0 to 5.
    """

    vectors: dict[str, Matrix]
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    scores: NDArray[np.float64]

    def spearman(self, vectors: Matrix) -> float:
        """Return Spearman × 100 of cosine and score."""
        cosines = pair_cosines(vectors[self.first], vectors[self.second])
        return 100 * spearman(cosines.astype(np.float64), self.scores)


def read_pairs(path: Path) -> list[Pair]:
    """Return the rows `a,b,score` of a file."""
    with path.open(encoding="utf-8", newline="") as stream:
        return [Pair(row[0], row[1], float(row[2])) for row in csv.reader(stream)]


def embed(pairs: Sequence[Pair], *, model: Path) -> Sentences:
    """Return every pooling of every distinct sentence, on one thread."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime
    from tokenizers import Tokenizer

    entry = json.loads((model / "manifest.json").read_text(encoding="utf-8"))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(
        model / "model.onnx", options, providers=["CPUExecutionProvider"]
    )
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.enable_truncation(entry["max_tokens"])
    texts = sorted({text for pair in pairs for text in (pair.first, pair.second)})
    rows = {text: row for row, text in enumerate(texts)}
    ids = [one.ids for one in tokenizer.encode_batch([entry["prefix"] + text for text in texts])]
    vectors = {
        pooling: np.empty((len(texts), entry["dimensions"]), dtype=np.float32)
        for pooling in entry["poolings"]
    }
    order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
    for start in range(0, len(order), _BATCH):
        chosen = order[start : start + _BATCH]
        length = max(len(ids[row]) for row in chosen)
        tokens, mask = np.zeros((2, len(chosen), length), dtype=np.int64)
        for place, row in enumerate(chosen):
            tokens[place, : len(ids[row])], mask[place, : len(ids[row])] = ids[row], 1
        found = session.run(
            [f"{pooling}_raw" for pooling in vectors],
            {"input_ids": tokens, "attention_mask": mask},
        )
        for pooling, rows_found in zip(vectors, found, strict=True):
            vectors[pooling][chosen] = rows_found
    return Sentences(
        vectors,
        np.array([rows[pair.first] for pair in pairs]),
        np.array([rows[pair.second] for pair in pairs]),
        np.array([pair.score for pair in pairs]),
    )


def whitened(
    vectors: Matrix,
    moments: Moments,
    *,
    beta: float,
    gamma: float,
    dimensions: int | None = None,
    shrinkage: Shrinkage = Shrinkage.LEDOIT_WOLF,
) -> Matrix:
    """Return vectors through a whitening of some moments."""
    axes = find_axes(moments, beta=beta, shrinkage=shrinkage)
    width = moments.dimensions if dimensions is None else dimensions
    return whiten(vectors, make_kernel(axes, gamma=gamma, dimensions=width))


def table_rows(name: str, sentences: Sentences) -> list[list[str]]:
    """Return one row of scores a pooling: raw, and each setting at each number of dimensions."""
    rows = []
    for pooling, vectors in sentences.vectors.items():
        moments = measure_moments(vectors)
        row = [name, pooling, f"{sentences.spearman(vectors):.2f}"]
        for beta, gamma in SETTINGS:
            scores = [
                sentences.spearman(
                    whitened(vectors, moments, beta=beta, gamma=gamma, dimensions=dimensions)
                )
                for dimensions in DIMENSIONS
            ]
            row.append(" / ".join(f"{score:.2f}" for score in scores))
        rows.append(row)
    return rows


def write_table(rows: Sequence[Sequence[str]]) -> None:
    """Put the table between the markers of the document."""
    titles = ["vectors", "pooling", "raw"]
    titles += [f"β {beta:g}, γ {gamma:g}" for beta, gamma in SETTINGS]
    lines = [titles, ["---"] * len(titles), *rows]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    text = DOCUMENT.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    DOCUMENT.write_text(f"{head}{BEGIN}\n{table}\n{END}{tail}", encoding="utf-8")
