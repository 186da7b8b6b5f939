"""Read and write the arrays of a layer."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import numpy as np
from pydantic import Field, PlainValidator, WithJsonSchema

from service.numerics.attention.forms import MOST_MAGNITUDE
from service.numerics.dtypes import Bools, Matrix32
from service.web.rows import read_scores, scores_schema
from service.web.wire import leave_out_default


def _read(value: object, *, axes: tuple[int, int]) -> Matrix32:
    found = read_scores(value, axes=axes, masks=False)
    wrong = ~(np.abs(found) <= MOST_MAGNITUDE)
    if wrong.any():
        place = [int(side) for side in np.argwhere(wrong)[0]]
        raise ValueError(
            f"at {place} stands {found[tuple(place)]:g}; every number must be finite and of size "
            f"{MOST_MAGNITUDE:g} at most"
        )
    return found.astype(np.float32)


def _described(description: str, least: int, most: int) -> WithJsonSchema:
    axes = (least, most)
    return WithJsonSchema(scores_schema(description, axes=axes, masks=False, most=MOST_MAGNITUDE))


Array32 = np.ndarray[Any, np.dtype[np.float32]] | None
_without_default = Field(json_schema_extra=leave_out_default)
GivenQueries = Annotated[
    Array32,
    PlainValidator(partial(_read, axes=(3, 4))),
    _described("Queries (heads, n, d_k), or (batch, heads, n, d_k).", 3, 4),
    _without_default,
]
GivenKeys = Annotated[
    Array32,
    PlainValidator(partial(_read, axes=(3, 4))),
    _described("Keys (kv_heads, n, d_k), or with a batch axis as the queries.", 3, 4),
    _without_default,
]
GivenValues = Annotated[
    Array32,
    PlainValidator(partial(_read, axes=(3, 4))),
    _described("Values (kv_heads, n, d_v), or with a batch axis as the queries.", 3, 4),
    _without_default,
]
GivenHidden = Annotated[
    Array32,
    PlainValidator(partial(_read, axes=(2, 3))),
    _described("Hidden states (n, hidden), or (batch, n, hidden).", 2, 3),
    _without_default,
]
GivenHeadMaps = Annotated[
    Array32,
    PlainValidator(partial(_read, axes=(3, 3))),
    _described("A matrix (in, out) for each head: (heads, in, out).", 3, 3),
    _without_default,
]
GivenMap = Annotated[
    Array32,
    PlainValidator(partial(_read, axes=(2, 2))),
    _described("A matrix (in, out).", 2, 2),
    _without_default,
]


def _read_mask(value: object) -> Bools:
    if not isinstance(value, list) or not value:
        raise ValueError("must be a list of rows, one a query, of true for every key that it sees")
    for number, row in enumerate(value):
        if not isinstance(row, list) or len(row) != len(value):
            raise ValueError(f"row {number} must be a list of {len(value)}, one a key")
        if not set(map(type, row)) <= {bool}:
            raise ValueError(f"row {number} holds something other than true and false")
    return np.array(value, dtype=bool)


GivenMask = Annotated[
    np.ndarray[Any, np.dtype[np.bool_]] | None,
    PlainValidator(_read_mask),
    WithJsonSchema(
        {
            "description": "(n, n): true where a query (row) sees a key (column).",
            "type": "array",
            "minItems": 1,
            "items": {"type": "array", "minItems": 1, "items": {"type": "boolean"}},
        }
    ),
    Field(json_schema_extra=leave_out_default),
]
