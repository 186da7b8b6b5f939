"""Turn every failure into one body: RFC 9457 `application/problem+json`."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping, Sequence
from http import HTTPStatus

import orjson
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match, Route

from service.errors import (
    Fault,
    Internal,
    InvalidInput,
    MethodNotAllowed,
    ServiceError,
    UnknownRoute,
)

MEDIA_TYPE = "application/problem+json"
_MOST_FAULTS = 20
_LONGEST_VALUE = 80

# `repr` would fail on a value nested a thousand deep, and would write megabytes to keep eighty.
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = _LONGEST_VALUE

logger = structlog.get_logger(__name__)


class ProblemFault(BaseModel):
    """Point at one offending place of the request."""

    pointer: str = Field(description="JSON pointer into the request body; empty for all of it.")
    detail: str = Field(description="What is wrong there.")


class Problem(BaseModel):
    """Describe a failure; every error of the service has this body."""

    type: str = Field(description="Stable URI of the kind of failure.")
    title: str = Field(description="The kind of failure, for people.")
    status: int = Field(description="HTTP status, repeated.")
    detail: str = Field(description="What was wrong this time, and what to do about it.")
    instance: str = Field(description="URI of this occurrence; it carries the request id.")
    code: str = Field(description="Stable name of the kind of failure, for programs.")
    retryable: bool = Field(description="Whether the same request may succeed later.")
    errors: list[ProblemFault] = Field(description="Offending places, if they can be named.")


def problem_response(
    error: ServiceError,
    request_id: str,
    headers: Mapping[str, str] | None = None,
    *,
    path: str = "",
) -> Response:
    """Return the answer for an error.

    Args:
        error: what failed.
        request_id: identity of the request.
        headers: further headers, as `Allow`.
        path: of the request; the Open Inference Protocol's clients look for a field of their own.
    """
    body: dict[str, object] = {
        "type": f"urn:isotrope:problem:{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "instance": f"urn:isotrope:request:{request_id}",
        "code": error.code,
        "retryable": error.retryable,
        "errors": [
            {"pointer": fault.pointer, "detail": fault.detail}
            for fault in error.faults[:_MOST_FAULTS]
        ],
    }
    if path.startswith("/v2"):
        body["error"] = error.detail
    sent = dict(headers or {})
    if error.retry_after_seconds is not None:
        sent["Retry-After"] = str(math.ceil(error.retry_after_seconds))
    if error.status == HTTPStatus.UNAUTHORIZED:
        sent["WWW-Authenticate"] = "Bearer"
    return Response(
        orjson.dumps(body, default=str),
        status_code=error.status,
        headers=sent,
        media_type=MEDIA_TYPE,
    )


def install_problem_handlers(app: FastAPI) -> None:
    """Answer every exception of an application with a problem body."""

    async def on_service_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, ServiceError)
        if isinstance(error, Internal):
            logger.error("internal_error", detail=error.detail, exc_info=error)
        return problem_response(error, _request_id(request), path=request.url.path)

    async def on_invalid_request(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        found = _from_validation(error.errors())
        return problem_response(found, _request_id(request), path=request.url.path)

    async def on_http_exception(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        headers = dict(error.headers or {})
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = _allowed(request)
        found = _from_http(error, request, headers)
        return problem_response(found, _request_id(request), headers, path=request.url.path)

    app.add_exception_handler(ServiceError, on_service_error)
    app.add_exception_handler(RequestValidationError, on_invalid_request)
    app.add_exception_handler(HTTPException, on_http_exception)


def _request_id(request: Request) -> str:
    call = request.scope.get("isotrope.call")
    return call.request_id if call is not None else "unknown"


def _allowed(request: Request) -> str:
    """Return every method of a path; the framework names those of the first route on it only."""
    contexts = iter_route_contexts(request.app.routes)
    routes = [context.original_route for context in contexts]
    return ", ".join(
        sorted(
            method
            for route in routes
            if isinstance(route, Route) and route.matches(request.scope)[0] != Match.NONE
            for method in route.methods or ()
        )
    )


def _from_http(error: HTTPException, request: Request, headers: Mapping[str, str]) -> ServiceError:
    """Return our error for one that the framework raised."""
    if error.status_code == HTTPStatus.NOT_FOUND:
        return UnknownRoute(f"There is nothing at {request.url.path[:200]!r}. See /docs.")
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return MethodNotAllowed(f"{request.method} is not offered here; use {headers['Allow']}.")
    if error.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
        return InvalidInput(str(error.detail))
    return Internal(str(error.detail))


def _from_validation(errors: Sequence[Mapping[str, object]]) -> InvalidInput:
    """Return one error that names every offending place, with its value."""
    faults = tuple(_fault(error) for error in errors[:_MOST_FAULTS])
    first = faults[0]
    place = f"At {first.pointer}: " if first.pointer else ""
    more = f" ({len(errors)} places in all.)" if len(errors) > 1 else ""
    return InvalidInput(f"{place}{first.detail}{more}", faults=faults)


def _fault(error: Mapping[str, object]) -> Fault:
    location = [str(part) for part in error["loc"]]  # type: ignore[attr-defined]
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "json_invalid":
        context = error.get("ctx")
        reason = context.get("error", "") if isinstance(context, dict) else ""
        return Fault("", f"The body is not valid JSON, at character {location[-1]}: {reason}.")
    if error["type"] == "missing" and location == ["body"]:
        return Fault("", "The body is empty; send a JSON object as application/json.")
    pointer = "".join(f"/{_escaped(part)}" for part in location[1:])
    if location[0] != "body":
        message = f"{location[0]} parameter {location[-1]}: {message}"
        pointer = ""
    if error["type"] in {"missing", "extra_forbidden"}:
        return Fault(pointer, message)
    return Fault(pointer, f"{message} (got {shown(error.get('input'))})")


def _escaped(part: str) -> str:
    # RFC 6901: these two characters have a meaning in a pointer
    return part.replace("~", "~0").replace("/", "~1")


def shown(value: object) -> str:
    """Return a value as text, cut to a length that a message can carry."""
    text = _SHORT.repr(value)
    return text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + "…"
