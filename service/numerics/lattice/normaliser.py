"""Normalise text as SentencePiece does: a compiled character table, then rules for spaces.

```
table     darts-clone units of 32 bits: the longest key at a position is replaced
strings   the replacements, each ended by NUL
spaces    leading and trailing ones go, runs become one, each is written as U+2581 (▁)
```

Source: the file format of sentencepiece; the table's layout is that of darts-clone.
"""

# A kernel takes arrays by position, is one loop, and knows the bytes of UTF-8.
# ruff: noqa: PLR0917, PLR2004
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.errors import PayloadTooLarge
from service.numerics.dtypes import Bytes8, Ids32, Ids64
from service.numerics.kernels import kernel
from service.numerics.lattice.trie import Trie

_SPACE = 0x20
_REPLACEMENT = np.array([0xEF, 0xBF, 0xBD], dtype=np.uint8)  # U+FFFD
_IN_DATA, _IN_STRINGS, _BROKEN = range(3)
_ASCII = 0x80
# Places of the rules array.
_PREFIX, _COLLAPSE, _ESCAPE, _SUFFIX, _KEEP_TRAILING = range(5)
_MOST_BYTES = 1 << 28


@dataclass(frozen=True, slots=True)
class SpaceRules:
    """Say what happens to spaces.

    Attributes:
        add_prefix: one space before the text (after it, where `as_suffix`).
        collapse: drop leading and trailing spaces, make runs one.
        escape: write a space as U+2581.
        as_suffix: a space belongs to the word before it.
    """

    add_prefix: bool = True
    collapse: bool = True
    escape: bool = True
    as_suffix: bool = False


@dataclass(frozen=True, slots=True)
class Normaliser:
    """Hold what the kernel reads.

    Attributes:
        table: (m,) uint32, darts-clone units; empty for a model without a table.
        strings: uint8, NUL-ended replacements.
        plain: (65536,) uint8, see `_plain_characters`.
        kept: trie of user-defined pieces, which are never changed.
        rules: see `SpaceRules`.
    """

    table: npt.NDArray[np.uint32]
    strings: Bytes8
    plain: Bytes8
    kept: Trie
    rules: SpaceRules


@dataclass(frozen=True, slots=True)
class Normalised:
    """Hold normalised texts, one after another.

    Attributes:
        data: uint8, all of them.
        bounds: (n + 1,) int64, where each begins; the last number is the length of `data`.
        origins: (len(data) + n,) int32 or empty: for each byte of text j, then for its end, the
            byte of the original text that it came from; text j begins at `bounds[j] + j`.
    """

    data: Bytes8
    bounds: Ids64
    origins: Ids32


def make_normaliser(
    table: npt.NDArray[np.uint32], strings: Bytes8, *, kept: Trie, rules: SpaceRules
) -> Normaliser:
    """Return a normaliser; what it can skip is found out once."""
    return Normaliser(table, strings, _plain_characters(table, kept.units), kept, rules)


def normalise(
    normaliser: Normaliser,
    data: Bytes8,
    bounds: Ids64,
    *,
    aligned: bool = False,
    keep_trailing: bool = False,
) -> Normalised:
    """Return the normalised texts.

    Args:
        normaliser: table and rules.
        data: uint8, valid UTF-8 texts one after another.
        bounds: (n + 1,) int64, where each begins.
        aligned: also return where every byte came from.
        keep_trailing: leave spaces at the end of a text, for one that goes on.

    Raises:
        PayloadTooLarge: the table makes the texts longer than 256 MiB.
    """
    rules = normaliser.rules
    flags = np.array(
        [rules.add_prefix, rules.collapse, rules.escape, rules.as_suffix, keep_trailing], np.int64
    )
    texts = len(bounds) - 1
    capacity = 2 * len(data) + 64 * texts + 64
    while capacity <= _MOST_BYTES:
        out = np.empty(capacity, np.uint8)
        ends = np.empty(texts + 1, np.int64)
        origins = np.empty(capacity + texts if aligned else 0, np.int32)
        size = _normalise(
            data,
            bounds,
            normaliser.table,
            normaliser.strings,
            normaliser.plain,
            normaliser.kept.units,
            flags,
            out,
            ends,
            origins,
        )
        if size >= 0:
            return Normalised(out[:size], ends, origins[: size + texts] if aligned else origins)
        capacity *= 4
    raise PayloadTooLarge(
        "The tokenizer's character table makes the texts longer than 256 MiB. Send less text."
    )


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
def _kept_length(data: Bytes8, place: int, end: int, units: Ids32) -> int:
    """Return the length of the longest user-defined piece at a place, 0 where there is none."""
    node, length = 0, 0
    for here in range(place, end):
        child = units[node] ^ (np.int64(data[here]) << 2)
        if units[child + 1] != node:
            break
        node = child
        if units[node + 2] >= 0:
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
def _next_chunk(
    data: Bytes8,
    place: int,
    end: int,
    table: npt.NDArray[np.uint32],
    strings: Bytes8,
    units: Ids32,
) -> tuple[int, int, int, int]:
    """Return where the replacement of the next chunk lies, and how much text it stands for.

    Returns:
        The array it lies in, its first and last place there, and the bytes of text consumed.
    """
    kept = _kept_length(data, place, end, units)
    if kept > 0:
        return _IN_DATA, place, place + kept, kept
    length, offset = _longest_key(data, place, end, table)
    if length > 0:
        offset = min(offset, len(strings))
        stop = offset
        while stop < len(strings) and strings[stop] != 0:
            stop += 1
        return _IN_STRINGS, offset, stop, length
    width = _valid_width(data, place, end)
    if width == 0:
        return _BROKEN, 0, 3, 1
    return _IN_DATA, place, place + width, width


