"""Hold texts that are being generated, and hand their events over as they come."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass

from service.capabilities.generation.pipeline.events import Event, Finish, Token
from service.errors import DeadlineExceeded
from service.runtime.decoders.feeds import Reading
from service.runtime.decoders.opened import Decoder
from service.runtime.serving.jobs import Job
from service.runtime.serving.scheduler import Lane, Scheduler

# A worker gives a text up at the deadline by itself, and says so.
_GRACE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Origin:
    """Say what an answer comes from.

    Attributes:
        decoder: model and variant.
        graph: `serving`, `plain` or `windowed`.
        reading: how positions are read.
        seed: of every random number.
        prompts: ids of every prompt.
    """

    decoder: Decoder
    graph: str
    reading: Reading
    seed: int
    prompts: Sequence[Sequence[int]]

    @property
    def prompt_tokens(self) -> int:
        """Return the tokens of all prompts."""
        return sum(map(len, self.prompts))


class Mailbox:
    """Carry events from workers' threads to one event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event | Exception] = asyncio.Queue()

    def publish(self, event: Event | Exception) -> None:
        """Take an event, in any thread."""
        self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    async def next(self, deadline: float) -> Event:
        """Return the next event.

        Raises:
            DeadlineExceeded: none came in time.
            ServiceError: the one that ended a text.
        """
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic()) + _GRACE_SECONDS):
                event = await self._events.get()
        except TimeoutError:
            raise DeadlineExceeded(
                "The deadline passed while the request waited for a slot. Allow more time with "
                "X-Request-Timeout-Ms, or ask again later."
            ) from None
        if isinstance(event, Exception):
            raise event
        return event


class Generation:
    """Iterate over the events of a request's texts, in the order in which they happen.

    Whoever opens one closes it: what is still being generated then is given up.

    Args:
        origin: what it comes from.
        mailbox: where its writers publish.
        scheduler: where its jobs run.
        deadline: monotonic seconds.
        count: called for each token.
    """

    def __init__(
        self,
        origin: Origin,
        mailbox: Mailbox,
        scheduler: Scheduler,
        *,
        deadline: float,
        count: Callable[[], None],
    ) -> None:
        self._count = count
        self.origin = origin
        self.completion_tokens = 0
        self._mailbox = mailbox
        self._scheduler = scheduler
        self._deadline = deadline
        self._jobs: list[Job] = []
        self._open = 0

    def submit(self, lane: Lane, job: Job) -> None:
        """Let one more text be generated.

        Raises:
            Overloaded: as many jobs wait already as may.
            PayloadTooLarge: it needs more cache than there is.
        """
        self._scheduler.submit(lane, job)
        self._jobs.append(job)
        self._open += 1

    async def events(self) -> AsyncGenerator[Event, None]:
        """Yield every event up to the end of the last text.

        Raises:
            DeadlineExceeded: the time is over.
            ServiceError: whatever else ended a text.
        """
        while self._open:
            event = await self._mailbox.next(self._deadline)
            if isinstance(event, Token):
                self.completion_tokens += 1
                self._count()
            elif isinstance(event, Finish):
                self._open -= 1
            yield event

    def close(self) -> None:
        """Give up what is still being generated."""
        for job in self._jobs:
            if not job.over:
                self._scheduler.leave(job)
        self._jobs.clear()
