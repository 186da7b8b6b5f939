"""Declare what a decoder graph takes: ids, rotary tables, the scale of a row, the past."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.decoder.description import Form, Sizes, cache_shapes, rotated_width
from models.graph import GraphBuilder

# Larger than any length: "to the end" for Slice.
END = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class Table:
    """Name the cosines and sines of one set of angles, each (B, length, rope_dim/2) float32."""

    cos: str
    sin: str


@dataclass(frozen=True, slots=True)
class Inputs:
    """Name the values that the layers of one graph share.

    Attributes:
        ids: (B, S) int64.
        queries: tables of the queries; a second one, for far keys, where the graph has both.
        keys: likewise of the keys.
        near: (B, 1, S, T) bool, which scores are near ones; None with a single table.
        q_scale: (B, 1, S, 1), multiplies each row of the queries.
        logits_from: (1,) int64.
        causal: (S, T) bool, true where the key is not after the query.
        past: layer and part to (B, heads, P, width).
    """

    ids: str
    queries: tuple[Table, ...]
    keys: tuple[Table, ...]
    near: str | None
    q_scale: str
    logits_from: str
    causal: str
    past: dict[tuple[int, str], str]


def take_inputs(graph: GraphBuilder, *, sizes: Sizes, form: Form) -> Inputs:
    """Declare the inputs and prepare what all layers share."""
    ids = graph.take("input_ids", dtype=np.int64, shape=("batch", "sequence"))
    length = "sequence" if form.keys_rotated_before_caching else "total"
    columns = rotated_width(sizes, form) // 2
    suffixes = ("",) if form.reach == "one" else ("", "_far")
    queries = tuple(_table(graph, "q", suffix, "sequence", columns) for suffix in suffixes)
    keys = tuple(_table(graph, "k", suffix, length, columns) for suffix in suffixes)
    near = None
    if form.reach == "near_and_far":
        near = graph.take("near", dtype=np.bool_, shape=("batch", "sequence", "total"))
        near = _heads_axis(graph.at("near"), near)
    scale = graph.take("q_scale", dtype=np.float32, shape=("batch", "sequence", 1))
    logits_from = graph.take("logits_from", dtype=np.int64, shape=(1,))
    past = {
        (layer, part): graph.take(
            f"past.{layer}.{part}", dtype=np.float32, shape=("batch", heads, "past", width)
        )
        for layer in range(sizes.layers)
        for part, (heads, width) in cache_shapes(sizes, form).items()
    }
    causal = _causal(graph.at("causal"), ids, past=next(iter(past.values())))
    scale = _heads_axis(graph.at("q_scale"), scale)
    return Inputs(ids, queries, keys, near, scale, logits_from, causal, past)


def _table(graph: GraphBuilder, role: str, suffix: str, length: str, columns: int) -> Table:
    cos, sin = (
        graph.take(f"{role}_{of}{suffix}", dtype=np.float32, shape=("batch", length, columns))
        for of in ("cos", "sin")
    )
    return Table(cos, sin)


def _heads_axis(graph: GraphBuilder, value: str) -> str:
    return graph.apply("Unsqueeze", value, graph.constant("axis", np.array([1], dtype=np.int64)))


def _causal(graph: GraphBuilder, ids: str, *, past: str) -> str:
    """Return (S, T) bool: key j is visible to query i where j <= i + P.

    ```
    ids ─── Shape ─ S ┐
    past ── Shape ─ P ┴ Add ─ T ─ Range(0, T) ┬ Slice P.. ─ Unsqueeze (S, 1) ─┐
                                              └ (T,) ─────────────── LessOrEqual ─ (S, T)
    ```
    """
    number = {"axes": graph.constant("axis", np.array([0], dtype=np.int64))}
    new = graph.apply("Shape", ids, start=1, end=2)
    held = graph.apply("Shape", past, start=2, end=3)
    total = graph.apply("Squeeze", graph.apply("Add", new, held), number["axes"])
    zero = graph.constant("zero", np.array(0, dtype=np.int64))
    one = graph.constant("one", np.array(1, dtype=np.int64))
    keys = graph.apply("Range", zero, total, one)
    end = graph.constant("end", np.array([END], dtype=np.int64))
    queries = graph.apply("Slice", keys, held, end, number["axes"])
    column = graph.constant("column", np.array([1], dtype=np.int64))
    return graph.apply("LessOrEqual", keys, graph.apply("Unsqueeze", queries, column))