@kernel()
def _begins_key(
    text: Bytes8, length: int, table: npt.NDArray[np.uint32], kept_units: Ids32
) -> bool:
    """Return whether some key of the table, or some kept piece, begins with these bytes."""
    if kept_units[(kept_units[0] ^ (np.int64(text[0]) << 2)) + 1] == 0:
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


@kernel()
def _write_mark(out: Bytes8, size: int, escape: int) -> int:
    """Write one space in the model's way and return the size after it."""
    if escape:
        out[size], out[size + 1], out[size + 2] = 0xE2, 0x96, 0x81
        return size + 3
    out[size] = _SPACE
    return size + 1


@kernel()
def _ends_with_mark(out: Bytes8, start: int, size: int, escape: int) -> bool:
    if not escape:
        return bool(size > start and out[size - 1] == _SPACE)
    return bool(
        size - start >= 3
        and out[size - 3] == 0xE2
        and out[size - 2] == 0x96
        and out[size - 1] == 0x81
    )


@kernel()
def _is_space(kind: int, start: int, stop: int, data: Bytes8, strings: Bytes8) -> bool:
    """Return whether a chunk is exactly one space."""
    if stop - start != 1:
        return False
    return bool((data[start] if kind == _IN_DATA else strings[start]) == _SPACE)


@kernel()
def _byte(kind: int, place: int, data: Bytes8, strings: Bytes8) -> int:
    if kind == _IN_DATA:
        return int(data[place])
    return int(strings[place]) if kind == _IN_STRINGS else int(_REPLACEMENT[place])


@kernel()
def _copy_chunk(
    kind: int,
    start: int,
    stop: int,
    data: Bytes8,
    strings: Bytes8,
    escape: int,
    out: Bytes8,
    size: int,
) -> int:
    """Write a chunk, its spaces in the model's way, and return the size after it."""
    for place in range(start, stop):
        byte = _byte(kind, place, data, strings)
        if byte == _SPACE:
            size = _write_mark(out, size, escape)
        else:
            out[size] = byte
            size += 1
    return size


@kernel()
def _skip_spaces(
    data: Bytes8,
    place: int,
    end: int,
    table: npt.NDArray[np.uint32],
    strings: Bytes8,
    units: Ids32,
) -> int:
    """Return the place of the first chunk that is no space."""
    while place < end:
        kind, start, stop, consumed = _next_chunk(data, place, end, table, strings, units)
        if not _is_space(kind, start, stop, data, strings):
            break
        place += consumed
    return place


@kernel()
def _note(origins: Ids32, first: int, last: int, origin: int) -> None:
    if len(origins) > 0:
        origins[first:last] = origin


@kernel()
def _plain_width(data: Bytes8, place: int, end: int, plain: Bytes8) -> int:
    """Return the bytes of a character that is known to stand for itself, 0 for any other."""
    lead = np.int64(data[place])
    if lead < _ASCII:
        alone = place + 1 == end or data[place + 1] < _ASCII
        return 1 if alone and plain[lead] else 0
    if lead < 0xE0:
        code = (lead & 0x1F) << 6 | np.int64(data[place + 1]) & 0x3F
        return 2 if plain[code] else 0
    if lead < 0xF0:
        code = (np.int64(data[place + 1]) & 0x3F) << 6 | np.int64(data[place + 2]) & 0x3F
        return 3 if plain[(lead & 0x0F) << 12 | code] else 0
    return 0


