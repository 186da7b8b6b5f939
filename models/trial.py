"""Try a finished encoder on a few real texts before it is accepted."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from models.errors import RecipeError

# Short, long, another script, and nothing at all: enough to meet padding and rare pieces.
TEXTS = (
    "A cat sits on the mat.",
    "Water boils at a lower temperature on a high mountain, because the air presses less.",
    "数学是一门语言。",
    "",
)
Batch = dict[str, NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class Trial:
    """Hold what a trial measured.

    Attributes:
        dimensions: width d of a vector.
        padding_difference: largest change of any number of a unit vector between a text
            alone and the same text padded among others; 0 is ideal.
    """

    dimensions: int
    padding_difference: float


def try_encoder(model: Path, tokenizer: Path, *, poolings: tuple[str, ...]) -> Trial:
    """Run each text alone and all together; check shapes and numbers; compare.

    Raises:
        RecipeError: the graph cannot be loaded or run, or gives something other than one
            finite vector per text.
    """
    session = _open(model)
    pieces = Tokenizer.from_file(str(tokenizer))
    rows = [encoding.ids for encoding in pieces.encode_batch(list(TEXTS))]
    # A tokenizer without special tokens gives nothing for the empty text.
    rows = [row for row in rows if row]
    together = _run(session, pad(rows), poolings=poolings)
    alone = [_run(session, pad([row]), poolings=poolings) for row in rows]
    dimensions = together[0].shape[-1]
    for name, vectors in zip(poolings, together, strict=True):
        _check(name, vectors, count=len(rows), dimensions=dimensions)
    difference = max(
        float(np.abs(single[pooling][0] - together[pooling][index]).max())
        for index, single in enumerate(alone)
        for pooling in range(len(poolings))
    )
    return Trial(dimensions=dimensions, padding_difference=difference)


def pad(rows: list[list[int]]) -> Batch:
    """Return rows of ids as one batch, zeros and mask 0 at the right of the shorter ones."""
    length = max(map(len, rows))
    ids = np.zeros((len(rows), length), dtype=np.int64)
    mask = np.zeros_like(ids)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
        mask[index, : len(row)] = 1
    return {"input_ids": ids, "attention_mask": mask}


def _open(model: Path) -> Any:  # noqa: ANN401 - onnxruntime has no types
    # onnxruntime reads it while it is imported, and would write into the home folder.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # noqa: TID251 - before any import
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no narrower base
        message = f"onnxruntime cannot load the finished graph: {error}"
        raise RecipeError(message) from error


def _run(session: Any, batch: Batch, *, poolings: tuple[str, ...]) -> list[NDArray[np.float32]]:  # noqa: ANN401
    try:
        vectors: list[NDArray[np.float32]] = session.run(list(poolings), batch)
    except Exception as error:  # its exceptions share no narrower base
        shape = batch["input_ids"].shape
        message = (
            f"the graph fails on a batch of shape {shape}: {error}; it must take any "
            "number of texts and tokens, and tokenizer.json must be the model's own"
        )
        raise RecipeError(message) from error
    return vectors


def _check(name: str, vectors: NDArray[np.float32], *, count: int, dimensions: int) -> None:
    if vectors.shape != (count, dimensions):
        message = (
            f"pooling {name} gives the shape {vectors.shape} for {count} texts; "
            f"({count}, dimensions) is needed"
        )
        raise RecipeError(message)
    if not np.isfinite(vectors).all():
        message = f"pooling {name} gives numbers that are not finite"
        raise RecipeError(message)
    if not np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-3):
        message = f"pooling {name} gives vectors of zero length"
        raise RecipeError(message)
