"""Read bodies fast, refuse the wrong kind early, and stop working for clients that left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, ClassVar, get_args, get_origin

import orjson
from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from service.errors import Fault, InvalidInput, UnsupportedMediaType
from service.web.call import CLIENT_LEFT, SCOPE_KEY, Call
from service.web.negotiation import JSON, NPY
from service.web.npy import parse_npy

_BODY_METHODS = frozenset({"POST", "PUT", "PATCH"})
_MULTIPART = "multipart/form-data"


class FastJsonRequest(Request):
    """Parse JSON with orjson; it also refuses what JSON forbids: NaN and lone surrogates."""

    async def json(self) -> Any:  # noqa: ANN401 - the base class says so
        """Return the parsed body."""
        return orjson.loads(await self.body())


class NpyRequest(Request):
    """Read a body that is one `.npy` array, with the other fields in the query.

    To the framework it is a request with a JSON body, so that validation, errors and handlers are
    the same in both forms.
    """

    def __init__(self, request: Request, model: type[BaseModel], field: str) -> None:
        headers = [
            (name, JSON.encode() if name == b"content-type" else value)
            for name, value in request.scope["headers"]
        ]
        super().__init__({**request.scope, "headers": headers}, request.receive)
        self._model = model
        self._field = field
        self._given = request.query_params
        self._matrix: object = None

    async def json(self) -> Any:  # noqa: ANN401 - the base class says so
        """Return the body's fields."""
        fields = {name: self._value(name, self._given.getlist(name)) for name in self._given}
        return {**fields, self._field: self._matrix}

    async def parse(self) -> None:
        """Read the array; what is raised inside `json()` the framework would hide.

        Raises:
            InvalidInput: the body is no array that is read here.
        """
        try:
            self._matrix = parse_npy(await self.body())
        except ValueError as error:
            pointer = f"/{self._field}"
            raise InvalidInput(
                f"At {pointer}: {error}", faults=(Fault(pointer, str(error)),)
            ) from None

    def _value(self, name: str, given: list[str]) -> object:
        """Return a query parameter as JSON or text; one that recurs makes a list."""
        known = self._model.model_fields.get(name)
        as_text = known is not None and _takes_text(known.annotation)
        values = [text if as_text else _json_or_text(text) for text in given]
        return values[0] if len(values) == 1 else values


def _json_or_text(text: str) -> object:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def _takes_text(annotation: object) -> bool:
    """Return whether a field's type is text, or a choice of texts, or one of several such."""
    if get_origin(annotation) in {list, dict}:
        return False
    return (
        annotation is str
        or isinstance(annotation, str)
        or any(_takes_text(part) for part in get_args(annotation))
    )


class ServiceRoute(APIRoute):
    """Handle a request with a JSON body, or with one matrix where its model names a `matrix_field`.

    It is cancelled when its client closes the connection, and given up after its deadline.
    """

    kinds: ClassVar[tuple[str, ...]] = (JSON,)
    request_class: ClassVar[type[FastJsonRequest]] = FastJsonRequest

    @property
    def matrix_field(self) -> str | None:
        """Return the field that a `.npy` body fills, where there is one."""
        return getattr(self._body_model(), "matrix_field", None)

    def _body_model(self) -> type[BaseModel] | None:
        model = None if self.body_field is None else self.body_field.field_info.annotation
        return model if isinstance(model, type) and issubclass(model, BaseModel) else None

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return FastAPI's handler inside ours."""
        inner = super().get_route_handler()
        if not _BODY_METHODS & (self.methods or set()):
            return inner
        model, field = self._body_model(), self.matrix_field
        kinds = self.kinds if field is None else (*self.kinds, NPY)

        async def handle(request: Request) -> Response:
            kind = _require_kind(request.headers, kinds)
            fast: Request
            if kind == NPY and model is not None and field is not None:
                fast = NpyRequest(request, model, field)
            else:
                fast = self.request_class(request.scope, request.receive)
            try:
                await fast.body()
            except ClientDisconnect:  # the upload broke off
                return Response(status_code=CLIENT_LEFT)
            if isinstance(fast, NpyRequest):
                await fast.parse()
            call: Call = request.scope[SCOPE_KEY]
            async with call.hold_to_deadline():
                return await _while_connected(inner(fast), request.receive)

        return handle


class UploadRoute(ServiceRoute):
    """Handle a request whose body is a form with a file."""

    kinds = (_MULTIPART,)


def _require_kind(headers: Mapping[str, str], kinds: tuple[str, ...]) -> str:
    """Return the media type of the body, `+json` counted as JSON."""
    coding = headers.get("content-encoding", "identity")
    if coding.strip().lower() != "identity":
        raise UnsupportedMediaType(
            f"The content encoding is {coding[:80]!r}; send the body uncompressed."
        )
    given = headers.get("content-type", "")
    kind = given.partition(";")[0].strip().lower()
    if kind.startswith("application/") and kind.endswith("+json"):
        kind = JSON
    if kind not in kinds:
        raise UnsupportedMediaType(
            f"The content type is {given[:80]!r}; this operation reads {' or '.join(kinds)}."
        )
    return kind


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
