"""Release the text of tokens as soon as it is certain, and never more."""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class TextStream:
    r"""Turn the bytes of tokens into text, and end it before the first stop string.

    A character whose bytes are not all there waits for them. Text that may be the beginning of a
    stop string waits until it is one, or cannot become one: ::

        stop "<end>"     in  "a <"  "b"   "<e"  "nd> c"
                        out  "a "   "<b"  ""    ""       and over

    What is released does not depend on how the bytes were cut into tokens, except in when.

    Args:
        stops: strings that end the text; none of them empty.
        skip_bytes: bytes at the beginning that are not released: they stand in the prompt.

    Attributes:
        stop: the stop string that came, or None.
    """

    def __init__(self, stops: Sequence[str] = (), *, skip_bytes: int = 0) -> None:
        self.stop: str | None = None
        self._stops = tuple(stops)
        self._skip = skip_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""

    @property
    def left_to_skip(self) -> int:
        """Return how many bytes of the prompt are still to come."""
        return self._skip

    def add(self, piece: bytes) -> str:
        """Return the text that a token's bytes release; nothing after a stop string."""
        return self._take(self._decoder.decode(self._after_prompt(piece)), last=False)

    def finish(self) -> str:
        """Return what is still held back, now that nothing follows."""
        return self._take(self._decoder.decode(b"", final=True), last=True)

    def _after_prompt(self, piece: bytes) -> bytes:
        skipped = min(self._skip, len(piece))
        self._skip -= skipped
        return piece[skipped:]

    def _take(self, text: str, *, last: bool) -> str:
        if self.stop is not None:
            return ""
        self._held += text
        found = self._first_stop()
        if found is not None:
            start, self.stop = found
            released, self._held = self._held[:start], ""
            return released
        kept = 0 if last else self._beginning_of_a_stop()
        cut = len(self._held) - kept
        released, self._held = self._held[:cut], self._held[cut:]
        return released

    def _first_stop(self) -> tuple[int, str] | None:
        """Return where the stop string begins that is complete first, of those the longest."""
        places = [(self._held.find(stop), stop) for stop in self._stops]
        ends = [(start + len(stop), start, stop) for start, stop in places if start >= 0]
        return min(ends)[1:] if ends else None

    def _beginning_of_a_stop(self) -> int:
        """Return the length of the longest end of the text that may become a stop string."""
        longest = max((len(stop) for stop in self._stops), default=1) - 1
        for length in range(min(longest, len(self._held)), 0, -1):
            end = self._held[-length:]
            if any(stop.startswith(end) for stop in self._stops):
                return length
        return 0
