"""Decide whether a store that may be broken is worth asking.

```
          too many failures in a row            the pause is over
 closed ────────────────────────────► open ────────────────────────► probing
   ▲                                    ▲                               │
   │                                    └──────────── failed ───────────┤
   └─────────────────────────────────────────────── succeeded ──────────┘
```
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

# A refused call costs nothing, a timeout costs a request its whole budget: five of the one or
# two of the other, without a success between them, open the breaker.
_LIMIT = 5
_REFUSAL = 1
_TIMEOUT = 3

# Seconds left alone: doubled with each failed probe. 20 keeps recovery below half a minute.
SHORTEST_PAUSE = 2.0
LONGEST_PAUSE = 20.0


class BreakerState(StrEnum):
    """Name the states of a breaker."""

    CLOSED = "closed"
    OPEN = "open"
    PROBING = "probing"


class Breaker:
    """Count failures in a row and say when to leave the store alone.

    Args:
        clock: seconds of a clock that never goes back.
        jitter: a factor for each pause, around 1, so that replicas do not probe together.
        on_change: told the new state and the pause in seconds (0 when closed).
    """

    __slots__ = ("_clock", "_jitter", "_on_change", "_pause", "_reopens_at", "_weight", "state")

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        jitter: Callable[[], float],
        on_change: Callable[[BreakerState, float], None],
    ) -> None:
        self.state = BreakerState.CLOSED
        self._clock = clock
        self._jitter = jitter
        self._on_change = on_change
        self._weight = 0
        self._pause = SHORTEST_PAUSE
        self._reopens_at = 0.0

    @property
    def closed(self) -> bool:
        """Return whether the store may be asked."""
        return self.state is BreakerState.CLOSED

    def succeeded(self) -> None:
        """Note a call that went well; one that began before the breaker opened changes nothing."""
        if self.closed and self._weight:
            self._weight = 0
            self._pause = SHORTEST_PAUSE

    def failed(self, *, timed_out: bool) -> None:
        """Note a call that failed, and whether it did so by using up its time."""
        if not self.closed:
            return
        self._weight += _TIMEOUT if timed_out else _REFUSAL
        if self._weight >= _LIMIT:
            self._open()

    def begin_probe(self) -> bool:
        """Return True, once, when the pause is over: the caller then probes and tells."""
        if self.state is not BreakerState.OPEN or self._clock() < self._reopens_at:
            return False
        self.state = BreakerState.PROBING
        return True

    def end_probe(self, *, succeeded: bool) -> None:
        """Close the breaker after a probe that went well, else open it for longer."""
        if not succeeded:
            self._open()
            return
        # one more failure opens it again, and for longer: a store that answers probes and fails
        # at work must not be tried afresh every two seconds
        self._weight = _LIMIT - 1
        self.state = BreakerState.CLOSED
        self._on_change(self.state, 0.0)

    def _open(self) -> None:
        pause = min(max(self._pause * self._jitter(), SHORTEST_PAUSE), LONGEST_PAUSE)
        self._pause = min(self._pause * 2, LONGEST_PAUSE)
        self._reopens_at = self._clock() + pause
        was_closed = self.closed
        self.state = BreakerState.OPEN
        if was_closed:
            self._on_change(self.state, pause)
