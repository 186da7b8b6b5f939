"""Take the blocks of a tensor apart into whole numbers, scales and offsets.

```
F32, F16   numbers
Q8_0       scale d (f16), 32 whole numbers q (int8)               w = d q
Q4_0       scale d (f16), 16 bytes of 2 whole numbers q           w = d (q - 8)
Q4_1       scale d (f16), offset m (f16), 16 bytes of q           w = d q + m
```

Byte j of a 4-bit block holds numbers j (low half) and j + 16 (high half).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.errors import RecipeError

BLOCK = 32
Floats = NDArray[np.float32]
Wholes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Kind:
    """Name an element kind: `elements` numbers lie together in `bytes` bytes."""

    name: str
    elements: int
    bytes: int


# Numbered as in the format.
KINDS = {
    0: Kind("F32", 1, 4),
    1: Kind("F16", 1, 2),
    2: Kind("Q4_0", BLOCK, 18),
    3: Kind("Q4_1", BLOCK, 20),
    8: Kind("Q8_0", BLOCK, 34),
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """Hold one tensor as it lies in the file.

    Attributes:
        name: as in the file.
        kind: `F32`, `F16`, `Q4_0`, `Q4_1` or `Q8_0`.
        shape: slowest dimension first.
        content: its bytes.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    content: memoryview

    def expect(self, *, kinds: tuple[str, ...], shape: tuple[int, ...]) -> Tensor:
        """Return the tensor itself.

        Raises:
            RecipeError: its kind or shape is another than the caller can use.
        """
        if self.kind not in kinds or self.shape != shape:
            message = (
                f"GGUF tensor {self.name!r} is {self.kind} {self.shape}, "
                f"expected {' or '.join(kinds)} {shape}"
            )
            raise RecipeError(message)
        return self


@dataclass(frozen=True, slots=True)
class Nibbles:
    """Hold a matrix (rows, columns) of 4-bit numbers q: w = d (q - 8) + c.

    Attributes:
        whole: (rows, columns / 32, 32) uint8, each below 16.
        scale: d, (rows, columns / 32) float32.
        correction: c = m + 8 d, (rows, columns / 32) float32; 0 for Q4_0.
    """

    whole: Wholes
    scale: Floats
    correction: Floats


def four_bits(tensor: Tensor) -> Nibbles:
    """Return the 4-bit numbers of a Q4_0 or Q4_1 matrix.

    Raises:
        RecipeError: the tensor is of another kind, or a scale is not finite.
    """
    tensor.expect(kinds=("Q4_0", "Q4_1"), shape=tensor.shape)
    with_offset = tensor.kind == "Q4_1"
    blocks = _blocks(tensor)
    scale = _half(tensor, blocks[..., 0:2])
    offset = _half(tensor, blocks[..., 2:4]) if with_offset else np.float32(-8) * scale
    packed = blocks[..., 4 if with_offset else 2 :]
    whole = np.concatenate([packed & np.uint8(15), packed >> np.uint8(4)], axis=-1)
    return Nibbles(whole, scale, offset + np.float32(8) * scale)


def eight_bits(tensor: Tensor) -> tuple[NDArray[np.int8], Floats]:
    """Return q (rows, columns / 32, 32) and d (rows, columns / 32) of a Q8_0 matrix.

    Raises:
        RecipeError: the tensor is of another kind, or a scale is not finite.
    """
    tensor.expect(kinds=("Q8_0",), shape=tensor.shape)
    blocks = _blocks(tensor)
    return blocks[..., 2:].view(np.int8), _half(tensor, blocks[..., 0:2])


def dequantise(tensor: Tensor) -> Floats:
    """Return the tensor's numbers, float32.

    Raises:
        RecipeError: a number is not finite.
    """
    if tensor.kind in {"F32", "F16"}:
        width = "<f4" if tensor.kind == "F32" else "<f2"
        numbers = np.frombuffer(tensor.content, dtype=width).astype(np.float32)
        return _finite(tensor, numbers.reshape(tensor.shape))
    if tensor.kind == "Q8_0":
        whole, scale = eight_bits(tensor)
        return (whole * scale[..., np.newaxis]).reshape(tensor.shape)
    parts = four_bits(tensor)
    centred = parts.whole.astype(np.float32) - np.float32(8)
    numbers = centred * parts.scale[..., np.newaxis] + parts.correction[..., np.newaxis]
    return numbers.reshape(tensor.shape)


def _blocks(tensor: Tensor) -> Wholes:
    columns = tensor.shape[-1] // BLOCK
    return np.frombuffer(tensor.content, dtype=np.uint8).reshape(*tensor.shape[:-1], columns, -1)


def _half(tensor: Tensor, content: Wholes) -> Floats:
    numbers = np.ascontiguousarray(content).view("<f2")[..., 0].astype(np.float32)
    return _finite(tensor, numbers)


def _finite(tensor: Tensor, numbers: Floats) -> Floats:
    if not np.isfinite(numbers).all():
        message = f"GGUF tensor {tensor.name!r} holds a number that is not finite"
        raise RecipeError(message)
    return numbers