@kernel()
def _normalise_one(  # noqa: C901, PLR0912 - one loop over the text; parts of it would hide the rules
    data: Bytes8,
    begin: int,
    end: int,
    table: npt.NDArray[np.uint32],
    strings: Bytes8,
    plain: Bytes8,
    units: Ids32,
    flags: Ids64,
    out: Bytes8,
    size: int,
    origins: Ids32,
    shift: int,
) -> int:
    """Write one text and return the size after it, -1 where `out` is too short.

    `shift` is how far the text's origins stand behind its bytes.
    """
    escape, collapse = flags[_ESCAPE], flags[_COLLAPSE]
    first = size
    place = begin
    if collapse:
        place = _skip_spaces(data, place, end, table, strings, units)
    if place == end:
        _note(origins, size + shift, size + shift + 1, place - begin)
        return size
    if flags[_PREFIX] and not flags[_SUFFIX]:
        grown = _write_mark(out, size, escape)
        _note(origins, size + shift, grown + shift, place - begin)
        size = grown
    after_space = collapse != 0
    while place < end:
        if size + 8 > len(out):
            return -1
        width = _plain_width(data, place, end, plain)
        if width > 0:
            for here in range(width):
                out[size + here] = data[place + here]
            _note(origins, size + shift, size + shift + width, place - begin)
            size += width
            place += width
            after_space = False
            continue
        kind, start, stop, consumed = _next_chunk(data, place, end, table, strings, units)
        while after_space and start < stop and _byte(kind, start, data, strings) == _SPACE:
            start += 1
        if size + 3 * (stop - start) + 8 > len(out):
            return -1
        if start < stop:
            grown = _copy_chunk(kind, start, stop, data, strings, escape, out, size)
            _note(origins, size + shift, grown + shift, place - begin)
            size = grown
            after_space = _byte(kind, stop - 1, data, strings) == _SPACE
        place += consumed
        if not collapse:
            after_space = False
    if collapse and not flags[_KEEP_TRAILING]:
        while _ends_with_mark(out, first, size, escape):
            size -= 3 if escape else 1
            if len(origins) > 0:
                place = begin + origins[size + shift]
    if flags[_PREFIX] and flags[_SUFFIX]:
        grown = _write_mark(out, size, escape)
        _note(origins, size + shift, grown + shift, place - begin)
        size = grown
    _note(origins, size + shift, size + shift + 1, place - begin)
    return size


@kernel(
    "int64(uint8[::1], int64[::1], uint32[::1], uint8[::1], uint8[::1], int32[::1], "
    "int64[::1], uint8[::1], int64[::1], int32[::1])"
)
def _normalise(
    data: Bytes8,
    bounds: Ids64,
    table: npt.NDArray[np.uint32],
    strings: Bytes8,
    plain: Bytes8,
    units: Ids32,
    flags: Ids64,
    out: Bytes8,
    ends: Ids64,
    origins: Ids32,
) -> int:
    """Write all texts one after another; return their length, or -1 where `out` is too short."""
    size = 0
    ends[0] = 0
    for text in range(len(bounds) - 1):
        if size + 16 > len(out):
            return -1
        size = _normalise_one(
            data,
            bounds[text],
            bounds[text + 1],
            table,
            strings,
            plain,
            units,
            flags,
            out,
            size,
            origins,
            text,
        )
        if size < 0:
            return -1
        ends[text + 1] = size
    return size


@kernel("uint8[::1](uint32[::1], int32[::1])")
def _plain_characters(table: npt.NDArray[np.uint32], kept_units: Ids32) -> Bytes8:
    """Return, for each code point below 65,536, whether it stands for itself.

    Of ASCII characters: whenever another ASCII character or nothing follows; most letters begin a
    key that ends in a combining mark. Of all others: whatever follows.
    """
    plain = np.zeros(1 << 16, np.uint8)
    text = np.empty(3, np.uint8)
    for code in range(1, _ASCII):
        text[0] = code
        length, _ = _longest_key(text, 0, 1, table)
        changed = code == _SPACE or length > 0
        for second in range(_ASCII):
            text[1] = second
            changed |= _begins_key(text, 2, table, kept_units)
        plain[code] = not changed
    for code in range(_ASCII, 1 << 16):
        if code < 0x800:
            width = 2
            text[0], text[1] = 0xC0 | code >> 6, 0x80 | code & 0x3F
        else:
            width = 3
            text[0], text[1] = 0xE0 | code >> 12, 0x80 | code >> 6 & 0x3F
            text[2] = 0x80 | code & 0x3F
        plain[code] = not _begins_key(text, width, table, kept_units)
    return plain
