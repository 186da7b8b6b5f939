"""Give an exported graph our inputs and outputs, whatever it came with.

```
input_ids (b, l) int64 ──────┬──────────────────┐
                             ├ zeros ─ token_type_ids   (where the graph wants them)
                             ├ 0..l-1 ─ position_ids    (where the graph wants them)
attention_mask (b, l) int64 ─┼──────────────────┤ exported graph ┬ token vectors ─ mean, cls
                             └ shares of a mean ─────────────────┘   (or its own pooled vector)
```

The file's own opset stays: nothing we add changed its meaning since opset 11.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper

from models.errors import RecipeError
from models.graph import Dimension, GraphBuilder
from models.poolings import CLS, MEAN, cls_pool, give_poolings, mean_pool, token_shares

# Positions are counted by CumSum, which came with opset 11.
OLDEST_OPSET = 11
# Constants need not be listed as inputs from this file version on; ours are not.
OLDEST_IR_VERSION = 4
TOKEN_OUTPUTS = ("last_hidden_state", "token_embeddings")
POOLED_OUTPUTS = ("sentence_embedding", "sentence_embeddings", "embedding")

_IDS, _MASK = "input_ids", "attention_mask"
_MADE_INSIDE = ("token_type_ids", "position_ids")
_WHOLE = (TensorProto.INT64, TensorProto.INT32)
_REAL = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16)
_PLACE = "isotrope"


@dataclass(frozen=True, slots=True)
class Completed:
    """Hold a finished graph.

    Attributes:
        model: has the inputs `input_ids` and `attention_mask` and, for each pooling p, the
            outputs `p` and `p_raw`.
        poolings: what it offers, the configured one first.
        opset: version of the standard operators that it uses.
    """

    model: onnx.ModelProto
    poolings: tuple[str, ...]
    opset: int


def complete_graph(model: onnx.ModelProto, *, pooling: str, pooled_only: bool = False) -> Completed:
    """Return `model`, changed in place, with our inputs, poolings and unit lengths.

    Args:
        model: an exported encoder.
        pooling: `mean` or `cls`, as its folder says.
        pooled_only: the folder has steps after pooling, so only a vector that the graph
            itself pooled will do.

    Raises:
        RecipeError: inputs we cannot feed, no usable output, or a too old opset.
    """
    opset = _opset(model)
    graph = model.graph
    _free_names(graph, wanted=[f"{name}{end}" for name in (MEAN, CLS) for end in ("", "_raw")])
    output = onnx.ValueInfoProto()
    output.CopyFrom(_choose_output(graph, pooled_only=pooled_only))
    del graph.output[:]
    _feed_inputs(graph)
    after = GraphBuilder(_PLACE, reserved=_names(graph)).at(_PLACE)
    # Exports in half precision are served as float32 vectors.
    value = after.apply("Cast", output.name, to=TensorProto.FLOAT)
    if output.name in TOKEN_OUTPUTS or _rank(output) == 3:  # noqa: PLR2004 - batch, length, d
        shares = token_shares(after.at("shares"), _MASK)
        both = {
            MEAN: mean_pool(after.at(MEAN), value, shares=shares),
            CLS: cls_pool(after.at(CLS), value),
        }
        raw = {pooling: both[pooling], **both}
    else:
        raw = {pooling: value}
    give_poolings(after, raw, dimensions=_last_dimension(output))
    after.join_after(graph)
    model.ir_version = max(model.ir_version, OLDEST_IR_VERSION)
    return Completed(model, tuple(raw), opset)


def _opset(model: onnx.ModelProto) -> int:
    versions = [entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"}]
    opset = max(versions, default=0)
    if opset < OLDEST_OPSET:
        message = (
            f"the graph uses opset {opset}; export it again with opset {OLDEST_OPSET} or newer"
        )
        raise RecipeError(message)
    return opset


def _rank(value: onnx.ValueInfoProto) -> int | None:
    kind = value.type.tensor_type
    return len(kind.shape.dim) if kind.HasField("shape") else None


def _last_dimension(value: onnx.ValueInfoProto) -> Dimension:
    dims = value.type.tensor_type.shape.dim
    return dims[-1].dim_value if dims and dims[-1].dim_value > 0 else "dimensions"


def _choose_output(graph: onnx.GraphProto, *, pooled_only: bool) -> onnx.ValueInfoProto:
    """Return the output to serve: token vectors where there are any, else a pooled vector."""
    real = [value for value in graph.output if value.type.tensor_type.elem_type in _REAL]
    named = {value.name: value for value in real}
    wanted = POOLED_OUTPUTS if pooled_only else (*TOKEN_OUTPUTS, *POOLED_OUTPUTS)
    for name in wanted:
        if name in named:
            chosen: onnx.ValueInfoProto = named[name]
            return chosen
    for rank in (2,) if pooled_only else (3, 2):
        ranked = [value for value in real if _rank(value) == rank]
        if len(ranked) == 1:
            only: onnx.ValueInfoProto = ranked[0]
            return only
    have = ", ".join(value.name for value in graph.output)
    message = (
        f"the graph gives {have}, and none of it can be served; needed is one of "
        f"{', '.join(wanted)}"
    )
    raise RecipeError(message)


def _check_inputs(graph: onnx.GraphProto) -> dict[str, int]:
    """Return the element kind of each input that has to be fed, by name."""
    constants = {tensor.name for tensor in graph.initializer}
    kinds = {
        value.name: value.type.tensor_type.elem_type
        for value in graph.input
        if value.name not in constants
    }
    if kinds.keys() - {_IDS, _MASK, *_MADE_INSIDE} or not kinds.keys() >= {_IDS, _MASK}:
        message = (
            f"the graph takes {', '.join(kinds) or 'nothing'}; it must take {_IDS} and {_MASK}, "
            f"and may take {' and '.join(_MADE_INSIDE)}, nothing else"
        )
        raise RecipeError(message)
    odd = [name for name, kind in kinds.items() if kind not in _WHOLE]
    if odd:
        message = f"the graph's input {odd[0]} is not of whole numbers (int64 or int32)"
        raise RecipeError(message)
    return kinds


def _feed_inputs(graph: onnx.GraphProto) -> None:
    """Leave only our two inputs, both int64 and free in both axes; make the others inside."""
    kinds = _check_inputs(graph)
    narrow = {
        name: f"/{_PLACE}/narrow/{name}"
        for name in (_IDS, _MASK)
        if kinds[name] != TensorProto.INT64
    }
    kept = [value for value in graph.input if value.name not in kinds]
    del graph.input[:]
    _rename(graph, narrow)
    before = GraphBuilder(_PLACE, reserved=_names(graph) - {_IDS, _MASK})
    for name in (_IDS, _MASK):
        before.take(name, dtype=np.int64, shape=("batch", "length"))
    sources = {inside: (name, kinds[name]) for name, inside in narrow.items()}
    makers = {"token_type_ids": _zeros, "position_ids": _positions}
    for name in [name for name in _MADE_INSIDE if name in kinds]:
        sources[name] = (makers[name](before.at(f"{_PLACE}/{name}")), kinds[name])
    exported = list(graph.node)
    del graph.node[:]
    for inside, (value, kind) in sources.items():
        # The graph goes on reading these values under the names that it knows.
        path = f"/{_PLACE}/feed/{inside}"
        graph.node.append(helper.make_node("Cast", [value], [inside], name=path, to=kind))
    graph.node.extend(exported)
    before.join_before(graph)
    graph.input.extend(kept)


def _zeros(graph: GraphBuilder) -> str:
    """Return zeros of the shape of `input_ids`: every token is of type 0."""
    return graph.apply("Sub", _IDS, _IDS)


def _positions(graph: GraphBuilder) -> str:
    """Return 0..length-1 in each row, (batch, length) int64.

    ```
    input_ids ─ Sub itself ─ Add 1 ─ CumSum over length ─ Sub 1 ─ positions
    ```
    """
    one = graph.constant("one", np.array(1, dtype=np.int64))
    counted = graph.apply("CumSum", graph.apply("Add", _zeros(graph), one), one)
    return graph.apply("Sub", counted, one)


def _free_names(graph: onnx.GraphProto, *, wanted: list[str]) -> None:
    """Rename values of the graph that carry a name which our outputs are to have."""
    taken = _names(graph)
    _rename(graph, {name: f"/exported/{name}" for name in wanted if name in taken})
    for value in graph.output:
        if value.name in wanted:
            value.name = f"/exported/{value.name}"


def _names(graph: onnx.GraphProto) -> set[str]:
    """Return every name of a value or node in the graph and the graphs inside its nodes."""
    found = {value.name for value in (*graph.input, *graph.output)}
    found |= {tensor.name for tensor in graph.initializer}
    found |= {tensor.values.name for tensor in graph.sparse_initializer}
    for node in graph.node:
        found |= {node.name, *node.input, *node.output}
        for inner in _inner_graphs(node):
            found |= _names(inner)
    return found


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Give values new names wherever they are made or read, inner graphs included."""
    for tensor in graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    for value in graph.value_info:
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for inner in _inner_graphs(node):
            _rename(inner, names)


def _inner_graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs
