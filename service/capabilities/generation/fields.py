"""Define the fields that several bodies of this room have."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BeforeValidator, Field, StringConstraints

from service.web.wire import WireModel, whole

_Positive = Annotated[int, Field(ge=1, le=2**31 - 1)]
Count = Annotated[_Positive, BeforeValidator(whole, json_schema_input_type=_Positive)]
_Id = Annotated[int, Field(ge=0, le=2**31 - 1)]
TokenId = Annotated[_Id, BeforeValidator(whole, json_schema_input_type=_Id)]
_Top = Annotated[int, Field(ge=0, le=20)]
Top = Annotated[_Top, BeforeValidator(whole, json_schema_input_type=_Top)]
Share = Annotated[float, Field(gt=0, le=1)]
Least = Annotated[float, Field(ge=0, le=1)]
Temperature = Annotated[float, Field(ge=0, le=100)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
IdText = Annotated[str, StringConstraints(pattern="^(0|[1-9][0-9]{0,8})$")]
LogitBias = Annotated[
    dict[IdText, Annotated[float, Field(ge=-100, le=100)]],
    Field(json_schema_extra={"additionalProperties": False}),  # no key of another form
]
StopText = Annotated[str, Field(min_length=1, max_length=256)]
Stops = Annotated[list[StopText], Field(max_length=16)]
MapText: TypeAlias = Literal[
    "softmax", "gaussian", "logistic", "exponential", "uniform",
    "sparsemax", "entmax", "top_k", "top_p", "min_p",
]  # fmt: skip
GivenModel = Annotated[
    str | None, Field(description="Language model; absent or null means the default one.")
]
GivenVariant = Annotated[
    str | None,
    Field(
        description="Variant of attention, run in its own float graph. Absent or null: the "
        "model's default one, in its fast graph where it has one."
    ),
]


class MapOptions(WireModel):
    """Name a probability map with its parameters."""

    name: MapText = Field(description="Which map.")
    scale: Annotated[float, Field(gt=0, le=1e6)] = Field(
        1.0, description="Width of the noise; noise maps only."
    )
    match_variance: bool = Field(
        False,
        description="Whether the noise gets the standard deviation of Gumbel noise; noise maps "
        "only.",
    )
    alpha: Annotated[float, Field(ge=1, le=64)] = Field(1.5, description="Of entmax.")


GivenMap = Annotated[
    MapText | MapOptions,
    Field(
        description="From the logits that are left to probabilities: a name, or a name with its "
        "parameters. `top_k`, `top_p` and `min_p` are softmax with that truncation at its usual "
        "number, 50, 0.95 or 0.05, unless the field of that name says another."
    ),
]


def as_list(value: object) -> object:
    """Return a single text as a list of it."""
    return [value] if isinstance(value, str) else value
