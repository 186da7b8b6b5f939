"""Step sequences one by one through a variant's float graph."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from service.numerics.dtypes import Ids64, Matrix32, Vector32
from service.runtime.decoders.feeds import Reading
from service.runtime.decoders.forward import KeyValues, begin, forward
from service.runtime.decoders.opened import Decoder
from service.runtime.serving.jobs import Row


class SingleFile:
    """Be a stepper over any graph of the contract's float form, whatever it caches.

    Each sequence runs alone: rows of these graphs have equal lengths, and every variant is exact
    here, fast in the serving graph.

    Args:
        decoder: the variant.
        slots: sequences that fit.
    """

    def __init__(self, decoder: Decoder, *, slots: int) -> None:
        self.slots = slots
        self._decoder = decoder
        self._pasts = [begin(decoder)] * slots

    def extend(self, slot: int, ids: Ids64, *, start: int, positions: Hashable) -> Vector32:
        """Append tokens of a prompt, and return the last one's logits."""
        past = _first(self._pasts[slot], start)
        return self._run(slot, ids, past, positions, logits_from=len(ids) - 1)

    def step(self, rows: Sequence[Row]) -> Matrix32:
        """Append one token to each row's slot, and return the logits (rows, vocabulary)."""
        return np.stack(
            [
                self._run(
                    row.slot,
                    np.array([row.id]),
                    self._pasts[row.slot],
                    row.positions,
                    logits_from=0,
                )
                for row in rows
            ]
        )

    def forget(self, slot: int, length: int) -> None:
        """Give back the memory of what lies behind the first `length` tokens of a slot."""
        self._pasts[slot] = _first(self._pasts[slot], length)

    def close(self) -> None:
        """Give everything back."""
        self._pasts.clear()

    def _run(
        self, slot: int, ids: Ids64, past: KeyValues, positions: Hashable, *, logits_from: int
    ) -> Vector32:
        assert isinstance(positions, Reading)
        found = forward(self._decoder, ids[np.newaxis], past, positions, logits_from=logits_from)
        self._pasts[slot] = found.kept
        row: Vector32 = found.logits[0, -1]
        return row


def _first(past: KeyValues, length: int) -> KeyValues:
    """Return the cache of the first tokens; a copy, since a view would keep the whole alive."""
    if length == past.tokens:
        return past
    return KeyValues(tuple(array[:, :, :length].copy() for array in past.arrays), length)
