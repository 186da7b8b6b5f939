"""Put a linear map and a normalisation behind one output of a model file, without loading it.

A model file is a protobuf message, a run of fields each with its number, kind and length. Weights
are most of it and are not touched: the new file is a list of slices of the old one, mapped into
memory, with a few hundred kilobytes of new fields between them.

```
ModelProto ┬ 7 graph ┬ 1 node ········· kept where the output needs it
           │         ├ 5 initializer ·· kept where a kept node reads it
           │         ├ 11 input ······· kept
           │         ├ 12 output ······ dropped; the new one takes their place
           │         └ + Sub, MatMul, LpNormalization, centre, weights
           └ the rest, kept
```
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from service.errors import ArtefactDamaged
from service.numerics.whitening import Kernel
from service.runtime.heap import release_freed_memory

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

OUTPUT = "sentence_embedding"
_GRAPH = 7
_NODE, _INITIALIZER, _OUTPUT, _VALUE_INFO = 1, 5, 12, 13
_INITIALIZER_NAME = 8
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_FIXED_BYTES = {_FIXED64: 8, _FIXED32: 4}
_PREFIX = "whitening/"


@dataclass(frozen=True, slots=True)
class _Field:
    """Point at one field of a message.

    Attributes:
        number: which field.
        start: first byte, its tag.
        body: first byte of its content.
        end: one past its last byte.
    """

    number: int
    start: int
    body: int
    end: int


def graft(
    path: Path, *, output: str, kernel: Kernel, properties: Mapping[str, str]
) -> list[memoryview]:
    """Return a model whose one output is a whitened, normalised output of another model.

    y = (x − centre) weights, divided by its length, x being `output`.

    Args:
        path: the model file, below 2 GiB and without external data.
        output: name of the (batch, d) output to begin at.
        kernel: the map.
        properties: metadata for the new file.

    Returns:
        The file in pieces, in order; most are slices of the old one.

    Raises:
        ArtefactDamaged: the file is no model with such an output.
    """
    try:
        with path.open("rb") as stream:
            whole = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
        fields = list(_fields(whole, 0, len(whole)))
        place = next(field for field in fields if field.number == _GRAPH)
        kept = _needed(whole, list(_fields(whole, place.body, place.end)), output)
    except (OSError, IndexError, ValueError, StopIteration) as error:
        raise ArtefactDamaged(f"{path.name} cannot be read as a model: {error!r}.") from error
    added = _new_nodes(output, kernel).SerializeToString()
    release_freed_memory()  # thousands of nodes were parsed, in the heap of this thread
    size = len(added) + sum(field.end - field.start for field in kept)
    pieces = [whole[: place.start], memoryview(_tag(_GRAPH) + _varint(size))]
    pieces += [whole[start:end] for start, end in _joined(kept)]
    return [*pieces, memoryview(added), whole[place.end :], memoryview(_notes(properties))]


def _fields(data: memoryview, start: int, end: int) -> Iterator[_Field]:
    """Walk over the fields of a message that lies in data[start:end]."""
    at = start
    while at < end:
        tag, body = _read_varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == _LENGTH:
            length, body = _read_varint(data, body)
            after = body + length
        elif kind == _VARINT:
            _, after = _read_varint(data, body)
        elif kind in _FIXED_BYTES:
            after = body + _FIXED_BYTES[kind]
        else:
            raise ValueError(f"field {number} has the unknown kind {kind}")
        if after > end:
            raise ValueError(f"field {number} ends behind its message")
        yield _Field(number, at, body, after)
        at = after


def _read_varint(data: memoryview, at: int) -> tuple[int, int]:
    """Return a number written in groups of 7 bits, lowest first, and the place behind it."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:  # noqa: PLR2004 - the highest bit says that more follow
            return value, at


def _varint(value: int) -> bytes:
    groups = bytearray()
    while value > 0x7F:  # noqa: PLR2004
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])


def _tag(number: int) -> bytes:
    return _varint(number << 3 | _LENGTH)


def _needed(data: memoryview, fields: list[_Field], output: str) -> list[_Field]:
    """Return the graph's fields without its outputs and without what only they needed."""
    from onnx import NodeProto  # half a second, paid by the first export

    nodes: list[tuple[_Field, NodeProto]] = [
        (field, NodeProto.FromString(bytes(data[field.body : field.end])))
        for field in fields
        if field.number == _NODE
    ]
    wanted = {output}
    kept = set()
    for field, node in reversed(nodes):  # they stand in the order in which they run
        if wanted.intersection(node.output):
            kept.add(field)
            wanted.update(_reads(node))
    if not kept:
        raise ValueError(f"no node gives {output!r}")
    return [
        field
        for field in fields
        if field in kept
        or field.number not in {_NODE, _INITIALIZER, _OUTPUT, _VALUE_INFO}
        or (field.number == _INITIALIZER and _initializer_name(data, field) in wanted)
    ]


def _reads(node: NodeProto) -> set[str]:
    """Return the values that a node reads, those of its inner graphs included."""
    names = set(node.input)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                names |= _reads(inner)
    return names


def _initializer_name(data: memoryview, field: _Field) -> str:
    for part in _fields(data, field.body, field.end):
        if part.number == _INITIALIZER_NAME:
            return bytes(data[part.body : part.end]).decode()
    return ""


def _joined(fields: list[_Field]) -> Iterator[tuple[int, int]]:
    """Join fields that stand side by side into few spans."""
    start = end = fields[0].start
    for field in fields:
        if field.start != end:
            yield start, end
            start = field.start
        end = field.end
    yield start, end


def _new_nodes(output: str, kernel: Kernel) -> GraphProto:
    from onnx import GraphProto, TensorProto, helper, numpy_helper

    centred, projected = f"{_PREFIX}centred", f"{_PREFIX}projected"
    centre, weights = f"{_PREFIX}centre", f"{_PREFIX}weights"
    graph = GraphProto()
    graph.node.extend(
        [
            helper.make_node("Sub", [output, centre], [centred], name=f"{_PREFIX}sub"),
            helper.make_node("MatMul", [centred, weights], [projected], name=f"{_PREFIX}matmul"),
            helper.make_node(
                "LpNormalization", [projected], [OUTPUT], name=f"{_PREFIX}normalise", axis=-1, p=2
            ),
        ]
    )
    for name, array in ((centre, kernel.centre), (weights, kernel.weights)):
        graph.initializer.append(numpy_helper.from_array(array.astype("float32"), name))
    shape = ["batch", kernel.weights.shape[1]]
    graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, shape))
    return graph


def _notes(properties: Mapping[str, str]) -> bytes:
    from onnx import ModelProto, helper

    model = ModelProto()
    helper.set_model_props(model, dict(properties))
    written: bytes = model.SerializeToString()
    return written
