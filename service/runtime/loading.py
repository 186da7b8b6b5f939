"""Load each thing once, however many ask for it at one time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from service.errors import DeadlineExceeded

K = TypeVar("K")
T = TypeVar("T")


class SharedLoads(Generic[K, T]):
    """Let callers wait for one load, which goes on when they leave.

    A failed load is forgotten: the next caller tries again. Belongs to one event loop.
    """

    def __init__(self) -> None:
        self._loading: dict[K, asyncio.Task[T]] = {}

    async def wait(
        self,
        key: K,
        load: Callable[[], Coroutine[Any, Any, T]],
        *,
        what: str,
        deadline: float | None,
    ) -> T:
        """Return what `load` returns, or what a load of that key returns that is under way.

        Args:
            key: what is loaded.
            load: called where nobody loads it yet.
            what: names it in the message.
            deadline: monotonic seconds until which the caller waits; None waits for ever.

        Raises:
            DeadlineExceeded: the load goes on, and the caller waits no longer.
            Exception: whatever `load` raises.
        """
        task = self._loading.get(key)
        if task is None:
            task = asyncio.create_task(load())
            self._loading[key] = task
            task.add_done_callback(lambda done: self._finish(key, done))
        patience = None if deadline is None else max(0.0, deadline - time.monotonic())
        try:
            # Shielded: a client that leaves does not stop the load that others wait for.
            return await asyncio.wait_for(asyncio.shield(task), patience)
        except TimeoutError:
            raise DeadlineExceeded(
                f"{what} is still loading. Ask again, or with a longer deadline."
            ) from None

    def cancel(self) -> None:
        """Give every load up."""
        for task in list(self._loading.values()):
            task.cancel()

    def _finish(self, key: K, task: asyncio.Task[T]) -> None:
        self._loading.pop(key, None)
        if not task.cancelled():
            task.exception()  # read here, since every waiter may have left
