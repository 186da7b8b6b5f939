"""Read a few tokens with an adopted decoder, whole and one by one, before it is accepted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import RecipeError

Array = NDArray[Any]
# A text read whole and read token by token takes other kernels; what differs more is another model.
LARGEST_DIFFERENCE = 0.05
LEAST_TOLERANCE = 1e-4
_TOKENS = 6


def try_decoder(graph: Path, *, vocabulary: int, rope_base: float) -> float:
    """Run a graph of decision 0023 and return the largest difference of a logit.

    Args:
        graph: its file.
        vocabulary: numbers that a row of logits must have.
        rope_base: of the rotary angles.

    Raises:
        RecipeError: it cannot be loaded or run, a logit is not finite, or the cache does not give
            what the whole text gives.
    """
    session = open_graph(graph)
    shapes = {node.name: node.shape for node in session.get_inputs()}
    ids = np.arange(1, _TOKENS + 1, dtype=np.int64)[np.newaxis] % vocabulary
    whole, _ = _read(session, shapes, ids, _empty(shapes), rope_base=rope_base)
    if whole.shape != (1, _TOKENS, vocabulary):
        message = (
            f"the graph gives logits of the shape {whole.shape} for {_TOKENS} tokens, "
            f"(1, {_TOKENS}, {vocabulary}) was to come"
        )
        raise RecipeError(message)
    if not np.isfinite(whole).all():
        message = "the graph gives logits that are not finite"
        raise RecipeError(message)
    kept, rows = _empty(shapes), []
    for at in range(_TOKENS):
        row, kept = _read(session, shapes, ids[:, at : at + 1], kept, rope_base=rope_base)
        rows.append(row)
    difference = float(np.abs(np.concatenate(rows, axis=1) - whole).max())
    spread = max(1.0, float(np.abs(whole).max()))
    if not difference <= LARGEST_DIFFERENCE * spread:
        message = (
            f"a text read token by token gives logits that differ by {difference:.3g} from the "
            "text read whole: the graph's cache does not work"
        )
        raise RecipeError(message)
    return max(LEAST_TOLERANCE, difference)


def open_graph(graph: Path) -> Any:  # noqa: ANN401 - onnxruntime has no types
    """Return a session of the graph.

    Raises:
        RecipeError: onnxruntime cannot load it.
    """
    # onnxruntime reads it while it is imported, and would write into the home folder.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # noqa: TID251 - before any import
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no narrower base
        message = f"onnxruntime cannot load the graph: {error}"
        raise RecipeError(message) from error


def _empty(shapes: dict[str, list[Any]]) -> dict[str, Array]:
    return {
        name: np.zeros((1, int(shape[1]), 0, int(shape[3])), np.float32)
        for name, shape in shapes.items()
        if name.startswith("past.")
    }


def _read(
    session: Any,  # noqa: ANN401 - onnxruntime has no types
    shapes: dict[str, list[Any]],
    ids: Array,
    past: dict[str, Array],
    *,
    rope_base: float,
) -> tuple[Array, dict[str, Array]]:
    start = next(iter(past.values())).shape[2] if past else 0
    count = ids.shape[1]
    feed: dict[str, Array] = {"input_ids": ids, "logits_from": np.zeros(1, np.int64), **past}
    if "q_scale" in shapes:
        feed["q_scale"] = np.ones((1, count, 1), np.float32)
    for side in ("q", "k"):
        if f"{side}_cos" not in shapes:
            continue
        _, rows, pairs = shapes[f"{side}_cos"]
        places = np.arange(0 if rows == "total" else start, start + count)
        angles = places[:, np.newaxis] * rope_base ** (-np.arange(pairs) / pairs)
        feed[f"{side}_cos"] = np.cos(angles)[np.newaxis].astype(np.float32)
        feed[f"{side}_sin"] = np.sin(angles)[np.newaxis].astype(np.float32)
    names = [f"present.{name.removeprefix('past.')}" for name in past]
    try:
        logits, *present = session.run(["logits", *names], feed)
    except Exception as error:  # its exceptions share no narrower base
        message = f"the graph fails on {count} tokens behind {start}: {error}"
        raise RecipeError(message) from error
    return logits, dict(zip(past, present, strict=True))
