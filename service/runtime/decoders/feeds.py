"""Turn positions, a position scheme and a scale into the inputs of a decoder's graph."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from service.errors import Fault, VariantNotAvailable
from service.numerics.attention.positions import RopeName, RopeScheme, Rotation, rope_tables
from service.numerics.attention.scales import ScaleName, ScaleScheme, row_scale
from service.numerics.dtypes import Ids64
from service.runtime.decoders.graph import Array, DecoderGraph


@dataclass(frozen=True, slots=True)
class Reading:
    """Say how a model reads positions.

    Attributes:
        rope: how positions become angles.
        scale: what multiplies the scores of a row on top of the model's own 1/√d.
    """

    rope: RopeScheme = field(default_factory=RopeScheme)
    scale: ScaleScheme = field(default_factory=ScaleScheme)


def position_feed(
    graph: DecoderGraph, reading: Reading, *, base: float, rows: int, past: int, new: int
) -> dict[str, Array]:
    """Return every input that depends on positions alone.

    Rows of a batch stand at the same positions: new tokens at P … P + S - 1, keys at 0 … P + S - 1
    where the graph turns the cached ones each time, else at the new positions only.

    Args:
        graph: says which inputs there are.
        reading: position scheme and scale.
        base: of the rotary angles.
        rows: B.
        past: P, tokens in the cache.
        new: S, tokens of this run.

    Returns:
        `q_cos, q_sin` (B, S, pairs), `k_cos, k_sin` (B, S or P + S, pairs), `q_scale` (B, S, 1),
        and for a windowed graph `q_cos_far, q_sin_far, k_cos_far, k_sin_far, near` (B, S, P + S).

    Raises:
        VariantNotAvailable: the graph computes its own positions, or its own scale, and another
            one is asked for.
    """
    _require_inputs(graph, reading)
    queries = np.arange(past, past + new, dtype=np.int64)
    feed: dict[str, Array] = {}
    if "q_scale" in graph.inputs:
        # head_dim 1: a number is a factor on top of the model's own scale, which the graph has
        scales = row_scale(reading.scale, queries + 1, head_dim=1).astype(np.float32)
        feed["q_scale"] = _for_rows(scales[:, np.newaxis], rows)
    if graph.pairs:
        keys = np.arange(past + new, dtype=np.int64) if graph.keys_over_total else queries
        feed |= _tables(reading.rope, queries, keys, pairs=graph.pairs, base=base, rows=rows)
    return feed


def _require_inputs(graph: DecoderGraph, reading: Reading) -> None:
    rope, scale = reading.rope.name, reading.scale.name
    if not graph.pairs and rope is not RopeName.DIRECT:
        raise VariantNotAvailable(
            f"This model turns positions into angles inside its graph, so {rope.value} is not "
            "available; leave rope out.",
            faults=(Fault("/rope", f"is {rope.value}"),),
        )
    if "q_scale" not in graph.inputs and scale is not ScaleName.SQRT:
        raise VariantNotAvailable(
            f"This model scales its scores inside its graph, so {scale.value} is not available; "
            "leave scale out.",
            faults=(Fault("/scale", f"is {scale.value}"),),
        )


def _tables(
    scheme: RopeScheme, queries: Ids64, keys: Ids64, *, pairs: int, base: float, rows: int
) -> dict[str, Array]:
    tables = rope_tables(scheme, queries=queries, keys=keys, rope_dim=2 * pairs, base=base)
    feed = _rotations("", tables.queries, tables.keys, rows)
    if tables.far is not None:
        feed |= _rotations("_far", tables.far.queries, tables.far.keys, rows)
        feed["near"] = _for_rows(tables.far.near, rows)
    return feed


def _rotations(suffix: str, queries: Rotation, keys: Rotation, rows: int) -> dict[str, Array]:
    given = {"q_cos": queries.cos, "q_sin": queries.sin, "k_cos": keys.cos, "k_sin": keys.sin}
    return {name + suffix: _for_rows(table, rows) for name, table in given.items()}


def _for_rows(table: Array, rows: int) -> Array:
    return np.ascontiguousarray(np.broadcast_to(table, (rows, *table.shape)))
