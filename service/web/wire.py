"""Read and write vectors: JSON lists, base64 and `.npy`, numpy all the way to the socket."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
import orjson
from fastapi import Request, Response
from pydantic import BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema

from service.numerics.dtypes import Matrix32
from service.numerics.seeds import MOST_SEED, draw_seed
from service.runtime.engine import Engine
from service.web.arrays import decode_array
from service.web.negotiation import JSON, NPY, preferred

EncodingFormat = Literal["float", "base64"]
_DIMENSIONS = 2
_NUMBERS = {int, float}  # by exact type: True is an int to isinstance


class WireModel(BaseModel):
    """Base of every body that comes in: nothing unknown, nothing converted, nothing changed."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True
    )


def whole(value: object) -> object:
    """Return 8 for 8.0: in JSON both are one number, and some clients write the second."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def leave_out_default(schema: dict[str, Any]) -> None:
    """Take the default out of a schema: null, or an empty text, is no way to leave a field out."""
    schema.pop("default", None)


def _read_vectors(value: object) -> Matrix32:
    """Return (n, d) float32 from nested lists, a base64 object or a `.npy` body; n, d ≥ 1."""
    if isinstance(value, np.ndarray):
        return _from_array(value)
    if isinstance(value, Mapping):
        encoded = decode_array(value, axes=(2, 2), precisions=("float32",))
        return _finite(encoded.astype(np.float32, copy=False), encoded)
    if not isinstance(value, list) or not value:
        raise ValueError("must be a list of vectors, or {shape, dtype, data}; at least one vector")
    lengths = {len(row) if isinstance(row, list) else -1 for row in value}
    if -1 in lengths or 0 in lengths:
        raise ValueError("every vector must be a list of at least one number")
    if len(lengths) > 1:
        raise ValueError(f"the vectors have different lengths: {sorted(lengths)[:5]}")
    for number, row in enumerate(value):
        if not set(map(type, row)) <= _NUMBERS:
            wrong = next(item for item in row if type(item) not in _NUMBERS)
            raise ValueError(f"vector {number} holds {wrong!r:.40}, which is no number")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes inf, and is refused below
        wide = np.array(value, dtype=np.float64)
        return _finite(wide.astype(np.float32), wide)


def _from_array(value: np.ndarray[Any, Any]) -> Matrix32:
    if value.ndim != _DIMENSIONS or not value.size:
        raise ValueError(f"the array has shape {value.shape}; it must be (n, d), both at least 1")
    with np.errstate(over="ignore"):
        return _finite(np.ascontiguousarray(value, dtype=np.float32), value)


def _finite(vectors: Matrix32, given: np.ndarray[Any, Any]) -> Matrix32:
    if not np.isfinite(vectors).all():
        row, column = np.argwhere(~np.isfinite(vectors))[0]
        raise ValueError(
            f"vector {row} holds {given[row, column]} at position {column}; "
            "every number must be finite in float32"
        )
    return vectors


_FLOAT32_MOST = 3.4028234663852886e38
VECTORS_SCHEMA: dict[str, Any] = {
    "description": "Vectors of one length, as lists or as base64 of little-endian float32.",
    "anyOf": [
        {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "array",
                "minItems": 1,
                "items": {"type": "number", "minimum": -_FLOAT32_MOST, "maximum": _FLOAT32_MOST},
            },
        },
        {
            "type": "object",
            "additionalProperties": False,
            "required": ["shape", "dtype", "data"],
            "properties": {
                "shape": {
                    "type": "array",
                    "items": {"type": "integer", "minimum": 1},
                    "minItems": 2,
                    "maxItems": 2,
                },
                "dtype": {"type": "string", "const": "float32"},
                "data": {"type": "string", "format": "byte"},
            },
        },
    ],
}

Vectors = Annotated[
    np.ndarray[Any, np.dtype[np.float32]],
    PlainValidator(_read_vectors),
    WithJsonSchema(VECTORS_SCHEMA),
]
# For a field that may be left out: None where it is, and null is no way to leave it out.
GivenVectors = Annotated[
    np.ndarray[Any, np.dtype[np.float32]] | None,
    PlainValidator(_read_vectors),
    WithJsonSchema(VECTORS_SCHEMA),
    Field(json_schema_extra=leave_out_default),
]


_SEED_SCHEMA = {
    "description": "Seed of everything random; without it one is drawn. The answer repeats it.",
    "type": "integer",
    "minimum": 0,
    "maximum": MOST_SEED,
}


def _read_seed(value: object) -> int:
    number = whole(value)
    if type(number) is not int or not 0 <= number <= MOST_SEED:
        raise ValueError(f"must be a whole number from 0 to {MOST_SEED}")
    return number


# A request without a seed gets one of its own: two such differ, and both can be repeated.
Seed = Annotated[
    int,
    PlainValidator(_read_seed),
    WithJsonSchema(_SEED_SCHEMA),
    Field(default_factory=draw_seed),
]


def wants_npy(request: Request) -> bool:
    """Return whether the request would rather have `.npy` than JSON."""
    return preferred(request, (JSON, NPY)) == NPY


def json_response(body: Mapping[str, object], status: int = 200) -> Response:
    """Return a body as JSON; numpy arrays in it go out without becoming Python floats."""
    return Response(
        orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY),
        status_code=status,
        media_type=JSON,
    )


def encode_rows(vectors: Matrix32, encoding_format: EncodingFormat) -> list[object]:
    """Return each row as its array, or as base64 of little-endian float32."""
    contiguous = np.ascontiguousarray(vectors, dtype="<f4")
    if encoding_format == "float":
        return list(contiguous)
    return [base64.b64encode(row).decode("ascii") for row in contiguous]


# orjson writes about 20 numbers a microsecond: up to here the event loop hardly notices.
_INLINE_NUMBERS = 20_000


async def json_reply(engine: Engine, body: Mapping[str, object], *, numbers: int) -> Response:
    """Return a body as JSON, written in the compute pool where it holds many numbers."""
    if numbers <= _INLINE_NUMBERS:
        return json_response(body)
    return await engine.compute(json_response, body)
