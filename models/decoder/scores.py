"""Weigh values by queries and keys: softmax or its unit-length form, one or two rotations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.decoder.description import Form, Sizes
from models.decoder.heads import group_heads, ungroup_heads
from models.decoder.inputs import Inputs
from models.graph import GraphBuilder

# Softmax probabilities, in the numbering of Attention's fourth output.
_AFTER_SOFTMAX = 3
# The least normal float32: p ln p is 0 in the limit p = 0, and ln of this is finite.
_TINY = np.finfo(np.float32).tiny
# exp() of it is exactly 0 in float32, and no sum with a score overflows.
_MASKED = -1.0e9


@dataclass(frozen=True, slots=True)
class Operands:
    """Name what attention reads.

    Attributes:
        queries: one value, or one for near and one for far keys, each (B, q_heads, S, width).
        keys: likewise, each (B, heads, T, width); `heads` divides `q_heads`.
        values: (B, heads, T, width of values).
    """

    queries: Sequence[str]
    keys: Sequence[str]
    values: str


def attend(
    graph: GraphBuilder, operands: Operands, *, form: Form, inputs: Inputs, sizes: Sizes
) -> tuple[str, str]:
    """Return the context (B, q_heads, S, width of values) and the entropy (B, q_heads, S)."""
    scaled = [graph.at("query").apply("Mul", each, inputs.q_scale) for each in operands.queries]
    operands = Operands(scaled, operands.keys, operands.values)
    if form.reach == "one":
        context, shares = _standard(graph, operands, form=form, inputs=inputs)
    else:
        context, shares = _near_and_far(graph, operands, form=form, inputs=inputs, sizes=sizes)
    entropy = _entropy(graph.at("entropy"), shares)
    if form.normaliser == "l2":
        place = graph.at("l2")
        axis = place.constant("axis", np.array([-1], dtype=np.int64))
        length = place.apply("ReduceL2", shares, axis, keepdims=1)
        context = place.apply("Div", context, length)
    return context, entropy


def _standard(
    graph: GraphBuilder, operands: Operands, *, form: Form, inputs: Inputs
) -> tuple[str, str]:
    context, _, _, shares = graph.apply_many(
        "Attention", operands.queries[0], operands.keys[0], operands.values, inputs.causal,
        outputs=4, scale=form.score_scale, qk_matmul_output_mode=_AFTER_SOFTMAX,
    )  # fmt: skip
    return context, shares


def _near_and_far(
    graph: GraphBuilder, operands: Operands, *, form: Form, inputs: Inputs, sizes: Sizes
) -> tuple[str, str]:
    """Return context and shares where each score is taken from one of two rotations.

    ```
    near q kᵀ ┐
    far  q kᵀ ┴ Where(near) ─ Mul scale ─ Where(causal) ─ Softmax ─ MatMul v
    ```
    """
    groups = 1 if form.formula == "mla_absorbed" else form.kv_heads
    place = graph.at("scores")
    near, far = (
        _products(place, query, key, groups=groups, heads=sizes.q_heads)
        for query, key in zip(operands.queries, operands.keys, strict=True)
    )
    assert inputs.near is not None
    chosen = place.apply("Where", inputs.near, near, far)
    scale = place.constant("scale", np.array(form.score_scale, dtype=np.float32))
    masked = place.constant("masked", np.array(_MASKED, dtype=np.float32))
    visible = place.apply("Where", inputs.causal, place.apply("Mul", chosen, scale), masked)
    shares = place.apply("Softmax", visible, axis=-1)
    place = graph.at("context")
    grouped = group_heads(place, shares, groups=groups)
    context = place.apply("MatMul", grouped, operands.values)
    return ungroup_heads(place, context, heads=sizes.q_heads, like=shares), shares


def _products(graph: GraphBuilder, query: str, key: str, *, groups: int, heads: int) -> str:
    grouped = group_heads(graph, query, groups=groups)
    turned = graph.apply("Transpose", key, perm=[0, 1, 3, 2])
    return ungroup_heads(graph, graph.apply("MatMul", grouped, turned), heads=heads, like=query)


def _entropy(graph: GraphBuilder, shares: str) -> str:
    """Return -Σ p ln p over the last axis, nats."""
    tiny = graph.constant("tiny", np.array(_TINY, dtype=np.float32))
    logarithm = graph.apply("Log", graph.apply("Max", shares, tiny))
    axis = graph.constant("axis", np.array([-1], dtype=np.int64))
    terms = graph.apply("Mul", shares, logarithm)
    return graph.apply("Neg", graph.apply("ReduceSum", terms, axis, keepdims=0))
