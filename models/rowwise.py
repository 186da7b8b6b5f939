"""Multiply in 8 bits with one scale per token, so that no text changes its neighbours' vectors.

```
hidden ─ quantise ┬ whole numbers (b, l, n) uint8 ─ MatMulInteger ─ Cast ─ Mul ─ Mul ─ Add ─ out
                  └ row scale (b, l, 1) ────────────────────────────┘      │     │
weight, quantised: one scale per column (m,) ──────────────────────────────┘     bias
```

The usual dynamic quantisation takes one scale for the whole batch, and then a loud neighbour
moves a text's vector by up to 0.3. A scale per row costs two passes more and removes that.

Weights keep to ±63 (7 bits) although int8 holds ±127: processors without a dot-product
instruction add two products in 16 bits, 2 · 255 · 63 still fits there, 2 · 255 · 127 does
not. So the whole numbers come out the same on every machine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.graph import GraphBuilder

Matrix32 = NDArray[np.float32]
Dense = Callable[[int, str], tuple[Matrix32, Matrix32]]

WEIGHT_LIMIT = 63
TABLE_LIMIT = 127
# gelu(x) >= -0.16998 for every x; so gelu(x) + 0.17 is never negative.
GELU_FLOOR = 0.17
# Keeps a row of zeros finite; far below any row that occurs.
SMALLEST_ROW = 1e-12


@dataclass(frozen=True, slots=True)
class QuantisedRows:
    """Name a quantised value: number ≈ (whole - zero_point) * scale - shift.

    Attributes:
        whole: (batch, length, n) uint8.
        scale: (batch, length, 1) float32.
        zero_point: the whole number that stands for 0 before the shift.
        shift: what was added before quantising.
    """

    whole: str
    scale: str
    zero_point: int
    shift: float


def quantise_columns(weight: Matrix32, *, limit: int) -> tuple[NDArray[np.int8], Matrix32]:
    """Return whole numbers in ±limit and one scale per column: weight ≈ whole * scale.

    Args:
        weight: (n, m) float32.
        limit: the largest whole number, at most 127.
    """
    largest = np.maximum(np.abs(weight).max(axis=0), np.float32(SMALLEST_ROW))
    scale = (largest / np.float32(limit)).astype(np.float32)
    return np.rint(weight / scale).astype(np.int8), scale


def quantise_signed(graph: GraphBuilder, hidden: str) -> QuantisedRows:
    """Return whole = round(x / s) + 128 with s = max|x| / 127 over each row.

    ```
    x ┬ Abs ─ ReduceMax ─ Max tiny ─ Mul 1/127 ┬ scale
      └────────────────────────────────── Div ─┴ QuantizeLinear ─ whole
    ```
    """
    last = graph.constant("last_axis", np.array([-1], dtype=np.int64))
    largest = graph.apply("ReduceMax", graph.apply("Abs", hidden), last, keepdims=1)
    tiny = graph.constant("tiny", np.array(SMALLEST_ROW, dtype=np.float32))
    step = graph.constant("step", np.array(1 / 127, dtype=np.float32))
    scale = graph.apply("Mul", graph.apply("Max", largest, tiny), step)
    whole = _round(graph, graph.apply("Div", hidden, scale), zero_point=128)
    return QuantisedRows(whole, scale, zero_point=128, shift=0.0)


def quantise_gelu(graph: GraphBuilder, hidden: str) -> QuantisedRows:
    """Return whole = round((x + 0.17) / s) with s = (max x + 0.17) / 255 over each row.

    ```
    x ┬ ReduceMax ─ Add 0.17 ─ Mul 1/255 ┬ scale
      └ Add 0.17 ────────────────── Div ─┴ QuantizeLinear ─ whole
    ```

    What gelu gives is never below -0.17: with the shift all 256 steps lie where the numbers
    are, twice as fine as the signed form. The next matrix's bias takes the shift back.
    """
    last = graph.constant("last_axis", np.array([-1], dtype=np.int64))
    floor = graph.constant("floor", np.array(GELU_FLOOR, dtype=np.float32))
    step = graph.constant("step", np.array(1 / 255, dtype=np.float32))
    largest = graph.apply("ReduceMax", hidden, last, keepdims=1)
    scale = graph.apply("Mul", graph.apply("Add", largest, floor), step)
    whole = _round(
        graph, graph.apply("Div", graph.apply("Add", hidden, floor), scale), zero_point=0
    )
    return QuantisedRows(whole, scale, zero_point=0, shift=GELU_FLOOR)


def _round(graph: GraphBuilder, scaled: str, *, zero_point: int) -> str:
    # Scale 1: this is round, shift, clip and cast in one vectorised pass.
    one = graph.constant("one", np.array(1, dtype=np.float32))
    zero = graph.constant("zero_point", np.array(zero_point, dtype=np.uint8))
    return graph.apply("QuantizeLinear", scaled, one, zero)


class RowwiseProjection:
    """Apply float matrices in 8 bits; fits `models.bert.Project`.

    Two exact identities save passes. A key's bias adds the same number to every score of a
    query, which softmax ignores, so it is dropped. The shares of a query sum to 1, so the
    value's bias b passes unchanged to the output matrix W and is added there as b W.

    Args:
        dense: gives (weight (n, m), bias (m,)) of a layer and part, float32.
    """

    def __init__(self, dense: Dense) -> None:
        self._dense = dense
        self._quantised: dict[str, QuantisedRows] = {}

    def __call__(self, graph: GraphBuilder, hidden: str, *, layer: int, part: str) -> str:
        """Return hidden @ W + b, within the rounding of 8 bits."""
        rows = self._rows(graph, hidden, part=part)
        weight, bias = self._dense(layer, part)
        whole, column_scale = quantise_columns(weight, limit=WEIGHT_LIMIT)
        inputs = [rows.whole, graph.constant("weight", whole)]
        if rows.zero_point:
            zero = np.array(rows.zero_point, dtype=np.uint8)
            inputs.append(graph.constant("zero_point", zero))
        summed = graph.apply("Cast", graph.apply("MatMulInteger", *inputs), to=1)
        by_row = graph.apply("Mul", summed, rows.scale)
        product = graph.apply("Mul", by_row, graph.constant("column_scale", column_scale))
        if part in {"attention/key", "attention/value"}:
            return product
        if part == "attention/output":
            _, value_bias = self._dense(layer, "attention/value")
            bias = bias + column_sums(weight * value_bias[:, np.newaxis])
        if rows.shift:
            shifted = np.float32(rows.shift) * column_sums(whole) * column_scale
            bias = bias - shifted
        return graph.apply("Add", product, graph.constant("bias", bias.astype(np.float32)))

    def _rows(self, graph: GraphBuilder, hidden: str, *, part: str) -> QuantisedRows:
        # Query, key and value read the same numbers: quantise them once.
        if hidden not in self._quantised:
            quantise = quantise_gelu if part == "feed_forward/outer" else quantise_signed
            self._quantised[hidden] = quantise(graph.at("quantise"), hidden)
        return self._quantised[hidden]


def column_sums(matrix: NDArray[np.float32] | NDArray[np.int8]) -> Matrix32:
    """Return the sum of each column, row after row in float64.

    A fixed order, without a BLAS call: the same bytes come out on every machine.
    """
    rows = np.ascontiguousarray(matrix, dtype=np.float64)
    total = np.zeros(rows.shape[1], dtype=np.float64)
    for row in rows:
        total += row
    return total.astype(np.float32)


def table_rows(graph: GraphBuilder, ids: str, *, table: Matrix32) -> str:
    """Return the rows `ids` of an (n, d) table kept in 8 bits with one scale per row.

    ```
    whole (n, d) int8 ──── Gather ─ Cast ─ Mul ─ rows (batch, length, d)
    scale (n, 1) float32 ─ Gather ─────────┘
    ```
    """
    whole, scale = quantise_columns(table.T, limit=TABLE_LIMIT)
    kept = graph.apply("Gather", graph.constant("whole", whole.T), ids, axis=0)
    scales = graph.constant("scale", scale[:, np.newaxis])
    return graph.apply("Mul", graph.apply("Cast", kept, to=1), graph.apply("Gather", scales, ids))
