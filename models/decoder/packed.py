"""Multiply by 4-bit matrices and an 8-bit token table exactly as a GGUF file holds them.

```
w = d (q - 8) + c        c = m + 8 d, one d and c for 32 numbers of a row
y = x wᵀ = MatMulNBits(x; q, d) + s cᵀ        s: sums of 32 numbers of x each
```

The kernel for whole offsets is fast, the one for any offset is not; so what remains of the
offset, c, goes through the sums, and nothing is rounded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.decoder.storage import DataFile
from models.gguf.blocks import BLOCK, Tensor, dequantise, eight_bits, four_bits
from models.graph import CONTRIB_DOMAIN, GraphBuilder

Floats = NDArray[np.float32]
Wholes = NDArray[np.uint8]
# What MatMulNBits takes off each number of 4 and 8 bits by itself.
_MIDDLE_8 = 128


@dataclass(frozen=True, slots=True)
class Packed:
    """Hold one matrix (rows m, columns n) the way MatMulNBits reads it.

    Attributes:
        whole: (m, n / 32, 16) uint8, number 2 j of a block in the low half of byte j.
        scale: d, (m, n / 32) float32.
        correction: c, (m, n / 32) float32.
    """

    whole: Wholes
    scale: Floats
    correction: Floats


@dataclass(frozen=True, slots=True)
class Table:
    """Hold the token table in 8 bits: w = d (q - 128).

    Attributes:
        whole: (vocabulary, n / 32, 32) uint8.
        scale: d, (vocabulary, n / 32) float32.
    """

    whole: Wholes
    scale: Floats


@dataclass(frozen=True, slots=True)
class PackedWeights:
    """Hold a decoder in 4 bits.

    Attributes:
        table: the token table, which is the output matrix too.
        matrices: `layers.<layer>/` and `attention/qkv` (query, key, value rows in turn),
            `attention/output`, `feed_forward/gate_up` (gate, then up), `feed_forward/down`.
        vectors: `norm` and, by layer, `attention/norm`, `feed_forward/norm`.
    """

    table: Table
    matrices: Mapping[str, Packed]
    vectors: Mapping[str, Floats]


def pack(*tensors: Tensor) -> Packed:
    """Return 4-bit matrices, one above the other, as one that MatMulNBits reads."""
    parts = [four_bits(tensor) for tensor in tensors]
    wholes = np.concatenate([part.whole for part in parts])
    return Packed(
        wholes[..., 0::2] | wholes[..., 1::2] << np.uint8(4),
        np.concatenate([part.scale for part in parts]),
        np.concatenate([part.correction for part in parts]),
    )


def pack_table(tensor: Tensor) -> Table:
    """Return an 8-bit token table with its numbers shifted from -128..127 to 0..255."""
    whole, scale = eight_bits(tensor)
    return Table(whole.view(np.uint8) ^ np.uint8(_MIDDLE_8), scale)


def pack_vector(tensor: Tensor) -> Floats:
    """Return a norm's scale as float32."""
    return dequantise(tensor)


