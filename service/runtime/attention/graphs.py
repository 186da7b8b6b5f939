"""Write the ONNX graph of one attention layer.

```
heads      queries ── turn ── · scale ─┐
           keys ───── turn ────────────┤
           values ─────────────────────┼─ Attention ── output
expanded   latent ── · key_maps ───────┤      │
           latent ── · value_maps ─────┘      └────── weights
absorbed   queries ── · key_mapsᵀ, latent as key and value, output ── · value_maps
decoupled  [content, turn(rope)] for queries and keys in place of turning them whole
windowed   two pairs of queries and keys, scores chosen by Where
l2         Softmax, then rows divided by their length
```

The last two go through MatMul and Softmax in place of Attention, whose scores nothing can reach.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

from service.numerics.attention.reference import Layout, Normaliser, Path

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, ValueInfoProto

OPSET, IR_VERSION = 24, 11
# Scores after softmax, of the operator's fourth output.
_AFTER_SOFTMAX = 3
Attribute: TypeAlias = int | float | str | list[int]


class Turn(StrEnum):
    """Name how many pairs of tables turn queries and keys."""

    NONE = "none"
    ONCE = "once"
    WINDOWED = "windowed"


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphKind:
    """Say what a graph must know ahead.

    Attributes:
        path: heads as given, or a latent expanded or absorbed.
        turn: positions.
        turning: how many numbers of a head turn.
        layout: which of them make pairs.
        decoupled: whether only a shared key turns; of latents.
        normaliser: softmax or rows of length 1.
        causal: whether later keys are hidden; explicit graphs take it in the bias.
        biased: whether a bias is added to the scores.
        weighed: whether the weights are given too.
    """

    path: Path
    turn: Turn
    turning: int
    layout: Layout
    decoupled: bool
    normaliser: Normaliser
    causal: bool
    biased: bool
    weighed: bool

    @property
    def explicit(self) -> bool:
        """Return whether the standard operator cannot say it."""
        return self.turn is Turn.WINDOWED or self.normaliser is Normaliser.L2


_AXES: dict[str, Sequence[str | int]] = {
    "queries": ("batch", "q_heads", "queries", "key_size"),
    "keys": ("batch", "kv_heads", "keys", "key_size"),
    "values": ("batch", "kv_heads", "keys", "value_size"),
    "rope_queries": ("batch", "q_heads", "queries", "rope_dim"),
    "latent": ("batch", 1, "keys", "kv_rank"),
    "rope_keys": ("batch", 1, "keys", "rope_dim"),
    "key_maps": ("q_heads", "kv_rank", "key_size"),
    "value_maps": ("q_heads", "kv_rank", "value_size"),
    "scale": ("queries", 1),
    "bias": ("mask_batch", "mask_heads", "queries", "keys"),
    "near": ("queries", "keys"),
    **{
        f"{side}_{part}{reach}": ("batch", axis, "pairs")
        for side, axis in (("q", "queries"), ("k", "keys"))
        for part in ("cos", "sin")
        for reach in ("", "_far")
    },
    "output": ("batch", "q_heads", "queries", "value_size"),
    "weights": ("batch", "q_heads", "queries", "keys"),
}


class _Graph:
    """Collect nodes; every value is named after what it is."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.inputs: dict[str, None] = {}

    def read(self, name: str) -> str:
        """Return an input of the graph, declared once."""
        self.inputs[name] = None
        return name

    def add(self, operator: str, inputs: Sequence[str], name: str, **attributes: Attribute) -> str:
        """Return the name of a node's one value."""
        return self.add_many(operator, inputs, [name], **attributes)[0]

    def add_many(
        self, operator: str, inputs: Sequence[str], names: Sequence[str], **attributes: Attribute
    ) -> Sequence[str]:
        """Return the names of a node's values."""
        from onnx import helper  # half a second, paid by the first graph

        node = helper.make_node(operator, inputs, names, name=f"layer/{names[0]}")
        node.attribute.extend(helper.make_attribute(*pair) for pair in attributes.items())
        self.nodes.append(node)
        return names


def build(kind: GraphKind) -> ModelProto:
    """Return the model of a kind; its inputs are those of the diagram that the kind reads."""
    graph = _Graph()
    near = _queries_and_keys(graph, kind, reach="")
    values = _values(graph, kind)
    if kind.explicit:
        _attend_explicitly(graph, kind, near, values)
    else:
        _attend(graph, kind, near, values)
    if kind.path is Path.ABSORBED:
        graph.add("MatMul", ["attended", graph.read("value_maps")], "output")
    else:
        graph.add("Identity", ["attended"], "output")
    return _model(graph, ["output", "weights"] if kind.weighed else ["output"])


