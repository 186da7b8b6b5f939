"""Build ONNX graphs whose nodes are named like paths.

A `GraphBuilder` is a place in a tree. `at()` goes one or more steps down, `apply()` adds a
node there, and the value that a node makes carries the node's own name:

```
graph = GraphBuilder("tiny")                      /
ids = graph.take("input_ids", ...)                └ encoder
layer = graph.at("encoder/layers.0")                └ layers.0
layer.at("query").apply("MatMul", x, weight)          └ query
                                                        └ MatMul   "/encoder/layers.0/query/MatMul"
```

A name used twice in one place gets `_1`, `_2`, ... in order of building. The same calls give
the same bytes, on every machine: nothing here reads a clock, a set or a dictionary's hash.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

OPSET = 24
IR_VERSION = 11
# The domain that onnxruntime keeps its own operators in, such as MatMulNBits.
CONTRIB_DOMAIN = "com.microsoft"

Dimension = int | str
Attribute = int | float | str | Sequence[int] | Sequence[float]


@dataclass(frozen=True, slots=True)
class FilePlace:
    """Say where in a file beside the model a constant's bytes lie.

    Attributes:
        file: its name, without a folder.
        offset: first byte.
        length: number of bytes.
    """

    file: str
    offset: int
    length: int


@dataclass(slots=True)
class _Parts:
    """Collect what the places of one graph add, in order of building."""

    name: str
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    inputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    outputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)

    def unique(self, name: str) -> str:
        """Return `name`, or `name_1`, `name_2`, ... where it is already used."""
        candidate, count = name, 0
        while candidate in self.taken:
            count += 1
            candidate = f"{name}_{count}"
        self.taken.add(candidate)
        return candidate


class GraphBuilder:
    """Add nodes, constants, inputs and outputs to one graph, from one place in its tree.

    Args:
        name: the name of the graph.
        reserved: names that another graph, which this one is to join, already uses.
    """

    __slots__ = ("_parts", "_place")

    def __init__(self, name: str, *, reserved: Iterable[str] = ()) -> None:
        self._parts = _Parts(name, taken=set(reserved))
        self._place = ""

    def at(self, place: str) -> GraphBuilder:
        """Return a builder of the same graph, `place` (such as `"layers.0/query"`) further down."""
        below = GraphBuilder.__new__(GraphBuilder)
        below._parts = self._parts
        below._place = f"{self._place}/{place}"
        return below

    def take(self, name: str, *, dtype: type[np.generic], shape: Sequence[Dimension]) -> str:
        """Declare the graph input `name` and return the name of its value."""
        self._parts.inputs.append(_declare(self._claim(name), dtype=dtype, shape=shape))
        return name

    def give(
        self, name: str, value: str, *, dtype: type[np.generic], shape: Sequence[Dimension]
    ) -> None:
        """Declare the graph output `name` and feed it from `value`.

        The Identity in between costs nothing: onnxruntime removes it when it loads the graph.
        """
        self._parts.outputs.append(_declare(self._claim(name), dtype=dtype, shape=shape))
        node_name = self._parts.unique(f"/outputs/{name}/Identity")
        self._parts.nodes.append(helper.make_node("Identity", [value], [name], name=node_name))

    def constant(self, name: str, array: NDArray[Any]) -> str:
        """Store `array` (its dtype and shape as they are) in this place; return its name."""
        full_name = self._parts.unique(f"{self._place}/{name}")
        tensor = numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape))
        tensor.name = full_name
        self._parts.constants.append(tensor)
        return full_name

    def refer(
        self, name: str, *, dtype: type[np.generic], shape: Sequence[int], place: FilePlace
    ) -> str:
        """Name a constant whose bytes lie in a file beside the model; return its name.

        ONNX calls it external data. Several models may refer to the same bytes.
        """
        full_name = self._parts.unique(f"{self._place}/{name}")
        element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        tensor = onnx.TensorProto(name=full_name, data_type=element, dims=shape)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (
            ("location", place.file),
            ("offset", str(place.offset)),
            ("length", str(place.length)),
        ):
            tensor.external_data.add(key=key, value=value)
        self._parts.constants.append(tensor)
        return full_name

    def apply(self, operator: str, *inputs: str, domain: str = "", **attributes: Attribute) -> str:
        """Add a node with one output in this place; return the name of that output.

        An optional input that is left out is given as `""`.
        """
        return self.apply_many(operator, *inputs, outputs=1, domain=domain, **attributes)[0]

    def apply_many(
        self,
        operator: str,
        *inputs: str,
        outputs: int,
        domain: str = "",
        **attributes: Attribute,
    ) -> tuple[str, ...]:
        """Add a node with several outputs in this place; return their names in order."""
        name = self._parts.unique(f"{self._place}/{operator}")
        rest = [self._parts.unique(f"{name}:{index}") for index in range(1, outputs)]
        values = (name, *rest)
        node = helper.make_node(operator, inputs, values, name=name, domain=domain)
        # Sorted, as the order of keyword arguments is not part of what a node means.
        for key in sorted(attributes):
            node.attribute.append(helper.make_attribute(key, attributes[key]))
        self._parts.nodes.append(node)
        return values

    def model(self) -> onnx.ModelProto:
        """Return the finished model at opset 24, checked unless bytes of it lie in another file.

        ONNX's checker looks for that file; `models.decoder.storage` checks what it has written.

        Raises:
            onnx.checker.ValidationError: a node names a value that nothing makes, or breaks
                its operator's schema.
        """
        parts = self._parts
        graph = helper.make_graph(
            parts.nodes, parts.name, parts.inputs, parts.outputs, initializer=parts.constants
        )
        opsets = [helper.make_opsetid("", OPSET)]
        if any(node.domain == CONTRIB_DOMAIN for node in parts.nodes):
            opsets.append(helper.make_opsetid(CONTRIB_DOMAIN, 1))
        model = helper.make_model(
            graph, producer_name="isotrope", opset_imports=opsets, ir_version=IR_VERSION
        )
        if not any(tensor.external_data for tensor in parts.constants):
            onnx.checker.check_model(model)
        return model

    def join_before(self, host: onnx.GraphProto) -> None:
        """Put everything built here before the nodes of `host`, to make what they read."""
        own = [*self._parts.nodes, *host.node]
        del host.node[:]
        host.node.extend(own)
        self._join(host)

    def join_after(self, host: onnx.GraphProto) -> None:
        """Put everything built here after the nodes of `host`, to read what they make."""
        host.node.extend(self._parts.nodes)
        self._join(host)

    def _join(self, host: onnx.GraphProto) -> None:
        host.initializer.extend(self._parts.constants)
        host.input.extend(self._parts.inputs)
        host.output.extend(self._parts.outputs)

    def _claim(self, name: str) -> str:
        if name in self._parts.taken:
            message = f"the graph already has a value named {name!r}"
            raise ValueError(message)
        self._parts.taken.add(name)
        return name


def serialise(model: onnx.ModelProto) -> bytes:
    """Return the model's bytes; equal models give equal bytes."""
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _declare(
    name: str, *, dtype: type[np.generic], shape: Sequence[Dimension]
) -> onnx.ValueInfoProto:
    element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return helper.make_tensor_value_info(name, element, list(shape))
