"""Multiply by the matrices of a GGUF file, each in the kind that it has there."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.decoder.packed import Packed, pack, pack_table, pack_vector
from models.decoder.storage import DataFile
from models.gguf.blocks import BLOCK, Tensor, dequantise
from models.gguf.reader import GgufFile
from models.graph import CONTRIB_DOMAIN, GraphBuilder

TABLE, HEAD, NORM = "token_embd.weight", "output.weight", "output_norm.weight"
# Part of a layer to the name that the file has for it.
MATRICES = {
    "attention/query": "attn_q",
    "attention/key": "attn_k",
    "attention/value": "attn_v",
    "attention/output": "attn_output",
    "feed_forward/gate": "ffn_gate",
    "feed_forward/up": "ffn_up",
    "feed_forward/down": "ffn_down",
}
NORMS = {"attention/norm": "attn_norm", "feed_forward/norm": "ffn_norm"}
_MIDDLE_8 = 128
_FLOAT = 1  # ONNX's number for float32


class GgufArrays:
    """Take tensors of a file apart, each once, however many graphs ask.

    Args:
        file: the file.
    """

    def __init__(self, file: GgufFile) -> None:
        self.file = file
        self._arrays: dict[str, dict[str, NDArray[Any]]] = {}

    def of(self, name: str) -> dict[str, NDArray[Any]]:
        """Return the arrays that stand for a tensor.

        `whole` and `scale` for 8 bits, also `correction` for 4 bits with an offset, `numbers` for
        floats: a matrix (columns, rows) as it is multiplied by, a vector or the table as it is.
        """
        if name not in self._arrays:
            self._arrays[name] = _take_apart(self.file.tensor(name))
        return self._arrays[name]


class GgufSource:
    """Take every part from a file; fits `models.decoder.source.Source`.

    For one graph: it remembers sums of that graph.

    Args:
        arrays: of the file.
        data: where the bytes go.
    """

    def __init__(self, arrays: GgufArrays, *, data: DataFile) -> None:
        self._arrays = arrays
        self._data = data
        self._sums: dict[tuple[str, int], str] = {}

    def embed(self, graph: GraphBuilder, ids: str) -> str:
        """Return the rows of the token table, (B, S, hidden) float32."""
        arrays = self._arrays.of(TABLE)
        if "numbers" in arrays:
            row = graph.apply("Gather", self._refer(graph, TABLE, "numbers"), ids, axis=0)
            return graph.apply("Cast", row, to=_FLOAT)
        whole = graph.apply("Gather", self._refer(graph, TABLE, "whole"), ids, axis=0)
        middle = graph.constant("middle", np.array(_MIDDLE_8, dtype=np.float32))
        centred = graph.apply("Sub", graph.apply("Cast", whole, to=_FLOAT), middle)
        scale = graph.apply("Gather", self._refer(graph, TABLE, "scale"), ids, axis=0)
        last = graph.constant("last", np.array([-1], dtype=np.int64))
        product = graph.apply("Mul", centred, graph.apply("Unsqueeze", scale, last))
        width = arrays["whole"].shape[1] * BLOCK
        shape = graph.constant("shape", np.array([0, 0, width], dtype=np.int64))
        return graph.apply("Reshape", product, shape)

    def head(self, graph: GraphBuilder, hidden: str) -> str:
        """Return the logits: by the file's output matrix, or else by the token table."""
        if HEAD in self._arrays.file.tensors:
            return self._product(graph, hidden, HEAD)
        if "numbers" not in self._arrays.of(TABLE):
            return self._product(graph, hidden, TABLE)
        table = graph.apply("Cast", self._refer(graph, TABLE, "numbers"), to=_FLOAT)
        return graph.apply("MatMul", hidden, graph.apply("Transpose", table, perm=[1, 0]))

    def tensor(self, graph: GraphBuilder, name: str) -> str:
        """Return a norm's scale."""
        place, _, _ = name.partition("/")
        own = NORM if name == "norm" else _in_file(place, NORMS[name.removeprefix(f"{place}/")])
        return self._refer(graph, own, "numbers")

    def project(self, graph: GraphBuilder, hidden: str, *, layer: int, part: str) -> str:
        """Return `hidden` times one matrix."""
        return self._product(graph, hidden, _in_file(f"layers.{layer}", MATRICES[part]))

    def _product(self, graph: GraphBuilder, hidden: str, name: str) -> str:
        arrays = self._arrays.of(name)
        if "numbers" in arrays:
            matrix = graph.apply("Cast", self._refer(graph, name, "numbers"), to=_FLOAT)
            return graph.apply("MatMul", hidden, matrix)
        rows, blocks, held = arrays["whole"].shape
        product = graph.apply(
            "MatMulNBits", hidden,
            self._refer(graph, name, "whole"), self._refer(graph, name, "scale"),
            domain=CONTRIB_DOMAIN, K=blocks * BLOCK, N=rows,
            bits=8 if held == BLOCK else 4, block_size=BLOCK,
        )  # fmt: skip
        if "correction" not in arrays:
            return product
        turned = graph.apply("Transpose", self._refer(graph, name, "correction"), perm=[1, 0])
        rest = graph.apply("MatMul", self._block_sums(graph, hidden, blocks), turned)
        return graph.apply("Add", product, rest)

    def _block_sums(self, graph: GraphBuilder, hidden: str, blocks: int) -> str:
        if (hidden, blocks) not in self._sums:
            shape = graph.constant("blocks", np.array([0, 0, blocks, BLOCK], dtype=np.int64))
            last = graph.constant("last", np.array([-1], dtype=np.int64))
            split = graph.apply("Reshape", hidden, shape)
            self._sums[hidden, blocks] = graph.apply("ReduceSum", split, last, keepdims=0)
        return self._sums[hidden, blocks]

    def _refer(self, graph: GraphBuilder, name: str, part: str) -> str:
        return self._data.refer(graph, f"{name}/{part}", self._arrays.of(name)[part])


def _in_file(place: str, part: str) -> str:
    return f"blk.{place.removeprefix('layers.')}.{part}.weight"


def _take_apart(tensor: Tensor) -> dict[str, NDArray[Any]]:
    matrix = len(tensor.shape) > 1 and tensor.name != TABLE
    if tensor.kind == "Q8_0" and len(tensor.shape) > 1:
        table = pack_table(tensor)
        return {"whole": table.whole, "scale": table.scale}
    if tensor.kind in {"Q4_0", "Q4_1"} and matrix:
        return _four_bits(pack(tensor))
    numbers: NDArray[Any] = pack_vector(tensor)
    if tensor.kind == "F16":  # half of the bytes, and every one of the numbers
        numbers = numbers.astype(np.float16)
    if len(tensor.shape) == 1:
        numbers = dequantise(tensor)
    return {"numbers": np.ascontiguousarray(numbers.T) if matrix else numbers}


def _four_bits(packed: Packed) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {"whole": packed.whole, "scale": packed.scale}
    return arrays | ({"correction": packed.correction} if packed.correction.any() else {})
