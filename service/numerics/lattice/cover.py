"""Weigh what may come next where a text breaks off inside a piece.

A text x that goes on is covered by a row of pieces of which the last reaches its end or crosses it.
The mass of all covers from a place s on is

    C[n] = 1,   C[s] = Σ W[w] C[e] over arcs that end at e ≤ n,  plus  Σ W[w] over crossing pieces

where a crossing piece begins with all of x[s:n] and is longer. So W[w] C[e] / C[s] is exactly the
chance that w is the first piece after s, given that the text begins with x.
"""

# A kernel takes arrays by position, is one loop, and knows the bytes of UTF-8.
# ruff: noqa: PLR0917
from __future__ import annotations

import math

import numpy as np

from service.numerics.dtypes import Bytes8, Ids32, Ids64, Vector64
from service.numerics.kernels import kernel
from service.numerics.lattice.logspace import list_arcs, log_sum
from service.numerics.lattice.trie import NOWHERE, rank_at, step


@kernel()
def _descend(data: Bytes8, place: int, units: Ids64) -> int:
    """Return the node that the rest of the text leads to, NOWHERE where no piece begins with it."""
    node = units[0]
    for here in range(place, len(data)):
        node = step(units, node, data[here])
        if node == NOWHERE:
            break
    return int(node)


@kernel()
def _below(root: int, units: Ids64, found: Ids32) -> int:
    """Write every piece longer than the one at a node that begins with it; return how many."""
    stack = np.empty(256, np.int64)
    stack[0] = root
    depth, count = 1, 0
    while depth > 0:
        depth -= 1
        node = stack[depth]
        if depth + 256 > len(stack):
            longer = np.empty(2 * len(stack) + 256, np.int64)
            longer[:depth] = stack[:depth]
            stack = longer
        for byte in range(255, -1, -1):
            child = step(units, node, byte)
            if child != NOWHERE:
                stack[depth] = child
                depth += 1
        if node != root and rank_at(node) > 0:
            found[count] = rank_at(node) - 1
            count += 1
    return count


@kernel("int64(uint8[::1], int64, int64, int64[::1])")
def first_open_place(data: Bytes8, start: int, longest: int, units: Ids64) -> int:
    """Return the first place from which a longer piece may cross the end; len(data) for none."""
    for place in range(max(start, len(data) - longest), len(data)):
        node = _descend(data, place, units)
        if node != NOWHERE:
            for byte in range(256):
                if step(units, node, byte) != NOWHERE:
                    return place
    return len(data)


@kernel(
    "int64(uint8[::1], int64, int64[::1], float64[::1], int64[::1], float64[::1], int32[::1], "
    "int32[::1], float64[::1])"
)
def cover_end(
    data: Bytes8,
    start: int,
    units: Ids64,
    logs: Vector64,
    rules: Ids64,
    masses: Vector64,
    pieces: Ids32,
    ends: Ids32,
    chances: Vector64,
) -> int:
    """List the pieces that may stand first from `start` on, with their log chances.

    Args:
        data: normalised bytes of the whole text; its end is where it breaks off.
        start: where the open part begins.
        units: of the trie.
        logs: (v + 1,) l.
        rules: of the vocabulary.
        masses: scratch, (n + 1,); log C from `start` on.
        pieces: out, (v + longest,), -1 for an unknown character.
        ends: out, where each ends; n + 1 where it crosses the end.
        chances: out, log chance of each.

    Returns:
        How many there are.
    """
    size = len(data)
    arcs = np.empty(rules[2] + 2, np.int32)
    stops = np.empty(rules[2] + 2, np.int64)
    crossing = np.empty(len(logs), np.int32)
    terms = np.empty(len(logs) + rules[2] + 2, np.float64)
    masses[start:] = -math.inf
    masses[size] = 0.0
    for place in range(size - 1, start - 1, -1):
        count = list_arcs(data, place, size, units, rules, arcs, stops)
        for arc in range(count):
            terms[arc] = logs[arcs[arc]] + masses[stops[arc]]
        node = _descend(data, place, units) if size - place < rules[2] else NOWHERE
        across = _below(node, units, crossing) if node != NOWHERE else 0
        for number in range(across):
            terms[count + number] = logs[crossing[number]]
        masses[place] = log_sum(terms, count + across)
        if place == start:
            for arc in range(count):
                pieces[arc], ends[arc] = arcs[arc], stops[arc]
            for number in range(across):
                pieces[count + number], ends[count + number] = crossing[number], size + 1
            for number in range(count + across):
                chances[number] = terms[number] - masses[place]
            return count + across
    return 0
