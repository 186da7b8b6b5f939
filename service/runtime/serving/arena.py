"""Step many sequences at once through a serving graph, over one block of keys and values."""

from __future__ import annotations

import mmap
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import onnxruntime as ort

from service.errors import Internal
from service.numerics.attention.positions import rope_tables
from service.numerics.attention.scales import row_scale
from service.numerics.dtypes import Ids64, Matrix32, Vector32
from service.runtime.decoders.feeds import Reading
from service.runtime.decoders.graph import Array, CachePart, DecoderGraph
from service.runtime.serving.jobs import Row

# Kernels for one row round otherwise than those for several: no run has fewer.
_LEAST_ROWS = 2
# A run of decoding is followed by one with as many rows, mostly: their bindings stay.
_BINDINGS = 32
_TABLE_ROWS = 256
_FLOAT = np.dtype(np.float32).itemsize
_TABLES = ("q_cos", "q_sin", "k_cos", "k_sin")


class Block:
    """Hold keys or values of every slot: (slots, heads, capacity, width) float32.

    The addresses are reserved at once, and memory comes with the first write to a page: a block
    costs what its sequences are long, and moves nothing when one grows.

    Args:
        slots: sequences.
        part: heads and width.
        capacity: longest sequence.
    """

    def __init__(self, slots: int, part: CachePart, capacity: int) -> None:
        self.shape = (slots, part.heads, capacity, part.width)
        self._row = part.width * _FLOAT
        # private: only such pages are dropped when they are given back
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self._memory = mmap.mmap(-1, slots * part.heads * capacity * self._row, flags=flags)
        if hasattr(mmap, "MADV_NOHUGEPAGE"):  # a huge page would be taken for one token
            self._memory.madvise(mmap.MADV_NOHUGEPAGE)
        self.values = np.frombuffer(self._memory, np.float32).reshape(self.shape)

    def forget(self, slot: int, length: int) -> None:
        """Give back the pages that lie wholly behind the first `length` tokens of a slot."""
        _, heads, capacity, _ = self.shape
        for head in range(slot * heads, (slot + 1) * heads):
            start = -(-(head * capacity + length) * self._row // mmap.PAGESIZE) * mmap.PAGESIZE
            stop = (head + 1) * capacity * self._row // mmap.PAGESIZE * mmap.PAGESIZE
            if start < stop:
                self._memory.madvise(mmap.MADV_DONTNEED, start, stop - start)


@dataclass(frozen=True, slots=True)
class _Step:
    """Hold a binding of one range of slots, with the arrays that a step fills.

    onnxruntime reads and writes their memory at each run, and does not keep it alive.
    """

    binding: ort.IOBinding
    ids: Ids64
    tables: dict[str, Array]
    seqlens: Array
    total: Array
    logits: Matrix32


class Arena:
    """Be a stepper over a serving graph; past and present of a layer are the same memory.

    A step runs a range of neighbouring slots. Those in between that have no token in this step,
    and the neighbour of a lone one, get token 0 at a place behind their own past, which the next
    real token overwrites: every run has two rows at least, and a row's bits are its own.

    Args:
        graph: of the contract's serving form.
        base: of the rotary angles.
        vocabulary: of a row of logits.
        slots: sequences that fit.
        capacity: tokens that fit into a slot.
    """

    def __init__(
        self, graph: DecoderGraph, *, base: float, vocabulary: int, slots: int, capacity: int
    ) -> None:
        self.slots = slots
        self._rows = max(slots, _LEAST_ROWS)
        self._capacity = capacity
        self._graph = graph
        self._base = base
        self._vocabulary = vocabulary
        self._blocks = {part.name: Block(self._rows, part, capacity) for part in graph.parts}
        self._lengths = [0] * self._rows
        self._steps = lru_cache(_BINDINGS)(self._bind_step)

    def extend(self, slot: int, ids: Ids64, *, start: int, positions: Hashable) -> Vector32:
        """Append tokens of a prompt, and return the last one's logits."""
        stop = start + len(ids)
        self._require_room(stop)
        tables = self._tables(positions, start, len(ids))
        binding = self._bind(slot, slot + 1)
        given: dict[str, Array] = {
            "input_ids": ids[np.newaxis],
            "seqlens_k": np.array([stop - 1], np.int32),
            "total_length": np.array([stop], np.int32),
            "logits_from": np.array([len(ids) - 1], np.int64),
            **{name: table[np.newaxis] for name, table in tables.items()},
        }
        logits = np.empty((1, 1, self._vocabulary), np.float32)
        for name, array in given.items():
            _bind_input(binding, name, array)
        _bind_output(binding, "logits", logits)
        self._graph.session.run_with_iobinding(binding)
        self._lengths[slot] = stop
        row: Vector32 = logits[0, 0]
        return row

    def step(self, rows: Sequence[Row]) -> Matrix32:
        """Append one token to each row's slot, and return the logits (rows, vocabulary)."""
        self._require_room(max(row.at for row in rows) + 1)
        low, high = rows[0].slot, rows[-1].slot + 1
        if high - low < _LEAST_ROWS:
            low, high = (low, high + 1) if high < self._rows else (low - 1, high)
        step = self._steps(low, high)
        step.ids[:] = 0
        step.seqlens[:] = self._lengths[low:high]
        for row in rows:
            place = row.slot - low
            step.ids[place] = row.id
            step.seqlens[place] = row.at
            for name, table in self._tables(row.positions, row.at, 1).items():
                step.tables[name][place] = table
            self._lengths[row.slot] = row.at + 1
        step.total[0] = step.seqlens.max() + 1
        self._graph.session.run_with_iobinding(step.binding)
        return step.logits[[row.slot - low for row in rows], 0]  # a copy: the next step writes here

    def forget(self, slot: int, length: int) -> None:
        """Give back the memory of what lies behind the first `length` tokens of a slot."""
        self._lengths[slot] = length
        for block in self._blocks.values():
            block.forget(slot, length)

    def close(self) -> None:
        """Give everything back: the memory goes with the last binding to it."""
        self._steps.cache_clear()
        self._blocks.clear()

    def _require_room(self, tokens: int) -> None:
        if tokens > self._capacity:  # the kernel would write into the next head's memory
            raise Internal(f"A sequence came to {tokens} tokens and {self._capacity} fit a slot.")

    def _tables(self, positions: Hashable, start: int, count: int) -> dict[str, Array]:
        """Return the tables of positions start … start + count - 1, (count, pairs) each."""
        assert isinstance(positions, Reading)
        pieces = []
        for number in range(start // _TABLE_ROWS, (start + count - 1) // _TABLE_ROWS + 1):
            first = number * _TABLE_ROWS
            table = _table(positions, number, self._graph.pairs, self._base)
            pieces.append(table[:, max(0, start - first) : start + count - first])
        joined = pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=1)
        return dict(zip(_TABLES, np.ascontiguousarray(joined), strict=True))

    def _bind(self, low: int, high: int) -> ort.IOBinding:
        """Return a binding whose past and present are a range of slots."""
        binding = self._graph.session.io_binding()
        for name, block in self._blocks.items():
            part = block.values[low:high]
            _bind_input(binding, f"past.{name}", part)
            _bind_output(binding, f"present.{name}", part)
        return binding

    def _bind_step(self, low: int, high: int) -> _Step:
        count, pairs = high - low, self._graph.pairs
        step = _Step(
            binding=self._bind(low, high),
            ids=np.zeros((count, 1), np.int64),
            tables={name: np.zeros((count, 1, pairs), np.float32) for name in _TABLES},
            seqlens=np.zeros(count, np.int32),
            total=np.zeros(1, np.int32),
            logits=np.empty((count, 1, self._vocabulary), np.float32),
        )
        given = {"input_ids": step.ids, "seqlens_k": step.seqlens, "total_length": step.total}

        for name, array in {**given, **step.tables, "logits_from": _FIRST}.items():
            _bind_input(step.binding, name, array)
        _bind_output(step.binding, "logits", step.logits)
        return step


_FIRST = np.zeros(1, np.int64)


@lru_cache(maxsize=128)
def _table(reading: Reading, number: int, pairs: int, base: float) -> Array:
    """Return one block of rotary tables, (4, 256, pairs): cos and sin of queries, then of keys.

    The scale of the scores stands in the queries' table.
    """
    at = np.arange(number * _TABLE_ROWS, (number + 1) * _TABLE_ROWS, dtype=np.int64)
    tables = rope_tables(reading.rope, queries=at, keys=at, rope_dim=2 * pairs, base=base)
    # head_dim 1: a number is a factor on top of the model's own scale, which the graph has
    scale = row_scale(reading.scale, at + 1, head_dim=1).astype(np.float32)[:, np.newaxis]
    queries, keys = tables.queries, tables.keys
    return np.stack([queries.cos * scale, queries.sin * scale, keys.cos, keys.sin])


def _bind_input(binding: ort.IOBinding, name: str, array: Array) -> None:
    binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)


def _bind_output(binding: ort.IOBinding, name: str, array: Array) -> None:
    binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
