"""Read little-endian values one after another, and never past the end."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from models.errors import RecipeError

Scalar = int | float | bool
Value = Scalar | str | list[str] | NDArray[np.generic]

# Numbered as in the format; text and arrays stand apart.
_SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
_TEXT, _ARRAY = 8, 9
# What an empty text takes: its length.
_LEAST_TEXT = 8


class Cursor:
    """Stand at a place in a file's bytes and read on from there.

    Args:
        content: the file's bytes.
    """

    __slots__ = ("_content", "place")

    def __init__(self, content: memoryview) -> None:
        self._content = content
        self.place = 0

    @property
    def left(self) -> int:
        """Return how many bytes lie between here and the end."""
        return len(self._content) - self.place

    def take(self, count: int, *, field: str) -> memoryview:
        """Return the next `count` bytes.

        Raises:
            RecipeError: fewer are left.
        """
        if count > self.left:
            message = (
                f"GGUF field {field} needs {count} bytes at byte {self.place}, "
                f"where the file has {self.left} left"
            )
            raise RecipeError(message)
        taken = self._content[self.place : self.place + count]
        self.place += count
        return taken

    def number(self, code: str, *, field: str) -> Scalar:
        """Return one number; `code` is a letter of the module struct."""
        packed = struct.Struct(f"<{code}")
        number: Scalar = packed.unpack(self.take(packed.size, field=field))[0]
        return number

    def count(self, *, field: str, least: int = 1) -> int:
        """Return an unsigned 64-bit count of things of at least `least` bytes each.

        Raises:
            RecipeError: the rest of the file could not hold that many.
        """
        counted = int(self.number("Q", field=field))
        if counted * least > self.left:
            message = f"GGUF field {field} claims {counted} entries; {self.left} bytes are left"
            raise RecipeError(message)
        return counted

    def whole(self, *, field: str) -> int:
        """Return an unsigned 32-bit number."""
        return int(self.number("I", field=field))

    def text(self, *, field: str) -> str:
        """Return one text: its length in bytes, then UTF-8.

        Raises:
            RecipeError: it is cut short or is not UTF-8.
        """
        content = self.take(self.count(field=field), field=field)
        try:
            return str(content, "utf-8")
        except UnicodeDecodeError as error:
            message = f"GGUF field {field} is not UTF-8: {error}"
            raise RecipeError(message) from error

    def value(self, *, field: str) -> Value:
        """Return one metadata value: its kind, then its content.

        Raises:
            RecipeError: an unknown kind, or arrays within arrays.
        """
        kind = self.whole(field=field)
        if kind == _TEXT:
            return self.text(field=field)
        if kind == _ARRAY:
            return self._array(field=field)
        return self.number(self._code(kind, field=field), field=field)

    def _array(self, *, field: str) -> list[str] | NDArray[np.generic]:
        kind = self.whole(field=field)
        if kind == _TEXT:
            return [
                self.text(field=field) for _ in range(self.count(field=field, least=_LEAST_TEXT))
            ]
        dtype = np.dtype(f"<{self._code(kind, field=field)}")
        count = self.count(field=field, least=dtype.itemsize)
        return np.frombuffer(self.take(count * dtype.itemsize, field=field), dtype=dtype)

    @staticmethod
    def _code(kind: int, *, field: str) -> str:
        if kind not in _SCALARS:
            message = (
                f"GGUF field {field} has value kind {kind}; known are {sorted(_SCALARS)}, 8, 9"
            )
            raise RecipeError(message)
        return _SCALARS[kind]
