"""Read arrays that came as base64 of little-endian floats."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from service.numerics.dtypes import Logits

PRECISIONS = {"float32": "<f4", "float64": "<f8"}


def decode_base64(text: object, *, what: str) -> bytes:
    """Return the bytes of a base64 text.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(text, str):
        raise ValueError(f"{what} must be a base64 string")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"{what} is not base64: {error}") from error


def decode_array(
    value: Mapping[str, Any], *, axes: tuple[int, int], precisions: Collection[str] = PRECISIONS
) -> Logits:
    """Return the array of `{"shape": [n, d], "dtype": "float32", "data": "…"}`.

    Args:
        value: the object.
        axes: fewest and most axes.
        precisions: names of the dtypes that are read.

    Raises:
        ValueError: the object is not of that form, or holds more or fewer bytes than it says.
    """
    if set(value) != {"shape", "dtype", "data"}:
        raise ValueError("an encoded array has exactly the fields shape, dtype and data")
    name = value["dtype"]
    if not isinstance(name, str) or name not in precisions:
        read = " and ".join(sorted(precisions))
        raise ValueError(f"dtype is {name!r:.40}; what is read is {read}")
    sides = _sides(value["shape"], axes)
    raw = decode_base64(value["data"], what="data")
    dtype = np.dtype(PRECISIONS[name])
    expected = math.prod(sides) * dtype.itemsize
    if len(raw) != expected:
        raise ValueError(f"data holds {len(raw)} bytes and shape {sides} needs {expected}")
    return np.frombuffer(raw, dtype=dtype).reshape(sides)


def _sides(shape: object, axes: tuple[int, int]) -> list[int]:
    least, most = axes
    found = [_whole(side) for side in shape] if isinstance(shape, list) else []
    if not least <= len(found) <= most or min(found) < 1:
        wanted = f"{least}" if least == most else f"{least} to {most}"
        raise ValueError(f"shape is {shape!r:.40}; it must have {wanted} axes, each at least 1")
    return found


def _whole(side: object) -> int:
    """Return the side, or -1 where it is none; some clients write 8.0 for 8."""
    if type(side) is int:
        return side
    return int(side) if isinstance(side, float) and side.is_integer() else -1


def encode_array(array: npt.NDArray[Any]) -> dict[str, object]:
    """Return `{"shape": …, "dtype": …, "data": …}` of float32 or float64 numbers."""
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return {
        "shape": list(little.shape),
        "dtype": little.dtype.name,
        "data": base64.b64encode(little.tobytes()).decode("ascii"),
    }