def _queries_and_keys(graph: _Graph, kind: GraphKind, *, reach: str) -> tuple[str, str]:
    """Return queries, scaled, and keys, both turned by the near or the far tables."""
    queries, keys = graph.read("queries"), f"made_keys{reach}"
    if kind.path is Path.HEADS:
        keys = graph.read("keys")
    elif kind.path is Path.EXPANDED:
        graph.add("MatMul", [graph.read("latent"), graph.read("key_maps")], keys)
    else:
        maps = graph.add(
            "Transpose", [graph.read("key_maps")], f"turned_maps{reach}", perm=[0, 2, 1]
        )
        queries = graph.add("MatMul", [queries, maps], f"absorbed_queries{reach}")
        keys = graph.read("latent")
    if kind.decoupled:
        queries, keys = _with_rope_parts(graph, kind, queries, keys, reach)
    else:
        queries = _turned(graph, kind, queries, f"q{reach}")
        keys = _turned(graph, kind, keys, f"k{reach}")
    return graph.add("Mul", [queries, graph.read("scale")], f"scaled_queries{reach}"), keys


def _with_rope_parts(
    graph: _Graph, kind: GraphKind, queries: str, keys: str, reach: str
) -> tuple[str, str]:
    """Return [content, turned part] of queries and keys; the key's part is one for all heads."""
    asked = _turned(graph, kind, graph.read("rope_queries"), f"q{reach}")
    held = _turned(graph, kind, graph.read("rope_keys"), f"k{reach}")
    if kind.path is Path.EXPANDED:
        one = graph.add("Constant", [], f"one{reach}", value_ints=[1])
        heads = graph.add("Shape", [graph.read("queries")], f"heads{reach}", start=1, end=2)
        shape = graph.add("Concat", [one, heads, one, one], f"shared_shape{reach}", axis=0)
        held = graph.add("Expand", [held, shape], f"shared_rope_keys{reach}")
    return (
        graph.add("Concat", [queries, asked], f"whole_queries{reach}", axis=-1),
        graph.add("Concat", [keys, held], f"whole_keys{reach}", axis=-1),
    )


def _turned(graph: _Graph, kind: GraphKind, vectors: str, side: str) -> str:
    if kind.turn is Turn.NONE:
        return vectors
    place, _, reach = side.partition("_")
    suffix = f"_{reach}" if reach else ""
    tables = [graph.read(f"{place}_{part}{suffix}") for part in ("cos", "sin")]
    return graph.add(
        "RotaryEmbedding",
        [vectors, *tables],
        f"turned_{side}",
        interleaved=int(kind.layout is Layout.INTERLEAVED),
        rotary_embedding_dim=kind.turning,
    )


def _values(graph: _Graph, kind: GraphKind) -> str:
    if kind.path is Path.HEADS:
        return graph.read("values")
    if kind.path is Path.ABSORBED:
        return graph.read("latent")
    return graph.add("MatMul", [graph.read("latent"), graph.read("value_maps")], "made_values")


def _attend(graph: _Graph, kind: GraphKind, near: tuple[str, str], values: str) -> None:
    bias = [graph.read("bias")] if kind.biased else []
    more = ["", "", "weights"] if kind.weighed else []
    graph.add_many(
        "Attention",
        [*near, values, *bias],
        ["attended", *more],
        is_causal=int(kind.causal),
        scale=1.0,  # the queries carry it, row by row
        qk_matmul_output_mode=_AFTER_SOFTMAX,
    )


def _attend_explicitly(graph: _Graph, kind: GraphKind, near: tuple[str, str], values: str) -> None:
    scores = _scores(graph, near, reach="")
    if kind.turn is Turn.WINDOWED:
        far = _scores(graph, _queries_and_keys(graph, kind, reach="_far"), reach="_far")
        scores = graph.add("Where", [graph.read("near"), scores, far], "chosen_scores")
    if kind.biased:
        scores = graph.add("Add", [scores, graph.read("bias")], "biased_scores")
    if kind.normaliser is Normaliser.L2:
        shares = graph.add("Softmax", [scores], "shares", axis=-1)
        axes = graph.add("Constant", [], "row_axis", value_ints=[-1])
        lengths = graph.add("ReduceL2", [shares, axes], "row_lengths", keepdims=1)
        graph.add("Div", [shares, lengths], "weights")
    else:
        graph.add("Softmax", [scores], "weights", axis=-1)
    graph.add("MatMul", ["weights", values], "attended")


def _scores(graph: _Graph, pair: tuple[str, str], *, reach: str) -> str:
    queries, keys = pair
    columns = graph.add("Transpose", [keys], f"key_columns{reach}", perm=[0, 1, 3, 2])
    return graph.add("MatMul", [queries, columns], f"scores{reach}")


def _model(graph: _Graph, outputs: Sequence[str]) -> ModelProto:
    from onnx import TensorProto, helper

    def described(name: str) -> ValueInfoProto:
        kind = TensorProto.BOOL if name == "near" else TensorProto.FLOAT
        return helper.make_tensor_value_info(name, kind, list(_AXES[name]))

    body = helper.make_graph(
        graph.nodes,
        "attention_layer",
        [described(name) for name in graph.inputs],
        [described(name) for name in outputs],
    )
    return helper.make_model(
        body, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
