"""Read a compiled character table, and cut text into the chunks that it replaces.

```
table     units of 32 bits: a trie over UTF-8 bytes; the longest key at a place is replaced
unit      bits 0-7 label, bit 8 a key ends here, bits 10-30 step to the children (bit 9: times 256)
          bit 31 set: bits 0-30 are the offset of a replacement
strings   the replacements, each ended by NUL
```

Source: the layout is that of darts-clone, as sentencepiece stores it.
"""

# A kernel takes arrays by position, is one loop, and knows the bytes of UTF-8.
# ruff: noqa: PLR0917, PLR2004
from __future__ import annotations

import numpy as np
import numpy.typing as npt

from service.numerics.dtypes import Bytes8, Ids64
from service.numerics.kernels import kernel
from service.numerics.lattice.trie import NOWHERE, rank_at, step

SPACE, ASCII = 0x20, 0x80
IN_DATA, IN_STRINGS, BROKEN = range(3)
CHANGED, ITSELF, LONE_SPACE = range(3)


@kernel()
def char_width(lead: int) -> int:
    """Return how many bytes a character has by its first one; a stray byte stands alone."""
    if lead < 0xC0:
        return 1
    if lead < 0xE0:
        return 2
    return 3 if lead < 0xF0 else 4


@kernel()
def _unit_step(unit: int) -> int:
    return int((unit >> 10) << ((unit & 0x200) >> 6))


@kernel()
def _unit(table: npt.NDArray[np.uint32], position: int) -> int:
    return int(np.int64(table[position]))


@kernel()
def _longest_key(
    data: Bytes8, place: int, end: int, table: npt.NDArray[np.uint32]
) -> tuple[int, int]:
    """Return the length of the longest key at a place and the offset of its replacement."""
    if len(table) == 0:
        return 0, 0
    size = len(table)
    length, offset = 0, 0
    position = _unit_step(_unit(table, 0))
    for here in range(place, end):
        position ^= int(data[here])
        if position >= size:
            break
        unit = _unit(table, position)
        if unit & 0x800000FF != np.int64(data[here]):
            break
        position ^= _unit_step(unit)
        if position >= size:
            break
        if unit & 0x100:
            length = here + 1 - place
            offset = _unit(table, position) & 0x7FFFFFFF
    return length, offset


@kernel()
def _kept_length(data: Bytes8, place: int, end: int, units: Ids64) -> int:
    """Return the length of the longest user-defined piece at a place, 0 where there is none."""
    node, length = units[0], 0
    for here in range(place, end):
        node = step(units, node, data[here])
        if node == NOWHERE:
            break
        if rank_at(node) > 0:
            length = here + 1 - place
    return length


@kernel()
def _valid_width(data: Bytes8, place: int, end: int) -> int:
    """Return the width of the character at a place, or 0 where no whole one stands there."""
    width = char_width(data[place])
    if place + width > end or 0x80 <= data[place] < 0xC2 or data[place] > 0xF4:
        return 0
    for here in range(place + 1, place + width):
        if data[here] & 0xC0 != 0x80:
            return 0
    return width


@kernel()
def next_chunk(
    data: Bytes8,
    place: int,
    end: int,
    table: npt.NDArray[np.uint32],
    strings: Bytes8,
    units: Ids64,
) -> tuple[int, int, int, int]:
    """Return where the replacement of the next chunk lies, and how much text it stands for.

    Returns:
        The array it lies in, its first and last place there, and the bytes of text consumed.
    """
    kept = _kept_length(data, place, end, units)
    if kept > 0:
        return IN_DATA, place, place + kept, kept
    length, offset = _longest_key(data, place, end, table)
    if length > 0:
        offset = min(offset, len(strings))
        stop = offset
        while stop < len(strings) and strings[stop] != 0:
            stop += 1
        return IN_STRINGS, offset, stop, length
    width = _valid_width(data, place, end)
    if width == 0:
        return BROKEN, 0, 3, 1
    return IN_DATA, place, place + width, width


@kernel()
def _begins_key(
    text: Bytes8, length: int, table: npt.NDArray[np.uint32], kept_units: Ids64
) -> bool:
    """Return whether some key of the table, or some kept piece, begins with these bytes."""
    if step(kept_units, kept_units[0], text[0]) != NOWHERE:
        return True
    if len(table) == 0:
        return False
    position = _unit_step(_unit(table, 0))
    for here in range(length):
        position ^= int(text[here])
        if position >= len(table):
            return False
        unit = _unit(table, position)
        if unit & 0x800000FF != np.int64(text[here]):
            return False
        position ^= _unit_step(unit)
    return True


@kernel("uint8[::1](uint32[::1], int64[::1])")
def plain_characters(table: npt.NDArray[np.uint32], kept_units: Ids64) -> Bytes8:
    """Return, for each code point below 65,536, whether it stands for itself.

    Of ASCII characters: whenever another ASCII character or nothing follows; most letters begin a
    key that ends in a combining mark. Of all others: whatever follows. A space that no key begins
    with, under the same condition, is LONE_SPACE.
    """
    plain = np.zeros(1 << 16, np.uint8)
    text = np.empty(3, np.uint8)
    for code in range(1, ASCII):
        text[0] = code
        length, _ = _longest_key(text, 0, 1, table)
        changed = length > 0
        for second in range(ASCII):
            text[1] = second
            changed |= _begins_key(text, 2, table, kept_units)
        if not changed:
            plain[code] = LONE_SPACE if code == SPACE else ITSELF
    for code in range(ASCII, 1 << 16):
        if code < 0x800:
            width = 2
            text[0], text[1] = 0xC0 | code >> 6, 0x80 | code & 0x3F
        else:
            width = 3
            text[0], text[1] = 0xE0 | code >> 12, 0x80 | code >> 6 & 0x3F
            text[2] = 0x80 | code & 0x3F
        if not _begins_key(text, width, table, kept_units):
            plain[code] = ITSELF
    return plain
