"""Keep pieces in a trie whose nodes are one number each.

A double array: a node reaches its child for byte `c` at place `base XOR c`, which is a child only
where the label found there is `c`. No two nodes share a base, so the label alone tells them apart,
and a step reads one number:

```
unit   bits 0-8 label, the byte that leads here (0x1FF: none)
       bits 9-36 one more than the id of the piece that ends here, 0 where none does
       bits 37-62 base, 0 for a node without children: the first 256 places hold the root alone
```

Source: Aoe 1989, "An efficient digital search algorithm by using a double-array structure"; the
XOR in place of a sum, and telling nodes apart by their labels, are those of darts-clone.
"""

# A kernel takes arrays by position, is one loop, and knows the bytes of UTF-8.
# ruff: noqa: PLR0917
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from service.errors import PayloadTooLarge
from service.numerics.dtypes import Bools, Bytes8, Ids32, Ids64
from service.numerics.kernels import kernel

_BLOCK = 256  # XOR of one byte stays inside a block, so the array is a whole number of them
_KINDS = 4
_BASE, _PIECE = 37, 9  # lowest bit of each
_LABEL_BITS, _PIECE_BITS = 0x1FF, 0xFFFFFFF
_FREE = 0x1FF
_MOST_NODES = 1 << 26

NOWHERE = -1


@dataclass(frozen=True, slots=True)
class Trie:
    """Hold the array of a trie.

    Attributes:
        units: (m,) int64, the nodes; the root is the first.
        longest: bytes of the longest key.
    """

    units: Ids64
    longest: int


def build_trie(keys: Sequence[bytes], ids: Ids32) -> Trie:
    """Return the trie of distinct, non-empty keys.

    Args:
        keys: in any order.
        ids: (len(keys),) int32, at least 0; what each key stands for.

    Raises:
        PayloadTooLarge: the keys need more than 67 million nodes.
    """
    order = sorted(range(len(keys)), key=keys.__getitem__)
    data = np.frombuffer(bytearray().join([keys[place] for place in order]), dtype=np.uint8)
    starts = np.zeros(len(keys) + 1, np.int64)
    np.cumsum([len(keys[place]) for place in order], out=starts[1:])
    units = _build(data, starts, np.ascontiguousarray(ids[order], dtype=np.int32))
    if not len(units):
        raise PayloadTooLarge(
            f"The {len(keys)} pieces need a trie of more than {_MOST_NODES} nodes. Use a smaller "
            "vocabulary."
        )
    return Trie(units, max(map(len, keys), default=0))


@kernel()
def step(units: Ids64, unit: int, byte: int) -> int:
    """Return the node that a byte leads to, NOWHERE if to none; a node is known by its unit."""
    # An unsigned index spares the test for one that counts from the end.
    found = units[np.uint64(np.int64(unit) >> _BASE ^ np.int64(byte))]
    return found if found & _LABEL_BITS == np.int64(byte) else NOWHERE


@kernel()
def rank_at(unit: int) -> int:
    """Return one more than the id of the piece that ends at a node, 0 where none does."""
    return unit >> _PIECE & _PIECE_BITS


@kernel("int32(uint8[::1], int64, int64, int64[::1])")
def find_key(data: Bytes8, start: int, end: int, units: Ids64) -> int:
    """Return the id of the key `data[start:end]`, or -1."""
    unit = units[0]
    for place in range(start, end):
        unit = step(units, unit, data[place])
        if unit == NOWHERE:
            return -1
    return rank_at(unit) - 1


@kernel()
def _split(
    data: Bytes8,
    starts: Ids64,
    first: int,
    behind: int,
    depth: int,
    labels: Ids32,
    edges: Ids64,
) -> int:
    """Write each next byte and the first key that has it; return how many bytes differ."""
    count = 0
    for key in range(first, behind):
        label = np.int32(data[starts[key] + depth])
        if count == 0 or label != labels[count - 1]:
            labels[count] = label
            edges[count] = key
            count += 1
    edges[count] = behind
    return count


@kernel()
def _find_base(units: Ids64, taken: Bools, labels: Ids32, count: int, cursors: Ids64) -> int:
    """Return the first base of no other node around which all labels are free, -1 for none yet.

    Nodes of few, some and many labels search from a cursor of their own that never goes back:
    the search is linear in all, and the gaps that wide nodes leave are filled by narrow ones.
    """
    kind = min(count // 2, _KINDS - 1)
    place = cursors[kind]
    while place < len(units):
        base = place ^ labels[0]
        number = count if taken[base] else 0
        while number < count and units[base ^ labels[number]] == _FREE:
            number += 1
        if number == count and not taken[base]:
            break
        place += 1
    cursors[kind] = place
    return int(place ^ labels[0]) if place < len(units) else -1


@kernel("int64[::1](uint8[::1], int64[::1], int32[::1])")
def _build(data: Bytes8, starts: Ids64, given: Ids32) -> Ids64:
    """Return the units of sorted keys, none for too many; a node is keys that begin alike."""
    units = np.full(2 * _BLOCK, _FREE, np.int64)
    taken = np.zeros(2 * _BLOCK, np.bool_)
    labels = np.empty(256, np.int32)
    edges = np.empty(257, np.int64)
    cursors = np.full(_KINDS, _BLOCK, np.int64)
    # Level by level, so that the few nodes near the root, which every walk visits, lie together.
    waiting = np.empty((len(data) + 1, 4), np.int64)  # node, first key, key behind, depth
    waiting[0] = (0, 0, len(given), 0)
    done, seen = 0, 1
    while done < seen:
        node, first, behind, depth = waiting[done]
        done += 1
        if first < behind and starts[first] + depth == starts[first + 1]:
            # sorted, so the key that ends here comes first
            units[node] |= np.int64(given[first] + 1) << _PIECE
            first += 1
        count = _split(data, starts, first, behind, depth, labels, edges)
        if count == 0:
            continue
        base = _find_base(units, taken, labels, count, cursors)
        while base < 0:
            if 2 * len(units) > _MOST_NODES:
                return units[:0]
            units = np.concatenate((units, np.full(len(units), _FREE, np.int64)))
            taken = np.concatenate((taken, np.zeros(len(taken), np.bool_)))
            base = _find_base(units, taken, labels, count, cursors)
        taken[base] = True
        units[node] |= base << _BASE
        for number in range(count):
            child = base ^ labels[number]
            units[child] = labels[number]
            waiting[seen] = (child, edges[number], edges[number + 1], depth + 1)
            seen += 1
    return units
