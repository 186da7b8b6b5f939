r"""Read and write one matrix as a `.npy` file.

```
\x93NUMPY  1 0  length  {'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }  numbers …
```

The header is a Python literal. It is read here, within a bound and with three keys: numpy's own
reader lets a hostile one raise whatever Python's parser can.
"""

from __future__ import annotations

import ast
import io
import math
from typing import Any

import numpy as np
from fastapi import Response

from service.numerics.dtypes import Matrix32
from service.web.negotiation import NPY

_MAGIC = b"\x93NUMPY"
_PREFIX = 8  # bytes of magic and version
_VERSIONS = {1: 2, 2: 4, 3: 4}  # major version: bytes of the header's length
_LONGEST_HEADER = 1024
_DTYPES = {"<f2": np.float16, "<f4": np.float32, "<f8": np.float64}
_NO_FILE = "the body is no .npy file"


def parse_npy(content: bytes) -> np.ndarray[Any, Any]:
    """Return the array of a `.npy` file, over the very bytes that came in.

    Args:
        content: the file; floats of 2, 4 or 8 bytes, little-endian, in C order.

    Raises:
        ValueError: it is no such file, or holds more or fewer bytes than its header says.
    """
    header, start = _header(content)
    descr, shape = header["descr"], header["shape"]
    if descr not in _DTYPES:
        raise ValueError(f"the array has dtype {descr!r:.40}; '<f4' or '<f8' is read")
    if header["fortran_order"]:
        raise ValueError("the array is in Fortran order; save numpy.ascontiguousarray(array)")
    if not isinstance(shape, tuple) or not all(type(side) is int and side >= 0 for side in shape):
        raise ValueError(f"the array has shape {shape!r:.60}; sides are whole numbers")
    dtype = np.dtype(_DTYPES[descr])
    expected = start + math.prod(shape) * dtype.itemsize
    if len(content) != expected:
        raise ValueError(
            f"the file has {len(content)} bytes and shape {shape!r:.60} needs {expected}"
        )
    return np.frombuffer(content, dtype=dtype, offset=start).reshape(shape)


def _header(content: bytes) -> tuple[dict[str, Any], int]:
    """Return the header's three entries, and where the numbers begin."""
    begins = content.startswith(_MAGIC) and len(content) > _PREFIX
    width = _VERSIONS.get(content[len(_MAGIC)]) if begins else None
    if width is None:
        raise ValueError(f"{_NO_FILE}: it does not begin as one")
    start = _PREFIX + width
    length = int.from_bytes(content[_PREFIX:start], "little")
    if length > _LONGEST_HEADER or len(content) < start + length:
        raise ValueError(f"{_NO_FILE}: its header has {length} bytes")
    try:
        header = ast.literal_eval(content[start : start + length].decode("latin-1").strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(f"{_NO_FILE}: its header cannot be read") from error
    if not isinstance(header, dict) or set(header) != {"descr", "fortran_order", "shape"}:
        raise ValueError(f"{_NO_FILE}: its header says {header!r:.60}")
    return {**header, "descr": str(header["descr"])}, start + length


def npy_response(matrix: Matrix32) -> Response:
    """Return a matrix as a `.npy` file."""
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(matrix, dtype="<f4"), allow_pickle=False)
    return Response(buffer.getvalue(), media_type=NPY)
