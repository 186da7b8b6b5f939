"""Keep the corpora that were used last, bounded in bytes."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from service.capabilities.summarization.corpus import Corpus


@dataclass(frozen=True, slots=True)
class Kept:
    """Hold a corpus and what it was made from.

    Attributes:
        corpus: ready to be summarized.
        revision: of the stored set that it shows; 0 for reviews that came with a request.
    """

    corpus: Corpus
    revision: int = 0


class Shelf:
    """Hold corpora up to a number of bytes and give up the one unused for longest.

    Args:
        limit_bytes: most that is held; 0 holds nothing.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._costs: dict[bytes, int] = {}
        self._held: OrderedDict[bytes, Kept] = OrderedDict()

    def find(self, key: bytes) -> Kept | None:
        """Return what is held under a key."""
        found = self._held.get(key)
        if found is not None:
            self._held.move_to_end(key)
        return found

    def keep(self, key: bytes, kept: Kept) -> None:
        """Hold a corpus, unless it alone is over the limit."""
        self._held.pop(key, None)
        self._costs[key] = kept.corpus.cost
        self._held[key] = kept
        while sum(self._costs.values()) > self._limit_bytes:
            oldest, _ = self._held.popitem(last=False)
            del self._costs[oldest]
