"""Send events as they happen, and let go of their source whatever ends the answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import structlog
from fastapi.sse import format_sse_event
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from service.errors import Internal, ServiceError
from service.web.negotiation import SSE
from service.web.problems import problem_response

# A comment line now and then keeps proxies from taking a silent stream for a dead one.
_SILENCE_SECONDS = 10.0

# How the document describes an answer of events: each of them by itself.
EVENTS: dict[str, Any] = {
    "content": {
        SSE: {
            "schema": {
                "type": "object",
                "required": ["data"],
                "properties": {
                    "event": {"type": "string", "description": "What happened."},
                    "data": {"type": "string", "description": "Of it, as JSON."},
                },
            }
        }
    }
}

logger = structlog.get_logger(__name__)


class EventStream(StreamingResponse):
    """Answer with a stream of server-sent events.

    Args:
        frames: events as bytes, from `event_frame`.
        close: called once at the end: after the last frame, or when the client has left, even
            before the first.
    """

    def __init__(self, frames: AsyncIterator[bytes], *, close: Callable[[], None]) -> None:
        super().__init__(
            _kept_alive(frames),
            media_type=SSE,
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )
        self._close = close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send everything."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._close()


async def _kept_alive(frames: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the frames, and a comment wherever none comes for a while."""
    following = asyncio.ensure_future(anext(frames, None))
    try:
        while True:
            done, _ = await asyncio.wait({following}, timeout=_SILENCE_SECONDS)
            if not done:
                yield b": still at work\n\n"
                continue
            frame = following.result()
            if frame is None:
                return
            following = asyncio.ensure_future(anext(frames, None))
            yield frame
    finally:
        following.cancel()


def event_frame(body: bytes, *, name: str | None = None) -> bytes:
    """Return one event: its name, where it has one, and its data."""
    return format_sse_event(data_str=body.decode(), event=name)


def problem_of(error: Exception, request_id: str) -> bytes:
    """Return the problem body of an error that comes after the status was sent."""
    if isinstance(error, ServiceError):
        if isinstance(error, Internal):
            logger.error("internal_error", detail=error.detail, exc_info=error)
        return bytes(problem_response(error, request_id).body)
    logger.error("unexpected_error", request_id=request_id, exc_info=error)
    failure = Internal("Something unexpected failed; the log has it under the request id.")
    return bytes(problem_response(failure, request_id).body)
