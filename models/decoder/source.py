"""Say what a graph asks of weights, and answer it from float32 arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.decoder.storage import DataFile
from models.graph import GraphBuilder


class Source(Protocol):
    """Give the learned parts of one decoder; how they are stored is its own affair."""

    def embed(self, graph: GraphBuilder, ids: str) -> str:
        """Return the rows of the token table, (B, S, hidden) float32."""
        ...

    def project(self, graph: GraphBuilder, hidden: str, *, layer: int, part: str) -> str:
        """Return `hidden` (B, S, n) times one matrix, (B, S, m).

        Args:
            graph: the place to build in.
            hidden: the value to project.
            layer: index of the layer, from 0.
            part: `attention/query`, `/key`, `/value`, `/output`; `/latent` for MLA, and
                `/query_rope`, `/rope_key` where its rotation has a part of its own;
                `feed_forward/gate`, `/up`, `/down`.
        """
        ...

    def tensor(self, graph: GraphBuilder, name: str) -> str:
        """Return a constant as it is: a norm's scale or a map out of the latent.

        Args:
            graph: the place to build in.
            name: `norm`, or `layers.<layer>/` and one of `attention/norm`,
                `feed_forward/norm` (hidden,), `attention/key_up`, `attention/value_up`
                (kv_heads, kv_rank, head_dim).
        """
        ...

    def head(self, graph: GraphBuilder, hidden: str) -> str:
        """Return the logits, (B, R, vocabulary)."""
        ...


class FloatSource:
    """Take every part from float32 arrays, stored in one data file.

    Args:
        weights: `embedding` (vocabulary, hidden); `norm`; and by layer, under
            `layers.<layer>/`, a matrix (n, m) for each part of `project` and an array for each
            name of `tensor`.
        file: where the bytes go. Graphs built over the same file share them.
    """

    def __init__(self, weights: Mapping[str, NDArray[np.float32]], *, file: DataFile) -> None:
        self._weights = weights
        self._file = file

    def embed(self, graph: GraphBuilder, ids: str) -> str:
        """Return the rows of the token table."""
        return graph.apply("Gather", self.tensor(graph, "embedding"), ids, axis=0)

    def project(self, graph: GraphBuilder, hidden: str, *, layer: int, part: str) -> str:
        """Return `hidden` times one matrix."""
        return graph.apply("MatMul", hidden, self.tensor(graph, f"layers.{layer}/{part}"))

    def tensor(self, graph: GraphBuilder, name: str) -> str:
        """Return a constant as it is."""
        array = self._weights[name]
        if array.dtype != np.float32:
            message = f"{name!r} has dtype {array.dtype}; a float source takes float32"
            raise ValueError(message)
        return self._file.refer(graph, name, array)

    def head(self, graph: GraphBuilder, hidden: str) -> str:
        """Return the logits: `hidden` times the transposed token table."""
        table = graph.apply("Transpose", self.tensor(graph, "embedding"), perm=[1, 0])
        return graph.apply("MatMul", hidden, table)
