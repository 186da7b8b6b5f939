"""Give each request an identity, a deadline and a stopwatch, and account for it at the end."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated

import structlog
from fastapi import Depends, Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import BodyTooLarge, DeadlineExceeded, Internal, InvalidInput, ServiceError
from service.metrics import Metrics
from service.web.problems import problem_response

SCOPE_KEY = "isotrope.call"
CLIENT_LEFT = 499  # nginx's number for it; never sent, since nobody is there to read it
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
_IDS = random.Random()  # noqa: S311 - an id is no secret, and the system's source costs a call
# What gives up at the deadline by itself says better what was late.
_GRACE_SECONDS = 0.1
_TIMEOUT = re.compile(r"[1-9][0-9]{0,8}")

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Patience:
    """Say how long requests may take.

    Attributes:
        seconds: of an ordinary request.
        long_seconds: of one that reports its progress.
    """

    seconds: float
    long_seconds: float

    def shortened(self, asked: float) -> Patience:
        """Return at most `asked` seconds of both."""
        return Patience(min(self.seconds, asked), min(self.long_seconds, asked))


class Call:
    """Hold what belongs to one request.

    Attributes:
        request_id: the client's own, or one of ours.
        started: monotonic seconds.
        deadline: monotonic seconds after which the answer is 504.
        stages: seconds by stage, for `Server-Timing`.
        headers: more headers for the answer.
    """

    __slots__ = (
        *("deadline", "headers", "request_id", "stages", "started", "status"),
        *("_alarm", "_patience"),
    )

    def __init__(self, request_id: str, started: float, patience: Patience) -> None:
        self.request_id = request_id
        self.started = started
        self.deadline = started + patience.seconds
        self.stages: dict[str, float] = {}
        self.headers: dict[str, str] = {}
        self.status = CLIENT_LEFT
        self._patience = patience
        self._alarm: asyncio.Timeout | None = None

    def shorten(self, seconds: float) -> None:
        """Take the client's own deadline; it can only shorten the service's."""
        self._patience = self._patience.shortened(seconds)
        self.deadline = self.started + self._patience.seconds

    def allow_long_work(self) -> None:
        """Give the request the time of work that reports its progress."""
        self.deadline = self.started + self._patience.long_seconds
        if self._alarm is not None:
            self._alarm.reschedule(self._alarm_time())

    @asynccontextmanager
    async def hold_to_deadline(self) -> AsyncIterator[None]:
        """Give the work inside up a moment after the deadline, where it did not do so itself.

        Raises:
            DeadlineExceeded: it was still at work.
        """
        try:
            async with asyncio.timeout_at(self._alarm_time()) as self._alarm:
                yield
        except TimeoutError:
            raise late() from None

    def _alarm_time(self) -> float:
        # The loop's clock may lag behind the monotonic one, so only differences are carried over.
        remaining = self.deadline - time.monotonic()
        return asyncio.get_running_loop().time() + remaining + _GRACE_SECONDS


def late() -> DeadlineExceeded:
    """Return the error of a deadline that passed."""
    return DeadlineExceeded(
        "The deadline passed before the work was done. Allow more time with X-Request-Timeout-Ms, "
        "or send less in one request."
    )


async def current_call(request: Request) -> Call:
    """Return the call that the request belongs to."""
    call: Call = request.scope[SCOPE_KEY]
    return call


CurrentCall = Annotated[Call, Depends(current_call)]


class CallMiddleware:
    """Wrap the whole application: identity in, headers out, one metric and one log line a request.

    Args:
        app: the application.
        metrics: instruments to write to.
        patience: longest time that requests may take.
        max_body_bytes: longest body that is read.
        access_log: whether to write the line.
        guard: refuses a request by its headers, API keys for instance.

    `knock` in the lifespan's state refuses work while admission is full.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics,
        patience: Patience,
        max_body_bytes: int,
        access_log: bool,
        guard: Callable[[Scope, Headers], None],
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._patience = patience
        self._max_body_bytes = max_body_bytes
        self._access_log = access_log
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        started = time.monotonic()
        call = Call(_request_id(headers), started, self._patience)
        scope[SCOPE_KEY] = call

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                call.status = message["status"]
                _add_headers(message, call)
            await send(message)

        if "content-length" not in headers:
            receive = self._bounded(receive)
        self._metrics.in_flight.inc()
        try:
            refusal = self._refusal(scope, headers, call)
            answer = self._app if refusal is None else problem_response(refusal, call.request_id)
            await answer(scope, receive, send_with_headers)
        except Exception as error:
            if call.status != CLIENT_LEFT:
                raise  # the answer has begun; only cutting it off tells the client
            logger.error("unexpected_error", request_id=call.request_id, exc_info=error)
            failure = Internal("Something unexpected failed; the log has it under the request id.")
            await problem_response(failure, call.request_id)(scope, receive, send_with_headers)
        finally:
            self._metrics.in_flight.dec()
            self._account(scope, call)

    def _refusal(self, scope: Scope, headers: Headers, call: Call) -> ServiceError | None:
        try:
            self._guard(scope, headers)
            if scope["method"] == "POST":
                # Asked before anything is read or routed: a refusal must cost next to nothing.
                scope["state"]["knock"]()
            self._require_short(headers.get("content-length", ""))
            asked = headers.get("x-request-timeout-ms")
            if asked is not None:
                call.shorten(_milliseconds(asked))
        except ServiceError as error:
            return error
        return None

    def _require_short(self, announced: str) -> None:
        if announced.isdecimal() and int(announced) > self._max_body_bytes:
            raise self._too_large(announced[:20])

    def _bounded(self, receive: Receive) -> Receive:
        """Count a body whose length was not announced, while it comes in."""
        total = 0

        async def count() -> Message:
            nonlocal total
            message = await receive()
            total += len(message.get("body", b""))
            if total > self._max_body_bytes:
                raise self._too_large(f"at least {total}")
            return message

        return count

    def _too_large(self, size: str) -> BodyTooLarge:
        return BodyTooLarge(
            f"The body has {size} bytes and {self._max_body_bytes} are read at most. "
            "Split the request."
        )

    def _account(self, scope: Scope, call: Call) -> None:
        seconds = time.monotonic() - call.started
        route = scope.get("route")
        operation = getattr(route, "name", None) or "unmatched"
        self._metrics.requests.labels(operation, str(call.status)).inc()
        self._metrics.request_seconds.labels(operation).observe(seconds)
        if self._access_log:
            logger.info(
                "request",
                request_id=call.request_id,
                method=scope["method"],
                operation=operation,
                status=call.status,
                ms=round(seconds * 1000, 2),
            )


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else f"{_IDS.getrandbits(128):032x}"


def _milliseconds(text: str) -> float:
    if not _TIMEOUT.fullmatch(text):
        raise InvalidInput(
            f"X-Request-Timeout-Ms is {text[:40]!r}; it must be a whole number of milliseconds, "
            "1 to 999999999."
        )
    return int(text) / 1000


def _add_headers(message: Message, call: Call) -> None:
    headers = MutableHeaders(raw=message.setdefault("headers", []))
    headers["X-Request-ID"] = call.request_id
    total = time.monotonic() - call.started
    stages = [f"{name};dur={seconds * 1000:.2f}" for name, seconds in call.stages.items()]
    headers["Server-Timing"] = ", ".join([*stages, f"total;dur={total * 1000:.2f}"])
    for name, value in call.headers.items():
        headers[name] = value
