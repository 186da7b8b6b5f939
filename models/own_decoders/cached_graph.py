"""Give an exported decoder graph the names and inputs of decision 0023.

```
input_ids ────────────────────────────┬▶ export ─▶ logits, present.<layer>.<part>
past.<layer>.<part> ──────────────────┤     ▲
        └ Shape ─ positions P … P+S-1 ┤     └ Slice from logits_from, before the output matrix
                └ ones (B, P+S) ──────┘
```

Every name of the export gets a prefix, so that none of ours is taken.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import onnx
import onnx.compose
from onnx import helper, numpy_helper

from models.errors import RecipeError

_PAST = re.compile(r"past_key_values\.(\d+)\.(key|value)")
_KNOWN = frozenset({"input_ids", "attention_mask", "position_ids"})
_PRESENT_NAMES = ("present.{}", "present_key_values.{}")
_PRODUCTS = frozenset({"MatMul", "MatMulNBits"})
_LEAST_OPSET = 13
_EXPORT, _PLACE = "export/", "/adopted/"
_RANK = 4


@dataclass(frozen=True, slots=True)
class CachedGraph:
    """Hold a graph under the names of decision 0023.

    Attributes:
        model: the graph; it was changed in place.
        layers: number of layers.
        kv_heads: heads of keys.
        head_dim: numbers of a head.
        vocabulary: numbers in a row of logits, or None where the export does not say.
        opset: of the standard operators.
    """

    model: onnx.ModelProto
    layers: int
    kv_heads: int
    head_dim: int
    vocabulary: int | None
    opset: int


def has_cache(model: onnx.ModelProto) -> bool:
    """Return whether a graph takes keys and values of tokens before."""
    return any(_PAST.fullmatch(given.name) for given in model.graph.input)


def adapt_graph(model: onnx.ModelProto) -> CachedGraph:
    """Return an export under our names.

    Raises:
        RecipeError: it takes something that we cannot give, or lacks a cache or logits.
    """
    graph = model.graph
    opset = max((each.version for each in model.opset_import if not each.domain), default=0)
    if opset < _LEAST_OPSET:
        message = f"the graph is of opset {opset}; export it with {_LEAST_OPSET} or later"
        raise RecipeError(message)
    weights = {tensor.name for tensor in graph.initializer}
    inputs = {each.name: each for each in graph.input if each.name not in weights}
    parts = _cache_parts(inputs)
    outputs = {each.name: each for each in graph.output}
    if "logits" not in outputs or "input_ids" not in inputs:
        message = f"the graph turns no input_ids into logits; it gives {', '.join(outputs)[:200]}"
        raise RecipeError(message)
    heads, width = _sizes(inputs[f"past_key_values.{parts[0]}"])
    before = _positions(inputs, first=f"past.{parts[0]}")
    before += [_copy(f"past.{part}", f"{_EXPORT}past_key_values.{part}") for part in parts]
    after = [_copy(_EXPORT + _present(part, outputs), f"present.{part}") for part in parts]
    last = outputs["logits"].type.tensor_type.shape.dim
    stated = int(last[-1].dim_value) if len(last) else 0
    inputs_of_ours, outputs_of_ours = _declared(parts, heads=heads, width=width, vocabulary=stated)
    onnx.compose.add_prefix(model, _EXPORT, inplace=True)
    _cut_rows(graph)
    own = list(graph.node)
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend([*before, *own, *after])
    graph.input.extend(inputs_of_ours)
    graph.output.extend(outputs_of_ours)
    return CachedGraph(model, len(parts) // 2, heads, width, stated or None, opset)


def _cache_parts(inputs: dict[str, onnx.ValueInfoProto]) -> list[str]:
    """Return the parts of the cache, `0.key`, `0.value`, …, in order."""
    unknown = [name for name in inputs if name not in _KNOWN and not _PAST.fullmatch(name)]
    if unknown:
        message = (
            f"the graph takes {unknown[0]!r}, which nothing here can give; export a decoder with "
            "input_ids, attention_mask, position_ids and past_key_values alone"
        )
        raise RecipeError(message)
    found = [match.groups() for name in inputs if (match := _PAST.fullmatch(name))]
    layers = len(found) // 2
    wanted = [f"{layer}.{part}" for layer in range(layers) for part in ("key", "value")]
    if not found or {f"{layer}.{part}" for layer, part in found} != set(wanted):
        message = (
            "the graph has no whole cache (past_key_values.0.key, past_key_values.0.value, …); "
            "export it for the task text-generation-with-past"
        )
        raise RecipeError(message)
    for name, given in inputs.items():
        kind = given.type.tensor_type.elem_type
        fits = onnx.TensorProto.FLOAT if _PAST.fullmatch(name) else onnx.TensorProto.INT64
        if kind != fits:
            message = (
                f"the graph takes {name!r} as {onnx.TensorProto.DataType.Name(kind)}; "
                f"{onnx.TensorProto.DataType.Name(fits)} is read"
            )
            raise RecipeError(message)
    return wanted


def _sizes(given: onnx.ValueInfoProto) -> tuple[int, int]:
    """Return heads and width of the first part of the cache."""
    shape = given.type.tensor_type.shape.dim
    if len(shape) != _RANK or not shape[1].dim_value or not shape[3].dim_value:
        message = (
            f"{given.name} is to be of the shape (batch, heads, tokens, width) with heads and "
            "width as numbers"
        )
        raise RecipeError(message)
    return int(shape[1].dim_value), int(shape[3].dim_value)


def _positions(inputs: dict[str, onnx.ValueInfoProto], *, first: str) -> list[onnx.NodeProto]:
    """Return the nodes that make attention_mask and position_ids out of shapes."""
    name = _PLACE.__add__
    numbers = {"zero": 0, "one": 1, "two": 2}
    nodes = [
        helper.make_node("Constant", [], [name(word)], value=_whole(number, dims))
        for word, number, dims in (
            *((word, number, ()) for word, number in numbers.items()),
            ("axis", 0, (1,)),
        )
    ]
    nodes += [
        helper.make_node("Shape", ["input_ids"], [name("shape")]),
        helper.make_node("Shape", [first], [name("cache_shape")]),
        helper.make_node("Gather", [name("shape"), name("zero")], [name("rows")]),
        helper.make_node("Gather", [name("shape"), name("one")], [name("new")]),
        helper.make_node("Gather", [name("cache_shape"), name("two")], [name("past")]),
        helper.make_node("Add", [name("past"), name("new")], [name("total")]),
    ]
    nodes.append(_copy("input_ids", f"{_EXPORT}input_ids"))
    if "position_ids" in inputs:
        nodes += [
            helper.make_node("Range", [name("past"), name("total"), name("one")], [name("places")]),
            helper.make_node("Expand", [name("places"), name("shape")], [f"{_EXPORT}position_ids"]),
        ]
    if "attention_mask" in inputs:
        nodes += [
            helper.make_node("Unsqueeze", [name(part), name("axis")], [name(f"{part}_1")])
            for part in ("rows", "total")
        ]
        shape = helper.make_node(
            "Concat", [name("rows_1"), name("total_1")], [name("mask_shape")], axis=0
        )
        ones = helper.make_node(
            "ConstantOfShape",
            [name("mask_shape")],
            [f"{_EXPORT}attention_mask"],
            value=_whole(1, (1,)),
        )
        nodes += [shape, ones]
    return nodes


def _whole(number: int, dims: tuple[int, ...]) -> onnx.TensorProto:
    return numpy_helper.from_array(np.full(dims, number, dtype=np.int64))


def _copy(before: str, after: str) -> onnx.NodeProto:
    return helper.make_node("Identity", [before], [after], name=f"{_PLACE}{after}")


def _cut_rows(graph: onnx.GraphProto) -> None:
    """Let logits begin with the row `logits_from`, before the output matrix where that is last."""
    weights = {tensor.name for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    given = f"{_EXPORT}logits"
    head = makers[given]
    while head.op_type == "Identity" and head.input[0] in makers:
        head = makers[head.input[0]]
    constants = [
        helper.make_node("Constant", [], [_PLACE + word], value=_whole(number, (1,)))
        for word, number in (("end", int(np.iinfo(np.int64).max)), ("rows_axis", 1))
    ]
    cut = ["logits_from", f"{_PLACE}end", f"{_PLACE}rows_axis"]
    if head.op_type in _PRODUCTS and head.input[0] not in weights:
        kept = f"{_PLACE}kept_rows"
        node = helper.make_node("Slice", [head.input[0], *cut], [kept])
        at = list(graph.node).index(head)
        head.input[0] = kept
        for place, each in enumerate([*constants, node]):
            graph.node.insert(at + place, each)
        graph.node.append(_copy(given, "logits"))
    else:
        graph.node.extend([*constants, helper.make_node("Slice", [given, *cut], ["logits"])])


def _present(part: str, outputs: dict[str, onnx.ValueInfoProto]) -> str:
    """Return the export's own name of a part of the longer cache."""
    found = next((n for name in _PRESENT_NAMES if (n := name.format(part)) in outputs), None)
    if found is None:
        message = f"the graph takes past_key_values.{part} and gives no present.{part}"
        raise RecipeError(message)
    return found


def _declared(
    parts: list[str], *, heads: int, width: int, vocabulary: int
) -> tuple[list[onnx.ValueInfoProto], list[onnx.ValueInfoProto]]:
    """Return our inputs and outputs, which stand in the place of the export's."""
    whole, number = onnx.TensorProto.INT64, onnx.TensorProto.FLOAT
    value = helper.make_tensor_value_info
    inputs = [
        value("input_ids", whole, ["batch", "sequence"]),
        value("logits_from", whole, [1]),
        *(value(f"past.{part}", number, ["batch", heads, "past", width]) for part in parts),
    ]
    outputs = [
        value("logits", number, ["batch", "rows", vocabulary or "vocabulary"]),
        *(value(f"present.{part}", number, ["batch", heads, "total", width]) for part in parts),
    ]
    return inputs, outputs
