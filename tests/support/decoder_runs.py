"""Run a decoder graph on ids: tables of any positions, with or without a past."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from models.decoder.description import Form, Sizes, cache_shapes
from tests.support.decoder_reference import Positions
from tests.support.graphs import open_graph

Feeds = dict[str, NDArray[Any]]


class DecoderRun:
    """Feed one sequence (or several of equal length) to a graph, chunk after chunk.

    The tables are made from the same `Positions` that the reference uses: queries against
    key 0 and keys against query 0, since a table knows nothing of the other side.
    """

    def __init__(self, path: Path, *, sizes: Sizes, form: Form, positions: Positions) -> None:
        self.session: onnxruntime.InferenceSession = open_graph(str(path))
        self._sizes, self._form, self._positions = sizes, form, positions
        self.past: Feeds = {}

    def step(self, ids: NDArray[np.int64], *, logits_from: int = 0) -> Mapping[str, NDArray[Any]]:
        """Run (B, S) ids after what was run before; keep the present as the next past."""
        feeds = self.feeds(ids, logits_from=logits_from)
        names = [output.name for output in self.session.get_outputs()]
        given = dict(zip(names, self.session.run(names, feeds), strict=True))
        self.past = {
            name.replace("present.", "past."): value
            for name, value in given.items()
            if name.startswith("present.")
        }
        return given

    def feeds(self, ids: NDArray[np.int64], *, logits_from: int) -> Feeds:
        batch, new = ids.shape
        past = self.past or self._empty(batch)
        held = next(iter(past.values())).shape[2]
        queries = np.arange(held, held + new)
        cached_rotated = self._form.keys_rotated_before_caching
        keys = queries if cached_rotated else np.arange(held + new)
        feeds: Feeds = {
            "input_ids": ids,
            "logits_from": np.array([logits_from]),
            "q_scale": np.tile(
                np.array([[[self._positions.row_scale(t)] for t in queries]], dtype=np.float32),
                (batch, 1, 1),
            ),
            **past,
            **self._tables(batch, queries, keys, suffix=""),
        }
        if self._positions.far is not None:
            near = queries[:, None] - keys[None] < self._positions.window
            feeds |= self._tables(batch, queries, keys, suffix="_far")
            feeds["near"] = np.tile(near[None], (batch, 1, 1))
        return feeds

    def _tables(
        self, batch: int, queries: NDArray[Any], keys: NDArray[Any], *, suffix: str
    ) -> Feeds:
        angle = self._positions.far if suffix else self._positions.near
        assert angle is not None
        sides = {
            "q": np.array([angle(int(t), 0)[0] for t in queries]),
            "k": np.array([angle(0, int(i))[1] for i in keys]),
        }
        return {
            f"{side}_{name}{suffix}": np.tile(of(angles)[None].astype(np.float32), (batch, 1, 1))
            for side, angles in sides.items()
            for name, of in (("cos", np.cos), ("sin", np.sin))
        }

    def _empty(self, batch: int) -> Feeds:
        return {
            f"past.{layer}.{part}": np.zeros((batch, heads, 0, width), dtype=np.float32)
            for layer in range(self._sizes.layers)
            for part, (heads, width) in cache_shapes(self._sizes, self._form).items()
        }
