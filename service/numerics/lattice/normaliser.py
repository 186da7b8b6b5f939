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
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from service.errors import PayloadTooLarge
from service.numerics.dtypes import Bytes8, Ids32, Ids64
from service.numerics.kernels import kernel
from service.numerics.lattice.charsmap import (
    ASCII,
    IN_DATA,
    IN_STRINGS,
    ITSELF,
    LONE_SPACE,
    SPACE,
    next_chunk,
    plain_characters,
)
from service.numerics.lattice.trie import Trie

_REPLACEMENT = np.array([0xEF, 0xBF, 0xBD], dtype=np.uint8)  # U+FFFD
# Places of the rules array.
_PREFIX, _COLLAPSE, _ESCAPE, _SUFFIX, _KEEP_TRAILING = range(5)
_MOST_BYTES = 1 << 28
NO_ORIGINS = np.empty(0, np.int32)
_MARGIN = 16  # bytes of a mark before and after a text, and some


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
        plain: (65536,) uint8, see `plain_characters`.
        kept: trie of user-defined pieces, which are never changed.
        flags: (5,) int64, what `SpaceRules` says, for the kernel.
        open_flags: the same for a text that goes on: its trailing spaces stay.
    """

    table: npt.NDArray[np.uint32]
    strings: Bytes8
    plain: Bytes8
    kept: Trie
    flags: Ids64
    open_flags: Ids64


class Normalised(NamedTuple):
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
    said = [rules.add_prefix, rules.collapse, rules.escape, rules.as_suffix]
    return Normaliser(
        table,
        strings,
        plain_characters(table, kept.units),
        kept,
        np.array([*said, False], np.int64),
        np.array([*said, True], np.int64),
    )


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
    flags = normaliser.open_flags if keep_trailing else normaliser.flags
    texts = len(bounds) - 1
    capacity = 3 * len(data) + _MARGIN * (texts + 1)
    while capacity <= _MOST_BYTES:
        out = np.empty(capacity, np.uint8)
        ends = np.empty(texts + 1, np.int64)
        origins = np.empty(capacity + texts, np.int32) if aligned else NO_ORIGINS
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
def _write_mark(out: Bytes8, size: int, escape: int) -> int:
    """Write one space in the model's way and return the size after it."""
    if escape:
        out[size], out[size + 1], out[size + 2] = 0xE2, 0x96, 0x81
        return size + 3
    out[size] = SPACE
    return size + 1


@kernel()
def _ends_with_mark(out: Bytes8, start: int, size: int, escape: int) -> bool:
    if not escape:
        return bool(size > start and out[size - 1] == SPACE)
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
    return bool((data[start] if kind == IN_DATA else strings[start]) == SPACE)


@kernel()
def _byte(kind: int, place: int, data: Bytes8, strings: Bytes8) -> int:
    if kind == IN_DATA:
        return int(data[place])
    return int(strings[place]) if kind == IN_STRINGS else int(_REPLACEMENT[place])


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
        if byte == SPACE:
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
    units: Ids64,
) -> int:
    """Return the place of the first chunk that is no space."""
    while place < end:
        kind, start, stop, consumed = next_chunk(data, place, end, table, strings, units)
        if not _is_space(kind, start, stop, data, strings):
            break
        place += consumed
    return place


@kernel()
def _note(origins: Ids32, first: int, last: int, origin: int) -> None:
    if len(origins) > 0:
        origins[first:last] = origin


@kernel()
def _code_point(data: Bytes8, place: int) -> int:
    """Return the code point of a character of two or three bytes."""
    lead, second = np.int64(data[place]), np.int64(data[place + 1]) & 0x3F
    if lead < 0xE0:
        return int((lead & 0x1F) << 6 | second)
    return int((lead & 0x0F) << 12 | second << 6 | np.int64(data[place + 2]) & 0x3F)


@kernel()
def _normalise_one(  # noqa: C901, PLR0912, PLR0915 - a call a byte would cost most of the time
    data: Bytes8,
    begin: int,
    end: int,
    table: npt.NDArray[np.uint32],
    strings: Bytes8,
    plain: Bytes8,
    units: Ids64,
    flags: Ids64,
    out: Bytes8,
    size: int,
    origins: Ids32,
    shift: int,
) -> int:
    """Write one text and return the size after it, -1 where `out` is too short.

    `shift` is how far the text's origins stand behind its bytes.
    """
    escape, collapse = flags[_ESCAPE], flags[_COLLAPSE] != 0
    aligned = len(origins) > 0
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
    after_space = collapse
    while place < end:
        lead = data[place]
        if lead < ASCII and (place + 1 == end or data[place + 1] < ASCII):
            if plain[lead] == ITSELF:
                out[size] = lead
                if aligned:
                    origins[size + shift] = place - begin
                size += 1
                place += 1
                after_space = False
                continue
            if plain[lead] == LONE_SPACE:
                if not after_space:
                    grown = _write_mark(out, size, escape)
                    _note(origins, size + shift, grown + shift, place - begin)
                    size = grown
                    after_space = collapse
                place += 1
                continue
        elif ASCII <= lead < 0xF0 and plain[_code_point(data, place)] == ITSELF:
            width = 2 if lead < 0xE0 else 3
            for here in range(width):
                out[size + here] = data[place + here]
            _note(origins, size + shift, size + shift + width, place - begin)
            size += width
            place += width
            after_space = False
            continue
        kind, start, stop, consumed = next_chunk(data, place, end, table, strings, units)
        while after_space and start < stop and _byte(kind, start, data, strings) == SPACE:
            start += 1
        if start < stop:
            # What is left needs three bytes for each of its own at most, unless a table says more.
            if size + 3 * (stop - start + end - place) + _MARGIN > len(out):
                return -1
            grown = _copy_chunk(kind, start, stop, data, strings, escape, out, size)
            _note(origins, size + shift, grown + shift, place - begin)
            size = grown
            after_space = collapse and _byte(kind, stop - 1, data, strings) == SPACE
        place += consumed
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
    "int64(uint8[::1], int64[::1], uint32[::1], uint8[::1], uint8[::1], int64[::1], "
    "int64[::1], uint8[::1], int64[::1], int32[::1])"
)
def _normalise(
    data: Bytes8,
    bounds: Ids64,
    table: npt.NDArray[np.uint32],
    strings: Bytes8,
    plain: Bytes8,
    units: Ids64,
    flags: Ids64,
    out: Bytes8,
    ends: Ids64,
    origins: Ids32,
) -> int:
    """Write all texts one after another; return their length, or -1 where `out` is too short."""
    size = 0
    ends[0] = 0
    for text in range(len(bounds) - 1):
        if size + 3 * (bounds[text + 1] - bounds[text]) + _MARGIN > len(out):
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
