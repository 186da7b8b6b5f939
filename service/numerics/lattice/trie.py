"""Keep pieces in a trie whose nodes are four numbers each.

A double array: node `s` reaches its child for byte `c` at `t = base[s] XOR c`, which is a child
only where `parent[t] == s`. A node's numbers lie side by side, so that a step reads one place, and
every reference to a node is already multiplied by four:

```
units   base │ parent │ id of the piece that ends here, or -1 │ 0 │ base │ parent │ ...
```

Source: Aoe 1989, "An efficient digital search algorithm by using a double-array structure"; the
XOR in place of a sum is that of darts-clone.
"""

# A kernel takes arrays by position, is one loop, and knows the bytes of UTF-8.
# ruff: noqa: PLR0917
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from service.numerics.dtypes import Bytes8, Ids32, Ids64
from service.numerics.kernels import kernel

_BLOCK = 256  # XOR of one byte stays inside a block, so the array is a whole number of them
_UNIT = 4  # numbers a node
_FREE, _NO_PARENT = -1, -2
_KINDS = 4


@dataclass(frozen=True, slots=True)
class Trie:
    """Hold the array of a trie.

    Attributes:
        units: (4 m,) int32, base, parent and id of each node; the root is the first.
        longest: bytes of the longest key.
    """

    units: Ids32
    longest: int


def build_trie(keys: Sequence[bytes], ids: Ids32) -> Trie:
    """Return the trie of distinct, non-empty keys.

    Args:
        keys: in any order.
        ids: (len(keys),) int32, at least 0; what each key stands for.
    """
    order = sorted(range(len(keys)), key=keys.__getitem__)
    data = np.frombuffer(bytearray().join([keys[place] for place in order]), dtype=np.uint8)
    starts = np.zeros(len(keys) + 1, np.int64)
    np.cumsum([len(keys[place]) for place in order], out=starts[1:])
    units = _build(data, starts, np.ascontiguousarray(ids[order], dtype=np.int32))
    return Trie(units, max(map(len, keys), default=0))


@kernel("int32(uint8[::1], int64, int64, int32[::1])")
def find_key(data: Bytes8, start: int, end: int, units: Ids32) -> int:
    """Return the id of the key `data[start:end]`, or -1."""
    node = 0
    for place in range(start, end):
        child = units[node] ^ (np.int64(data[place]) << 2)
        if units[child + 1] != node:
            return -1
        node = child
    return int(units[node + 2])


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
def _find_place(units: Ids32, labels: Ids32, count: int, cursors: Ids64) -> int:
    """Return the first base around which all labels are free, or -1 where the array is too short.

    Nodes of few, some and many labels search from a cursor of their own that never goes back:
    the search is linear in all, and the gaps that wide nodes leave are filled by narrow ones.
    """
    kind = min(count // 2, _KINDS - 1)
    size = len(units) // _UNIT
    place = cursors[kind]
    while place < size:
        base = place ^ labels[0]
        number = 0
        while number < count and units[_UNIT * (base ^ labels[number]) + 1] == _FREE:
            number += 1
        if number == count:
            break
        place += 1
    cursors[kind] = place
    return int(place ^ labels[0]) if place < size else -1


@kernel()
def _free_units(nodes: int) -> Ids32:
    """Return so many free nodes."""
    units = np.zeros(_UNIT * nodes, np.int32)
    units[1::_UNIT] = _FREE
    units[2::_UNIT] = -1
    return units


@kernel("int32[::1](uint8[::1], int64[::1], int32[::1])")
def _build(data: Bytes8, starts: Ids64, given: Ids32) -> Ids32:
    """Return the units of sorted keys; a node is a range of keys that share a beginning."""
    units = _free_units(2 * _BLOCK)
    units[1] = _NO_PARENT
    labels = np.empty(256, np.int32)
    edges = np.empty(257, np.int64)
    cursors = np.ones(_KINDS, np.int64)
    # Level by level, so that the few nodes near the root, which every walk visits, lie together.
    waiting = np.empty((len(data) + 1, 4), np.int64)  # node, first key, key behind, depth
    waiting[0] = (0, 0, len(given), 0)
    done, seen = 0, 1
    while done < seen:
        node, first, behind, depth = waiting[done]
        done += 1
        if first < behind and starts[first] + depth == starts[first + 1]:
            units[node + 2] = given[first]  # sorted, so the key that ends here comes first
            first += 1
        count = _split(data, starts, first, behind, depth, labels, edges)
        if count == 0:
            continue
        base = _find_place(units, labels, count, cursors)
        while base < 0:
            wider = _free_units(2 * len(units) // _UNIT)
            wider[: len(units)] = units
            units = wider
            base = _find_place(units, labels, count, cursors)
        units[node] = _UNIT * base
        for number in range(count):
            child = _UNIT * (base ^ labels[number])
            units[child + 1] = node
            waiting[seen] = (child, edges[number], edges[number + 1], depth + 1)
            seen += 1
    return units
