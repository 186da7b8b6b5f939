"""Keep the corpora that were used last, bounded in bytes."""

from __future__ import annotations

from collections import OrderedDict

from service.capabilities.summarization.corpus import Corpus


class Shelf:
    """Hold corpora up to a number of bytes and give up the one unused for longest.

    Args:
        limit_bytes: most that is held; 0 holds nothing.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._held: OrderedDict[bytes, Corpus] = OrderedDict()

    def find(self, key: bytes) -> Corpus | None:
        """Return what is held under a key."""
        found = self._held.get(key)
        if found is not None:
            self._held.move_to_end(key)
        return found

    def keep(self, key: bytes, corpus: Corpus) -> None:
        """Hold a corpus, unless it alone is over the limit."""
        self._held.pop(key, None)
        if corpus.cost > self._limit_bytes:
            return
        self._held[key] = corpus
        while sum(each.cost for each in self._held.values()) > self._limit_bytes:
            self._held.popitem(last=False)

    def drop(self, key: bytes) -> None:
        """Forget what is held under a key."""
        self._held.pop(key, None)
