"""Pack arrays into bytes and back, by safetensors: nothing in them can run on reading."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from service.errors import ArtefactDamaged

AnyArray: TypeAlias = npt.NDArray[Any]

_KINDS = "biuf"


def pack(arrays: Mapping[str, AnyArray]) -> bytes:
    """Return `arrays` as bytes, little-endian and contiguous; equal arrays give equal bytes.

    Args:
        arrays: any shapes, of booleans, integers or floats of 16 to 64 bits (integers from 8).

    Raises:
        TypeError: an array holds something else, as objects or text.
    """
    plain: dict[str, AnyArray] = {}
    for name in sorted(arrays):
        array = arrays[name]
        if array.dtype.kind not in _KINDS or array.dtype.itemsize > 8:  # noqa: PLR2004 - 64 bits
            raise TypeError(f"{name!r} holds {array.dtype}; only numbers of up to 64 bits are kept")
        # safetensors writes the memory as it lies, whatever the strides
        plain[name] = np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")
    return save(plain)


def unpack(data: bytes) -> dict[str, AnyArray]:
    """Return the arrays that `pack` was given, each in its own memory.

    Raises:
        ArtefactDamaged: the bytes are not what `pack` returned.
    """
    try:
        return load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ArtefactDamaged(
            f"The stored arrays cannot be read ({type(error).__name__}). Restore them from a "
            "backup, or make the artefact again."
        ) from error
