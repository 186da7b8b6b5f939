"""Read and write rows of scores: JSON lists, base64 and `.npy`, in the precision that came in."""

from __future__ import annotations

import io
from collections.abc import Mapping
from functools import partial
from itertools import chain
from types import NoneType
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from fastapi import Response
from pydantic import Field, PlainValidator, WithJsonSchema
from starlette.types import Receive, Scope, Send

from service.numerics.dtypes import Logits
from service.web.arrays import PRECISIONS, decode_array
from service.web.negotiation import NPY

_NUMBERS = {int, float}  # by exact type: True is an int to isinstance
_FLOAT64_MOST = 1.7976931348623157e308


def read_scores(value: object, *, axes: tuple[int, int], masks: bool) -> Logits:
    """Return an array of float32 or float64 from nested lists, a base64 object or a `.npy` body.

    JSON numbers are float64. JSON has no infinity, so `null` stands for minus infinity: a mask.

    Args:
        value: what came in.
        axes: fewest and most axes.
        masks: whether `null` is allowed.

    Raises:
        ValueError: it cannot be read as such an array.
    """
    if isinstance(value, np.ndarray):
        found: Logits = value.astype(np.float32) if value.dtype.itemsize == 2 else value  # noqa: PLR2004
    elif isinstance(value, Mapping):
        found = decode_array(value, axes=axes)
    elif isinstance(value, list):
        found = _from_lists(value, most=axes[1], masks=masks)
    else:
        raise ValueError("must be nested lists of numbers, or {shape, dtype, data}")
    least, most = axes
    if not least <= found.ndim <= most or not found.size:
        wanted = f"{least}" if least == most else f"{least} to {most}"
        raise ValueError(f"the shape is {found.shape}; it must have {wanted} axes, none empty")
    return found


def _from_lists(value: list[Any], *, most: int, masks: bool) -> Logits:
    """Return the array, its nesting opened level by level."""
    shape: list[int] = []
    level: list[Any] = [value]
    while (kinds := set(map(type, level))) == {list}:
        lengths = set(map(len, level))
        if len(lengths) > 1:
            raise ValueError(f"the rows have different lengths: {sorted(lengths)[:5]}")
        if 0 in lengths:
            raise ValueError("there is an empty list; every row needs at least one number")
        if len(shape) == most:
            raise ValueError(f"the lists are nested more than {most} deep")
        shape += lengths
        level = list(chain.from_iterable(level))
    allowed = _NUMBERS | {NoneType} if masks else _NUMBERS
    if not kinds <= allowed:
        place = next(place for place, item in enumerate(level) if type(item) not in allowed)
        row, column = divmod(place, shape[-1])
        raise ValueError(
            f"row {row} holds {level[place]!r:.40} at position {column}, which is no number"
        )
    numbers = np.array(level, dtype=np.float64)
    if NoneType in kinds:
        numbers[np.isnan(numbers)] = -np.inf
    return numbers.reshape(shape)


def _lists_schema(depth: int, *, masks: bool, most: float) -> dict[str, Any]:
    number: dict[str, Any] = {"type": "number", "minimum": -most, "maximum": most}
    items: dict[str, Any] = {"anyOf": [number, {"type": "null"}]} if masks else number
    for _ in range(depth):
        items = {"type": "array", "minItems": 1, "items": items}
    return items


def scores_schema(
    description: str, *, axes: tuple[int, int], masks: bool, most: float = _FLOAT64_MOST
) -> dict[str, Any]:
    """Return the JSON schema of what `read_scores` reads, its numbers of size `most` at most."""
    fewest, deepest = axes
    return {
        "description": description,
        "anyOf": [
            *(_lists_schema(depth, masks=masks, most=most) for depth in range(fewest, deepest + 1)),
            {
                "type": "object",
                "additionalProperties": False,
                "required": ["shape", "dtype", "data"],
                "properties": {
                    "shape": {
                        "type": "array",
                        "items": {"type": "integer", "minimum": 1},
                        "minItems": fewest,
                        "maxItems": deepest,
                    },
                    "dtype": {"type": "string", "enum": sorted(PRECISIONS)},
                    "data": {"type": "string", "format": "byte"},
                },
            },
        ],
    }


_MASKED = "`null` in lists, or minus infinity, masks an entry."
_ROWS = scores_schema(f"Rows of logits of one length. {_MASKED}", axes=(2, 2), masks=True)
_ROW = scores_schema(f"One row of logits. {_MASKED}", axes=(1, 1), masks=True)
_TENSOR = scores_schema(
    f"Rows of numbers, or a tensor whose last axis is the row, as attention (heads, queries, "
    f"keys). {_MASKED}",
    axes=(2, 4),
    masks=True,
)
_SAMPLES = scores_schema("Numbers on a line.", axes=(1, 1), masks=False)
_VALUES = scores_schema("Values (keys, d), or one such for each head.", axes=(2, 4), masks=False)
_Array = np.ndarray[Any, np.dtype[np.floating[Any]]]


def _drop_default(schema: dict[str, Any]) -> None:
    """Leave the default out: null is no way to leave a field out."""
    schema.pop("default", None)


_without_default = Field(json_schema_extra=_drop_default)

LogitRows = Annotated[
    _Array,
    PlainValidator(partial(read_scores, axes=(2, 2), masks=True)),
    WithJsonSchema(_ROWS),
]
GivenLogitRows = Annotated[
    _Array | None,
    PlainValidator(partial(read_scores, axes=(2, 2), masks=True)),
    WithJsonSchema(_ROWS),
    _without_default,
]
LogitRow = Annotated[
    _Array,
    PlainValidator(partial(read_scores, axes=(1, 1), masks=True)),
    WithJsonSchema(_ROW),
]
RowTensor = Annotated[
    _Array,
    PlainValidator(partial(read_scores, axes=(2, 4), masks=True)),
    WithJsonSchema(_TENSOR),
]
GivenValues = Annotated[
    _Array | None,
    PlainValidator(partial(read_scores, axes=(2, 4), masks=False)),
    WithJsonSchema(_VALUES),
    _without_default,
]
Samples = Annotated[
    _Array,
    PlainValidator(partial(read_scores, axes=(1, 1), masks=False)),
    WithJsonSchema(_SAMPLES),
]
GivenSamples = Annotated[
    _Array | None,
    PlainValidator(partial(read_scores, axes=(1, 1), masks=False)),
    WithJsonSchema(_SAMPLES),
    _without_default,
]


class ArrayResponse(Response):
    """Send an array of any numbers as a `.npy` file, from the memory in which it lies.

    Args:
        array: any shape; it must not be changed any more.
    """

    media_type = NPY

    def __init__(self, array: npt.NDArray[Any]) -> None:
        contiguous = np.ascontiguousarray(array)
        header = io.BytesIO()
        described = np.lib.format.header_data_from_array_1_0(contiguous)
        np.lib.format.write_array_header_1_0(header, described)
        self._numbers = contiguous.reshape(-1).view(np.uint8).data
        super().__init__(header.getvalue())
        self.headers["content-length"] = str(len(self.body) + len(self._numbers))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send header and numbers one after the other: joining them would copy megabytes."""
        await send(
            {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        )
        await send({"type": "http.response.body", "body": bytes(self.body), "more_body": True})
        await send({"type": "http.response.body", "body": self._numbers})
