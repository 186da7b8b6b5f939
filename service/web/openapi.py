"""Generate a document that clients can be generated from."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute, iter_route_contexts

from service import __version__
from service.web.auth import OPEN_PATHS
from service.web.negotiation import NPY
from service.web.problems import MEDIA_TYPE, Problem
from service.web.routing import ServiceRoute

_PROBLEM_REF = {"$ref": "#/components/schemas/Problem"}
_TITLES = {
    401: "An API key is needed.",
    404: "Something that the request names is unknown.",
    409: "The request conflicts with what is stored.",
    413: "The request is larger than a limit.",
    415: "The body is of a kind that the operation does not read.",
    422: "The request cannot be computed.",
    429: "The service is at capacity; try again after `Retry-After` seconds.",
    500: "The service broke a promise of its own.",
    503: "The service, or the model, is not ready.",
    504: "The deadline passed.",
}
DESCRIPTION = """\
Inference and analysis for the geometry of text, over ONNX models.

Every error is `application/problem+json` with one body, the schema `Problem`. Every answer carries
`X-Request-ID` and `Server-Timing`. `X-Request-Timeout-Ms` shortens the deadline of a request.
"""
_READ_HEADERS: dict[str, Any] = {
    "RequestId": {
        "name": "X-Request-ID",
        "in": "header",
        "required": False,
        "description": "Identity of the request, 1 to 128 visible ASCII characters; echoed. One "
        "that is absent, or of another form, is replaced.",
        "schema": {"type": "string"},
    },
    # Not listed with the operations: with 1 ms almost every one of them answers 504, truly.
    "RequestTimeout": {
        "name": "X-Request-Timeout-Ms",
        "in": "header",
        "required": False,
        "description": "Milliseconds after which the answer is of no use any more; then it is 504. "
        "Every operation reads it.",
        "schema": {"type": "string", "pattern": "^[1-9][0-9]{0,8}$"},
    },
}
_SENT_HEADERS: dict[str, Any] = {
    "RequestId": {
        "description": "Identity of the request; the log has it too.",
        "schema": {"type": "string"},
    },
    "ServerTiming": {
        "description": "Milliseconds by stage, as `cache;dur=0.21, total;dur=1.90`.",
        "schema": {"type": "string"},
    },
}
_MODEL_CALL = (401, 404, 413, 415, 422, 429, 500, 503, 504)


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the `responses=` of a route for the errors that it can answer."""
    return {status: {"description": _TITLES[status]} for status in statuses}


def model_problems(*more: int) -> dict[int | str, dict[str, Any]]:
    """Return the errors of every route that runs a model, and further ones."""
    return problems(*sorted({*_MODEL_CALL, *more}))


def operation_id(route: APIRoute) -> str:
    """Return the name of the handler: stable, and unique by a test."""
    return route.name


def build_document(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document; FastAPI's own, with every error body put right.

    FastAPI documents its own validation error, leaves a schema out that is only referred to, and
    would describe error bodies as `application/json`.
    """
    if app.openapi_schema:
        return app.openapi_schema
    document = get_openapi(
        title="Isotrope",
        version=__version__,
        description=DESCRIPTION,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        routes=app.routes,
        tags=app.openapi_tags,
        servers=[{"url": "/", "description": "The service that sent this document."}],
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(problem.pop("$defs"))
    schemas["Problem"] = problem
    for schema in schemas.values():
        _keep_one_object(schema)
        _mend_leaves(schema)
    document["components"]["securitySchemes"] = {
        "apiKey": {
            "type": "http",
            "scheme": "bearer",
            "description": "One of the service's keys, where it was started with keys.",
        }
    }
    document["security"] = [{}, {"apiKey": []}]
    document["components"]["parameters"] = _READ_HEADERS
    document["components"]["headers"] = _SENT_HEADERS
    _add_matrix_bodies(app, document)
    for path, operations in document["paths"].items():
        for operation in operations.values():
            _mend_errors(operation, guarded=path not in OPEN_PATHS)
            _add_headers(operation)
    app.openapi_schema = document
    return document


def _keep_one_object(schema: dict[str, Any]) -> None:
    """Say which fields go together beside an object, not in its place.

    A choice at the top of an object's schema, as `oneOf: [{required: [texts]}, …]`, is read by
    generators as so many other types, and the object's own fields are lost.
    """
    if schema.get("type") != "object":
        return
    for union in ("oneOf", "anyOf"):
        if union in schema:
            schema.setdefault("allOf", []).append({union: schema.pop(union)})


def _mend_leaves(schema: object) -> None:
    """Write files and single choices in the way that every generator reads.

    One takes a file without `format: binary` for text, and tries no further alternative after a
    `const` that does not match, where it does after an `enum` of one.
    """
    if not isinstance(schema, dict):
        for each in schema if isinstance(schema, list) else ():
            _mend_leaves(each)
        return
    if schema.pop("contentMediaType", None) is not None:
        schema["format"] = "binary"
    for alternative in schema.get("anyOf", ()):
        if "const" in alternative:
            alternative["enum"] = [alternative.pop("const")]
    for key, each in schema.items():
        if key != "examples":
            _mend_leaves(each)


def _add_matrix_bodies(app: FastAPI, document: dict[str, Any]) -> None:
    """Document the second form of a body: one `.npy` array, the other fields in the query."""
    for context in iter_route_contexts(app.routes):
        route = context.original_route
        if not isinstance(route, ServiceRoute) or route.matrix_field is None:
            continue
        content = document["paths"][route.path_format]["post"]["requestBody"]["content"]
        content[NPY] = {
            "schema": {
                "type": "string",
                "format": "binary",
                "description": f"`{route.matrix_field}` as one .npy array; every other field of "
                "the JSON body is a query parameter, written as in JSON.",
            }
        }


def _mend_errors(operation: dict[str, Any], *, guarded: bool) -> None:
    """Give every error answer of an operation the problem body."""
    responses = operation["responses"]
    for status in (422, 500, *((401,) if guarded else ())):
        responses.setdefault(str(status), {})
    for status, response in responses.items():
        if not status.startswith(("4", "5")):
            continue
        response["description"] = _TITLES[int(status)]
        response["content"] = {MEDIA_TYPE: {"schema": dict(_PROBLEM_REF)}}
        if status == "429":
            response["headers"] = {
                "Retry-After": {
                    "description": "Seconds after which a retry has a chance.",
                    "schema": {"type": "integer", "minimum": 1},
                }
            }
    operation["responses"] = dict(sorted(responses.items()))


def _add_headers(operation: dict[str, Any]) -> None:
    """Document the headers that every operation reads and sends."""
    operation.setdefault("parameters", []).append({"$ref": "#/components/parameters/RequestId"})
    for response in operation["responses"].values():
        response.setdefault("headers", {}).update(
            {
                "X-Request-ID": {"$ref": "#/components/headers/RequestId"},
                "Server-Timing": {"$ref": "#/components/headers/ServerTiming"},
            }
        )
