"""Say what a cache tier outside the process must do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from service.stores.entry import Entry


@dataclass(frozen=True, slots=True)
class SharedState:
    """Describe the shared tier for people; nothing here is secret.

    Attributes:
        address: where it is, without user, password or options.
        breaker: `closed` (in use), `open` (left alone) or `probing`.
        queued_writes: values waiting to be written.
        queued_bytes: their size.
    """

    address: str
    breaker: str
    queued_writes: int
    queued_bytes: int


class SharedTier(Protocol):
    """Find and keep entries outside the process; never raise because the outside is broken."""

    async def find(
        self, keys: Sequence[bytes], *, deadline: float | None
    ) -> Sequence[Entry | None]:
        """Return what is known for each key, in order; None for unknown or unreachable.

        Args:
            keys: distinct keys.
            deadline: the request's, in seconds of the event loop's clock; None for none.
        """
        ...

    def keep(self, items: Sequence[tuple[bytes, Entry]]) -> None:
        """Take entries to be written later; drop them where there is no room."""
        ...

    def state(self) -> SharedState:
        """Return what the tier is doing now."""
        ...

    async def aclose(self) -> None:
        """Write what still waits, within a short bound, and let go of the connections."""
        ...
