"""Run built graphs on lists of ids, one thread, right padding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnxruntime
from numpy.typing import NDArray


def open_graph(model: bytes | str) -> onnxruntime.InferenceSession:
    """Return a session of one thread for a graph's bytes or path."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run_graph(
    session: onnxruntime.InferenceSession, rows: Sequence[Sequence[int]], *outputs: str
) -> list[NDArray[np.float32]]:
    """Return the named outputs for all rows in one batch."""
    ids = np.ones((len(rows), max(map(len, rows))), dtype=np.int64)
    mask = np.zeros_like(ids)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
        mask[index, : len(row)] = 1
    return list(session.run(list(outputs), {"input_ids": ids, "attention_mask": mask}))
