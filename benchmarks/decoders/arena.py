"""Drive a serving graph over one block of past and present, bound once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from benchmarks.decoders.graphs import Family


class Arena:
    """Hold `rows` sequences of up to `capacity` tokens.

    Args:
        session: of the serving graph.
        family: whose graph it is.
        rows: sequences that step together.
        capacity: tokens of each.
    """

    def __init__(
        self, session: onnxruntime.InferenceSession, family: Family, *, rows: int, capacity: int
    ) -> None:
        said = family.manifest
        heads = said["variants"][said["default_variant"]]["kv_heads"]
        shape = (rows, heads, capacity, said["head_dim"])
        half = said["head_dim"] // 2
        angles = np.arange(capacity)[:, None] * said["rope_base"] ** (-np.arange(half) / half)
        self._cos, self._sin = np.cos(angles).astype("f4"), np.sin(angles).astype("f4")
        self._session = session
        self._binding = session.io_binding()
        self._held = []
        for layer in range(said["layers"]):
            for part in ("key", "value"):
                block = onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(shape, dtype="f4"))
                self._held.append(block)
                self._binding.bind_ortvalue_input(f"past.{layer}.{part}", block)
                self._binding.bind_ortvalue_output(f"present.{layer}.{part}", block)
        self.lengths = np.zeros(rows, dtype=np.int64)
        self.past_bytes = 2 * said["layers"] * heads * said["head_dim"] * 4

    def step(self, ids: NDArray[np.int64], *, logits_from: int = 0) -> NDArray[np.float32]:
        """Append (rows, S) ids and return (rows, R, vocabulary) logits."""
        places = self.lengths[:, None] + np.arange(ids.shape[1])
        self.lengths = self.lengths + ids.shape[1]
        cos, sin = self._cos[places], self._sin[places]
        bind = self._binding.bind_cpu_input
        for name, array in (
            ("input_ids", ids), ("q_cos", cos), ("q_sin", sin), ("k_cos", cos), ("k_sin", sin),
            ("seqlens_k", (self.lengths - 1).astype(np.int32)),
            ("total_length", np.array([self.lengths.max()], dtype=np.int32)),
            ("logits_from", np.array([logits_from])),
        ):  # fmt: skip
            bind(name, array)
        self._binding.bind_output("logits")
        self._session.run_with_iobinding(self._binding)
        logits: NDArray[np.float32] = self._binding.get_outputs()[-1].numpy()
        return logits

    def prefill(self, ids: Sequence[int]) -> NDArray[np.int64]:
        """Forget all rows, fill each with `ids` and return each row's best next token."""
        self.lengths = np.zeros_like(self.lengths)
        rows = np.tile(np.array(ids, dtype=np.int64), (len(self.lengths), 1))
        return self.step(rows, logits_from=len(ids) - 1)[:, -1].argmax(axis=-1)

    def decode(self, tokens: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        """Step all rows `count` times, greedily; return the last tokens."""
        for _ in range(count):
            tokens = self.step(tokens[:, None])[:, -1].argmax(axis=-1)
        return tokens

    def fill_ragged(self, source: Arena, rows: Sequence[int]) -> None:
        """Take the rows of `source` as the rows of this arena, lengths included."""
        chosen = list(rows)
        for mine, theirs in zip(self._held, source._held, strict=True):
            mine.update_inplace(np.ascontiguousarray(theirs.numpy()[chosen]))
        self.lengths = source.lengths[chosen].copy()
