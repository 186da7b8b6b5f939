"""Define what the cache holds for one text."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from service.numerics.dtypes import Vector32


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """Hold one text's vector and what it cost to make.

    Attributes:
        vector: (d,) float32, read-only, in memory of its own: a view on a batch would keep
            the whole batch alive for as long as the entry is cached.
        tokens: tokens that were run for the text.
        dropped_tokens: tokens cut off the text by truncation.
    """

    vector: Vector32
    tokens: int
    dropped_tokens: int

    @classmethod
    def copy_of(cls, row: Vector32, *, tokens: int, dropped_tokens: int = 0) -> Entry:
        """Return an entry that owns a read-only copy of `row`.

        Args:
            row: (d,) float32, usually one row of a batch.
            tokens: tokens that were run for the text.
            dropped_tokens: tokens cut off the text by truncation.
        """
        vector = np.array(row, dtype=np.float32, order="C")
        vector.setflags(write=False)
        return cls(vector, tokens, dropped_tokens)
