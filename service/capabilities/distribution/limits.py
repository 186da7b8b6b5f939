"""Refuse what is larger than one call may carry."""

from __future__ import annotations

from service.errors import Fault, TooManyItems


def require_at_most(count: int, limit: int, pointer: str, *, what: str) -> None:
    """Check a count against a limit.

    Raises:
        TooManyItems: it is larger; the message names both.
    """
    if count > limit:
        raise TooManyItems(
            f"{count} {what} came and one call carries {limit}. Send them in several calls.",
            faults=(Fault(pointer, f"{count} {what}, at most {limit} are allowed"),),
        )
