"""Re-open the end of a prompt, and lead the first tokens through what was taken back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import numpy as np

from service.capabilities.generation.pipeline.events import ContextUsed
from service.numerics.dtypes import Matrix32, Vector32
from service.numerics.healing.covers import Ahead, CoverSearch, Healing
from service.numerics.healing.reopening import Reopened
from service.runtime.decoders.healing import Healer

# What the model says after some ids.
Read = Callable[[Sequence[int]], Awaitable[Vector32]]


class HealedLaw:
    """Weigh tokens so that the text begins with the bytes that were taken back.

    Args:
        healing: says what may come, and what it leads to.
    """

    def __init__(self, healing: Healing) -> None:
        self._healing = healing

    def row(self, logits: Matrix32) -> tuple[Vector32, ContextUsed | None]:
        """Return the logits, minus infinity where a token does not fit."""
        row: Vector32 = logits[0]
        if self._healing.over:
            return row, None
        return self._healing.weigh(row).astype(np.float32), None

    def take(self, token_id: int) -> None:
        """Go on behind a token."""
        if not self._healing.over:
            self._healing.advance(token_id)


async def weigh_ends(healer: Healer, reopened: Reopened, kept: Sequence[int], read: Read) -> Ahead:
    """Return what every way to write the bytes that were taken back leads to.

    Args:
        healer: of the tokenizer.
        reopened: what is kept of the prompt, and what must be spelled again.
        kept: ids that stand.
        read: asks the model; a few times, once for each way to write the end that matters.
    """
    search = CoverSearch(reopened, healer.pieces)
    while (stem := search.wanted()) is not None:
        search.give(await read([*kept, *stem]))
    return search.ahead()


class Reader:
    """Be the author of a job that writes nothing: it hands the logits of its prompt over."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.logits: asyncio.Future[Vector32] = self._loop.create_future()

    def advance(self, logits: Matrix32) -> int | None:
        """Take the logits, in a worker's thread."""
        row: Vector32 = logits[0]
        self._loop.call_soon_threadsafe(self._resolve, row)
        return None

    def fail(self, error: Exception) -> None:
        """Take the error that ended the job, in a worker's thread."""
        self._loop.call_soon_threadsafe(self._reject, error)

    def _resolve(self, row: Vector32) -> None:
        if not self.logits.done():
            self.logits.set_result(row)

    def _reject(self, error: Exception) -> None:
        if not self.logits.done():
            self.logits.set_exception(error)
