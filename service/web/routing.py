"""Read bodies fast, refuse the wrong kind early, and stop working for clients that left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import orjson
from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from service.errors import UnsupportedMediaType
from service.web.call import CLIENT_LEFT

_BODY_METHODS = frozenset({"POST", "PUT", "PATCH"})


class FastJsonRequest(Request):
    """Parse JSON with orjson; it also refuses what JSON forbids: NaN and lone surrogates."""

    async def json(self) -> Any:  # noqa: ANN401 - the base class says so
        """Return the parsed body."""
        return orjson.loads(await self.body())


class ServiceRoute(APIRoute):
    """Handle a request with a JSON body.

    It is cancelled when its client closes the connection.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return FastAPI's handler inside ours."""
        inner = super().get_route_handler()
        if not _BODY_METHODS & (self.methods or set()):
            return inner

        async def handle(request: Request) -> Response:
            _require_plain_json(request)
            fast = FastJsonRequest(request.scope, request.receive)
            try:
                await fast.body()
            except ClientDisconnect:  # the upload broke off
                return Response(status_code=CLIENT_LEFT)
            return await _while_connected(inner(fast), request.receive)

        return handle


def _require_plain_json(request: Request) -> None:
    coding = request.headers.get("content-encoding", "identity")
    if coding.strip().lower() != "identity":
        raise UnsupportedMediaType(
            f"The content encoding is {coding[:80]!r}; send the body uncompressed."
        )
    given = request.headers.get("content-type", "")
    kind = given.partition(";")[0].strip().lower()
    if kind != "application/json" and not (
        kind.startswith("application/") and kind.endswith("+json")
    ):
        raise UnsupportedMediaType(
            f"The content type is {given[:80]!r}; this operation reads application/json."
        )


async def _while_connected(work: Coroutine[Any, Any, Response], receive: Receive) -> Response:
    """Return the work's answer, or give it up when the client closes the connection."""
    current = asyncio.current_task()
    assert current is not None  # a request is always handled in a task
    left = False

    async def watch() -> None:
        nonlocal left
        while (await receive())["type"] != "http.disconnect":
            pass
        left = True
        current.cancel()

    watcher = asyncio.create_task(watch())
    try:
        return await work
    except asyncio.CancelledError:
        if not left:
            raise
        current.uncancel()
        return Response(status_code=CLIENT_LEFT)
    finally:
        watcher.cancel()
