"""Read protocol buffers field by field, refusing whatever does not fit."""

from __future__ import annotations

from collections.abc import Iterator

_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5
_NUMBER_BITS, _MORE = 64, 0x80


class MalformedError(ValueError):
    """The bytes are no such message."""


def fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield the number and value of each field: whole numbers as they are, the rest as bytes.

    Raises:
        MalformedError: a field is cut short, or of a form that is not in use.
    """
    position, size = 0, len(message)
    while position < size:
        tag, position = _varint(message, position)
        wire = tag & 7
        if wire == _VARINT:
            value, position = _varint(message, position)
            yield tag >> 3, value
            continue
        if wire == _LENGTH:
            length, position = _varint(message, position)
        elif wire in (_EIGHT_BYTES, _FOUR_BYTES):
            length = 8 if wire == _EIGHT_BYTES else 4
        else:
            raise MalformedError(f"wire type {wire} at byte {position}")
        end = position + length
        if tag < _MORE // 16 or end > size:
            raise MalformedError(f"field {tag >> 3} ends at byte {end} of {size}")
        yield tag >> 3, message[position:end]
        position = end


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """Return a number of seven bits a byte, lowest first, and the position after it."""
    number = shift = 0
    while position < len(message) and shift < _NUMBER_BITS:
        byte = message[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < _MORE:
            return number, position
        shift += 7
    raise MalformedError(f"a number does not end at byte {position}")
