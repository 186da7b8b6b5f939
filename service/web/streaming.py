"""Tell a client how far long work has come, and stop the work when the client leaves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import orjson
import structlog
from fastapi import Request, Response
from fastapi.sse import format_sse_event
from starlette.responses import StreamingResponse

from service.errors import ClientLeft, Internal, ServiceError
from service.numerics.dtypes import Progress
from service.web.call import Call, late
from service.web.negotiation import JSON, SSE, preferred
from service.web.problems import problem_response

# A comment line now and then keeps proxies from taking a silent stream for a dead one.
_SILENCE_SECONDS = 10.0

logger = structlog.get_logger(__name__)


class Reporter:
    """Take progress from any thread, and raise there once the work is of no use any more.

    Only the latest number of each stage is kept: a slow client misses steps, never stages.

    Args:
        deadline: monotonic seconds after which the work is given up.
    """

    def __init__(self, deadline: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._deadline = deadline
        self._left = False
        self._stages: dict[str, tuple[int, int]] = {}
        self.changed = asyncio.Event()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Note how far a stage is.

        Raises:
            ClientLeft: the client closed the connection.
            DeadlineExceeded: the deadline passed.
        """
        if self._left:
            raise ClientLeft("The client left, so the work was given up.")
        if time.monotonic() > self._deadline:
            raise late()
        self._stages[stage] = (done, total)
        self._loop.call_soon_threadsafe(self.changed.set)

    def leave(self) -> None:
        """Let the next report raise."""
        self._left = True

    def take(self) -> list[dict[str, object]]:
        """Return what changed since the last call, stages in the order in which they began."""
        self.changed.clear()
        stages, self._stages = self._stages, {}
        return [
            {"stage": stage, "done": done, "total": total}
            for stage, (done, total) in stages.items()
        ]


async def reply_with_progress(
    request: Request,
    call: Call,
    work: Callable[[Progress], Awaitable[Response]],
    *,
    offered: Sequence[str] = (JSON, SSE),
) -> Response:
    """Return the answer of long work, or a stream of its progress where the request accepts one.

    Events: `progress` `{stage, done, total}`, then `result` with the body that plain JSON would
    have carried, or `error` with a problem body. Whoever closes the connection stops the work.

    Args:
        request: its `Accept` decides.
        call: the request's deadline.
        work: does the work and returns the JSON answer; it passes the progress on to whatever
            takes long.
        offered: media types that the operation can send, SSE among them, the usual one first.
    """
    call.allow_long_work()
    reporter = Reporter(call.deadline)
    if preferred(request, offered) == SSE:
        return StreamingResponse(
            _events(call, work, reporter),
            media_type=SSE,
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )
    try:
        return await work(reporter)
    finally:
        reporter.leave()


async def _events(
    call: Call, work: Callable[[Progress], Awaitable[Response]], reporter: Reporter
) -> AsyncIterator[bytes]:
    task = asyncio.ensure_future(_finish(call, work, reporter))
    task.add_done_callback(lambda _: reporter.changed.set())
    try:
        while not task.done():
            try:
                await asyncio.wait_for(reporter.changed.wait(), _SILENCE_SECONDS)
            except TimeoutError:
                yield b": still at work\n\n"
            for report in reporter.take():
                yield _event("progress", orjson.dumps(report))
        for report in reporter.take():
            yield _event("progress", orjson.dumps(report))
        response = task.result()
        name = "result" if response.status_code < 400 else "error"  # noqa: PLR2004 - HTTP's own
        yield _event(name, bytes(response.body))
    finally:
        reporter.leave()
        task.cancel()


async def _finish(
    call: Call, work: Callable[[Progress], Awaitable[Response]], reporter: Reporter
) -> Response:
    """Return the work's answer, or the problem that it ended with: the status is sent already."""
    try:
        async with asyncio.timeout(max(0.0, call.deadline - time.monotonic())):
            return await work(reporter)
    except ServiceError as error:
        return problem_response(error, call.request_id)
    except TimeoutError:
        return problem_response(late(), call.request_id)
    except Exception as error:
        logger.error("unexpected_error", request_id=call.request_id, exc_info=error)
        failure = Internal("Something unexpected failed; the log has it under the request id.")
        return problem_response(failure, call.request_id)


def _event(name: str, body: bytes) -> bytes:
    return format_sse_event(data_str=body.decode(), event=name)
