"""Run a serving graph over one block of past and present, ragged rows included."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from models.decoder.description import Sizes
from tests.support.graphs import open_graph


class ServingRun:
    """Hold rows of a cache and step any of them on, all in the same graph.

    The cache is copied in and out, so that rows can be chosen freely; the service binds it.
    """

    def __init__(
        self, path: Path, *, sizes: Sizes, kv_heads: int, base: float, rows: int, capacity: int
    ) -> None:
        self.session: onnxruntime.InferenceSession = open_graph(str(path))
        self._sizes, self._base = sizes, base
        shape = (rows, kv_heads, capacity, sizes.head_dim)
        self._cache = {
            f"{layer}.{part}": np.zeros(shape, dtype=np.float32)
            for layer in range(sizes.layers)
            for part in ("key", "value")
        }
        self.lengths = np.zeros(rows, dtype=np.int64)

    def step(
        self, rows: Sequence[int], ids: Sequence[Sequence[int]], *, logits_from: int = 0
    ) -> NDArray[np.float32]:
        """Append `ids` (rows, S) to the rows and return their logits (rows, R, vocabulary)."""
        chosen, new = list(rows), np.array(ids, dtype=np.int64)
        places = self.lengths[chosen][:, None] + np.arange(new.shape[1])
        self.lengths[chosen] += new.shape[1]
        half = self._sizes.head_dim // 2
        angles = places[..., None] * self._base ** (-np.arange(half) / half)
        cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
        after = self.lengths[chosen]
        feeds = {
            "input_ids": new,
            "q_cos": cos, "q_sin": sin, "k_cos": cos, "k_sin": sin,
            "seqlens_k": (after - 1).astype(np.int32),
            "total_length": np.array([after.max()], dtype=np.int32),
            "logits_from": np.array([logits_from]),
            **{f"past.{name}": held[chosen] for name, held in self._cache.items()},
        }  # fmt: skip
        binding = self.session.io_binding()
        bound = {
            name: onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))
            for name, array in feeds.items()
        }
        for name, value in bound.items():
            binding.bind_ortvalue_input(name, value)
        for name in self._cache:
            binding.bind_ortvalue_output(f"present.{name}", bound[f"past.{name}"])
        binding.bind_output("logits")
        self.session.run_with_iobinding(binding)
        for name, held in self._cache.items():
            held[chosen] = bound[f"past.{name}"].numpy()
        logits: NDArray[np.float32] = binding.get_outputs()[-1].numpy()
        return logits