class PackedSource:
    """Take every part from 4-bit matrices; fits `models.decoder.source.Source`.

    For one graph: it remembers sums and fused products of that graph.

    Args:
        weights: what to multiply by.
        file: where the bytes go.
    """

    def __init__(self, weights: PackedWeights, *, file: DataFile) -> None:
        self._weights = weights
        self._file = file
        self._sums: dict[str, str] = {}
        self._split: dict[str, tuple[str, ...]] = {}

    def embed(self, graph: GraphBuilder, ids: str) -> str:
        """Return the rows of the token table.

        ```
        whole (v, n/32, 32) ─ Gather ─ Cast ─ Sub 128 ─ Mul ─ Reshape (B, S, n)
        scale (v, n/32, 1) ── Gather ───────────────────┘
        ```
        """
        table = self._weights.table
        whole = graph.apply("Gather", self._refer(graph, "table/whole", table.whole), ids, axis=0)
        middle = graph.constant("middle", np.array(_MIDDLE_8, dtype=np.float32))
        centred = graph.apply("Sub", graph.apply("Cast", whole, to=1), middle)
        scale = graph.apply("Gather", self._refer(graph, "table/scale", table.scale), ids, axis=0)
        last = graph.constant("last", np.array([-1], dtype=np.int64))
        product = graph.apply("Mul", centred, graph.apply("Unsqueeze", scale, last))
        width = table.whole.shape[1] * BLOCK
        shape = graph.constant("shape", np.array([0, 0, width], dtype=np.int64))
        return graph.apply("Reshape", product, shape)

    def head(self, graph: GraphBuilder, hidden: str) -> str:
        """Return the logits: `hidden` times the 8-bit table, in float32."""
        table = self._weights.table
        rows, blocks, _ = table.whole.shape
        return graph.apply(
            "MatMulNBits", hidden,
            self._refer(graph, "table/whole", table.whole),
            self._refer(graph, "table/scale", table.scale),
            domain=CONTRIB_DOMAIN, K=blocks * BLOCK, N=rows, bits=8, block_size=BLOCK,
        )  # fmt: skip

    def tensor(self, graph: GraphBuilder, name: str) -> str:
        """Return a norm's scale."""
        return self._refer(graph, name, self._weights.vectors[name])

    def project(self, graph: GraphBuilder, hidden: str, *, layer: int, part: str) -> str:
        """Return `hidden` times one matrix; parts that are stored together are multiplied once."""
        group, _, own = part.partition("/")
        fused = {"attention": "qkv", "feed_forward": "gate_up"}[group]
        members = ("query", "key", "value") if fused == "qkv" else ("gate", "up")
        if own not in members:
            return self._product(graph, hidden, f"layers.{layer}/{part}")
        name = f"layers.{layer}/{group}/{fused}"
        if name not in self._split:
            product = self._product(graph.at(fused), hidden, name)
            widths = graph.constant("widths", self._widths(name, members))
            self._split[name] = graph.at(fused).apply_many(
                "Split", product, widths, outputs=len(members), axis=-1
            )
        return self._split[name][members.index(own)]

    def _widths(self, name: str, members: tuple[str, ...]) -> NDArray[np.int64]:
        rows = self._weights.matrices[name].whole.shape[0]
        if len(members) == 2:  # noqa: PLR2004
            return np.array([rows // 2] * 2, dtype=np.int64)
        columns = self._weights.matrices[name.replace("qkv", "output")].whole.shape[1] * BLOCK
        other = (rows - columns) // 2
        return np.array([columns, other, other], dtype=np.int64)

    def _product(self, graph: GraphBuilder, hidden: str, name: str) -> str:
        matrix = self._weights.matrices[name]
        rows, blocks, _ = matrix.whole.shape
        product = graph.apply(
            "MatMulNBits", hidden,
            self._refer(graph, f"{name}/whole", matrix.whole),
            self._refer(graph, f"{name}/scale", matrix.scale),
            domain=CONTRIB_DOMAIN, K=blocks * BLOCK, N=rows, bits=4, block_size=BLOCK,
        )  # fmt: skip
        correction = self._refer(graph, f"{name}/correction", matrix.correction)
        turned = graph.apply("Transpose", correction, perm=[1, 0])
        sums = self._block_sums(graph, hidden, blocks=blocks)
        return graph.apply("Add", product, graph.apply("MatMul", sums, turned))

    def _block_sums(self, graph: GraphBuilder, hidden: str, *, blocks: int) -> str:
        """Return the sums of 32 numbers each, (B, S, n / 32), once for all that read `hidden`."""
        if hidden not in self._sums:
            shape = graph.constant("blocks", np.array([0, 0, blocks, BLOCK], dtype=np.int64))
            last = graph.constant("last", np.array([-1], dtype=np.int64))
            split = graph.apply("Reshape", hidden, shape)
            self._sums[hidden] = graph.apply("ReduceSum", split, last, keepdims=0)
        return self._sums[hidden]

    def _refer(self, graph: GraphBuilder, name: str, array: NDArray[Any]) -> str:
        return self._file.refer(graph, name, array)
