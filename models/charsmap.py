"""Pack a table of character replacements into the compiled form that tokenizers read.

The compiled form is a trie over UTF-8 bytes, held in one array of 32-bit units (a "double
array"), followed by the replacements as NUL-terminated UTF-8:

```
u32 length of the array in bytes │ units │ a NUL f i NUL NUL ...

unit of a node:      bits 0-7 label   bit 8 a key ends here   bits 10-30 step to the children
unit of a key's end: bit 31 set, bits 0-30 byte offset of its replacement
```

A node in position `p` whose step is `s` keeps its children around `base = p XOR s`: the child
for the byte `c` lives in position `base XOR c`, the end of a key in position `base` itself.
Two nodes never share a base, so a label that fits proves that the parent fits too.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from models.errors import RecipeError

_END = 0x8000_0000
_KEY_ENDS = 0x100
_LABEL = _END | 0xFF
_STEP_SHIFT = 10
# A step has 21 bits of its own here; the format's long form (times 256) is read, not written.
_STEP_LIMIT = 1 << 21
_LONG_STEP = 0x200
# Positions are paired by XOR of one byte, so the array always ends on a block of 256.
_BLOCK = 256
_LENGTH_BYTES = 4


@dataclass(slots=True)
class _Node:
    """Hold one node of the plain trie before it is given a position."""

    children: dict[int, _Node] = field(default_factory=dict)
    replacement: int | None = None


@dataclass(slots=True)
class _Array:
    """Hand out positions of the double array, first fit, from two moving starting points."""

    units: list[int] = field(default_factory=list)
    taken: bytearray = field(default_factory=bytearray)
    bases: bytearray = field(default_factory=bytearray)
    # Nodes of one label fit nearly anywhere, nodes of many need room: with one common
    # starting point every search would walk again over the gaps that are left for the others.
    next_single: int = 1
    next_many: int = 1

    def grow(self, size: int) -> None:
        while len(self.units) < size:
            # The end bit on an unused unit makes it differ from every label.
            self.units.extend([_END] * _BLOCK)
            self.taken.extend(bytes(_BLOCK))
            self.bases.extend(bytes(_BLOCK))

    def place(self, labels: list[int]) -> int:
        """Return a base not used yet around which every label's position is free; take them."""
        single = len(labels) == 1
        position = self.next_single if single else self.next_many
        while True:
            self.grow((position // _BLOCK + 1) * _BLOCK)
            base = position ^ labels[0]
            if not self.bases[base] and not any(self.taken[base ^ label] for label in labels):
                break
            position += 1
        if single:
            self.next_single = position
        else:
            self.next_many = position
        self.bases[base] = 1
        for label in labels:
            self.taken[base ^ label] = 1
        return base


def compile_charsmap(table: Mapping[str, str]) -> bytes:
    """Return the compiled form of `table`: each key's text becomes its value, `""` deletes it.

    Args:
        table: replaced text to replacement; neither holds U+0000, keys are not empty.

    Returns:
        The bytes for the `precompiled_charsmap` of a tokenizer; equal tables give equal bytes.

    Raises:
        RecipeError: a key is empty, or a key or replacement holds U+0000, which ends a string
            in this format.
    """
    root, replacements = _plain_trie(table)
    array = _Array()
    array.grow(_BLOCK)
    array.taken[0] = 1
    array.bases[0] = 1
    array.units[0] = 0
    waiting = [(root, 0)]
    while waiting:
        node, position = waiting.pop()
        waiting.extend(_settle(node, array, position=position))
    units = struct.pack(f"<{len(array.units)}I", *array.units)
    return struct.pack("<I", len(units)) + units + replacements


def _plain_trie(table: Mapping[str, str]) -> tuple[_Node, bytes]:
    root = _Node()
    replacements = bytearray()
    offsets: dict[str, int] = {}
    for key, value in sorted(table.items()):
        if not key or "\0" in key or "\0" in value:
            message = f"a charsmap cannot hold the replacement {key!r} -> {value!r}"
            raise RecipeError(message)
        if value not in offsets:
            offsets[value] = len(replacements)
            replacements += value.encode() + b"\0"
        node = root
        for byte in key.encode():
            node = node.children.setdefault(byte, _Node())
        node.replacement = offsets[value]
    return root, bytes(replacements)


def _settle(node: _Node, array: _Array, *, position: int) -> list[tuple[_Node, int]]:
    """Give the children of `node` their positions and return them, each with its own."""
    labels = sorted(node.children)
    if node.replacement is not None:
        labels.insert(0, 0)
    if not labels:
        return []
    base = array.place(labels)
    step = position ^ base
    if step >= _STEP_LIMIT:
        message = f"the charsmap is too large: a step of {step} units does not fit"
        raise RecipeError(message)
    array.units[position] |= step << _STEP_SHIFT
    if node.replacement is not None:
        array.units[position] |= _KEY_ENDS
        array.units[base] = _END | node.replacement
    for label in node.children:
        array.units[base ^ label] = label
    return [(child, base ^ label) for label, child in node.children.items()]


@dataclass(frozen=True, slots=True)
class Charsmap:
    """Read a compiled charsmap.

    Attributes:
        units: the double array.
        replacements: NUL-terminated UTF-8 strings, found by byte offset.
    """

    units: tuple[int, ...]
    replacements: bytes

    @classmethod
    def parse(cls, blob: bytes) -> Charsmap:
        """Split `blob` into its two parts.

        Raises:
            RecipeError: the array's length does not fit the blob or is not whole blocks, or the
                replacements do not end with NUL.
        """
        size = struct.unpack_from("<I", blob)[0] if len(blob) >= _LENGTH_BYTES else 0
        whole_blocks = size > 0 and size % (4 * _BLOCK) == 0
        ended = len(blob) == 4 + size or blob.endswith(b"\0")
        if not whole_blocks or 4 + size > len(blob) or not ended:
            message = f"a charsmap of {len(blob)} bytes cannot hold an array of {size} bytes"
            raise RecipeError(message)
        return cls(struct.unpack_from(f"<{size // 4}I", blob, 4), blob[4 + size :])

    def replacement(self, text: str) -> str | None:
        """Return what the whole of `text` becomes, or None where the table does not hold it."""
        position = _step(self.units[0])
        unit = 0
        for byte in text.encode():
            position ^= byte
            unit = self.units[position]
            if byte == 0 or unit & _LABEL != byte:
                return None
            position ^= _step(unit)
        if not unit & _KEY_ENDS:
            return None
        start = self.units[position] & ~_END
        return self.replacements[start : self.replacements.index(b"\0", start)].decode()


def _step(unit: int) -> int:
    return (unit >> _STEP_SHIFT) << ((unit & _LONG_STEP) >> 6)
