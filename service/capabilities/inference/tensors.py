"""Turn tensors of the Open Inference Protocol into arrays and back.

A tensor's numbers stand in the JSON, or, by the protocol's binary extension, after it:

```
Inference-Header-Content-Length: 152
┌ 152 bytes of JSON ─────────────────┬ first binary tensor ┬ second …
│ {"inputs": [{"name": …,            │ raw, little-endian  │
│   "parameters": {"binary_data_size": 24}}]}              │
```
A BYTES element is its length as 4 bytes, then the bytes.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from service.errors import Fault, InvalidInput

_LENGTH = struct.Struct("<I")
BYTES, INT64, FP32 = "BYTES", "INT64", "FP32"


@dataclass(frozen=True, slots=True)
class Tensor:
    """Hold one named tensor.

    Attributes:
        name: as in the model's metadata.
        datatype: `BYTES`, `INT64` or `FP32`.
        shape: its sides.
        values: texts for BYTES, in row order; else an array of that shape.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: list[str] | np.ndarray[Any, Any]


def split_body(body: bytes, json_length: str | None) -> memoryview:
    """Return the tensors behind the JSON part of a body.

    Args:
        body: the whole body.
        json_length: the header `Inference-Header-Content-Length`, None where all is JSON.

    Raises:
        InvalidInput: the header is no length within the body.
    """
    if json_length is None:
        return memoryview(b"")
    if not json_length.isdecimal() or int(json_length) > len(body):
        raise InvalidInput(
            f"Inference-Header-Content-Length is {json_length[:40]!r} and the body has "
            f"{len(body)} bytes; send the length of its JSON part."
        )
    return memoryview(body)[int(json_length) :]


def read_tensor(
    given: Mapping[str, Any], binary: memoryview, *, place: str
) -> tuple[Tensor, memoryview]:
    """Return one input tensor and what is left of the binary part.

    Args:
        given: the tensor's JSON: name, datatype, shape, data or parameters.binary_data_size.
        binary: binary tensors that no earlier input took.
        place: JSON pointer of the tensor, for messages.

    Raises:
        InvalidInput: datatype, shape and data do not fit together.
    """
    name, datatype, shape = given["name"], given["datatype"], tuple(given["shape"])
    size = (given.get("parameters") or {}).get("binary_data_size")
    if (size is None) == (given.get("data") is None):
        raise _refusal(place, "send either `data` or `parameters.binary_data_size`")
    if size is None:
        values = _from_json(given["data"], datatype, place)
    elif type(size) is not int or not 0 <= size <= len(binary):
        raise _refusal(
            f"{place}/parameters/binary_data_size",
            f"is {size!r:.40}; {len(binary)} bytes are left behind the JSON",
        )
    else:
        values = _from_binary(binary[:size], datatype, place)
        binary = binary[size:]
    if len(values) != math.prod(shape):
        raise _refusal(f"{place}/shape", f"is {list(shape)} and there are {len(values)} values")
    if isinstance(values, np.ndarray):
        values = values.reshape(shape)
    return Tensor(name, datatype, shape, values), binary


def _from_json(data: object, datatype: str, place: str) -> list[str] | np.ndarray[Any, Any]:
    flat: list[Any] = []
    _flatten(data, flat)
    kind = str if datatype == BYTES else int
    wrong = next((item for item in flat if type(item) is not kind), None)
    if wrong is not None:
        raise _refusal(f"{place}/data", f"holds {wrong!r:.40}, which is not {datatype}")
    if datatype == BYTES:
        return flat
    try:
        return np.array(flat, dtype=np.int64)
    except OverflowError as error:
        raise _refusal(f"{place}/data", "holds a number beyond INT64") from error


def _flatten(data: object, flat: list[Any]) -> None:
    """Collect nested lists; the protocol allows both nested and flat ones."""
    pending = [data]
    while pending:
        item = pending.pop()
        if isinstance(item, list):
            pending.extend(reversed(item))
        else:
            flat.append(item)


def _from_binary(raw: memoryview, datatype: str, place: str) -> list[str] | np.ndarray[Any, Any]:
    if datatype == INT64:
        if len(raw) % 8:
            raise _refusal(place, f"has {len(raw)} bytes, which are no whole number of INT64")
        return np.frombuffer(raw, dtype="<i8").astype(np.int64)
    texts: list[str] = []
    position = 0
    try:
        while position < len(raw):
            (length,) = _LENGTH.unpack_from(raw, position)
            position += _LENGTH.size
            if position + length > len(raw):
                raise _refusal(
                    place, f"element {len(texts)} says it has {length} bytes; fewer are left"
                )
            texts.append(str(raw[position : position + length], "utf-8"))
            position += length
    except struct.error as error:
        raise _refusal(place, "ends inside the length of an element") from error
    except UnicodeDecodeError as error:
        raise _refusal(place, f"element {len(texts)} is not UTF-8") from error
    return texts


def _refusal(pointer: str, detail: str) -> InvalidInput:
    return InvalidInput(f"At {pointer}: {detail}.", faults=(Fault(pointer, detail),))


def write_answer(
    head: Mapping[str, Any], outputs: Sequence[tuple[str, np.ndarray[Any, Any], bool]]
) -> tuple[bytes, int | None]:
    """Return the body of an answer, and the length of its JSON part where tensors follow it.

    Args:
        head: `model_name`, `id` and the like.
        outputs: name, (n, d) float32, and whether it goes behind the JSON.
    """
    described: list[dict[str, Any]] = []
    tail: list[bytes] = []
    for name, array, as_binary in outputs:
        numbers = np.ascontiguousarray(array, dtype="<f4")
        tensor: dict[str, Any] = {"name": name, "datatype": FP32, "shape": list(numbers.shape)}
        if as_binary:
            tensor["parameters"] = {"binary_data_size": numbers.nbytes}
            tail.append(numbers.tobytes())
        else:
            tensor["data"] = numbers.reshape(-1)
        described.append(tensor)
    text = orjson.dumps({**head, "outputs": described}, option=orjson.OPT_SERIALIZE_NUMPY)
    return b"".join((text, *tail)), (len(text) if tail else None)
