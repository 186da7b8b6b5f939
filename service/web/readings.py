"""Read how a language model shall read positions: `rope`, `scale` and `beyond_context`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, Field

from service.errors import Fault, InvalidInput
from service.numerics.attention.positions import MOST_FACTOR, MOST_WINDOW, RopeName
from service.numerics.attention.scales import MOST_SCALE, ScaleName
from service.runtime.decoders.feeds import Reading
from service.runtime.decoders.reading import Beyond, ReadingChoice, RopeChoice, ScaleChoice
from service.web.wire import WireModel, whole

RopeText: TypeAlias = Literal[
    "none", "direct", "pi", "ntk", "ntk_fixed", "ntk_mixed", "rerope", "leaky_rerope"
]
ScaleText: TypeAlias = Literal["sqrt", "log_n", "log_n_dagger"]

_WindowNumber = Annotated[int, Field(ge=1, le=MOST_WINDOW)]
Window = Annotated[_WindowNumber, BeforeValidator(whole, json_schema_input_type=_WindowNumber)]
_LengthNumber = Annotated[int, Field(ge=2, le=MOST_WINDOW)]
Length = Annotated[_LengthNumber, BeforeValidator(whole, json_schema_input_type=_LengthNumber)]
_PARAMETERS = ("factor", "mixing", "window")
_READ_BY: Mapping[str, frozenset[str]] = {
    "none": frozenset(),
    "direct": frozenset(),
    **dict.fromkeys(("pi", "ntk", "ntk_fixed"), frozenset({"factor"})),
    "ntk_mixed": frozenset({"factor", "mixing"}),
    "rerope": frozenset({"window"}),
    "leaky_rerope": frozenset({"factor", "window"}),
}


class RopeOptions(WireModel):
    """Name a position scheme with its parameters."""

    name: RopeText = Field(description="Which scheme.")
    factor: Annotated[float, Field(ge=1, le=MOST_FACTOR)] | None = Field(
        None,
        description="How many times the trained length is read; of pi, ntk, ntk_fixed, ntk_mixed "
        "and leaky_rerope. Absent: the smallest that reaches the end of the text.",
    )
    mixing: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="Of ntk_mixed: 0 is pi, 1 is ntk_fixed; 0.625 where it is absent."
    )
    window: Window | None = Field(
        None,
        description="Of rerope and leaky_rerope: distance in tokens up to which it counts truly. "
        "Absent: half of the trained length.",
    )


class ScaleOptions(WireModel):
    """Name a scale, or give a number."""

    name: ScaleText | None = Field(None, description="Which scale.")
    length: Length | None = Field(
        None,
        description="Tokens at which log_n leaves scores as they are, or up to which log_n_dagger "
        "does. Absent: the trained length; 512 for log_n on a model not trained with it.",
    )
    value: Annotated[float, Field(gt=0, le=MOST_SCALE)] | None = Field(
        None, description="Factor on every score, in place of a name."
    )


def _by_name(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


def _by_name_or_number(value: object) -> object:
    if isinstance(value, bool):
        return value
    return {"value": value} if isinstance(value, int | float) else _by_name(value)


# A name alone becomes an object before it is checked, so that a fault points at one place.
GivenRope = Annotated[
    RopeOptions,
    BeforeValidator(_by_name, json_schema_input_type=RopeText | RopeOptions),
    Field(
        "direct",
        validate_default=True,
        description="How positions become angles: a name, or a name with its parameters.",
    ),
]
GivenScale = Annotated[
    ScaleOptions,
    BeforeValidator(
        _by_name_or_number,
        json_schema_input_type=ScaleText
        | Annotated[float, Field(gt=0, le=MOST_SCALE)]
        | ScaleOptions,
    ),
    Field(
        default_factory=ScaleOptions,
        description="What multiplies the scores of a row, on top of the model's own 1/√d: a name, "
        "a number, or a name with its length. Absent: what the variant was trained with.",
    ),
]
GivenBeyond = Annotated[
    Literal["error", "run"],
    Field(
        "error",
        description="What happens to a text that is longer than the scheme reaches: a refusal, or "
        "a run all the same, to see how it fails.",
    ),
]


class RopeUsed(BaseModel):
    """Repeat how positions became angles; null where the scheme does not read a parameter."""

    name: RopeText
    factor: float | None
    mixing: float | None
    window: int | None


class ScaleUsed(BaseModel):
    """Repeat what multiplied the scores of a row."""

    name: Literal["sqrt", "log_n", "log_n_dagger", "value"]
    length: int | None
    value: float | None


def reading_choice(
    rope: RopeOptions,
    scale: ScaleOptions,
    beyond: Literal["error", "run"],
    *,
    pointer: str = "",
) -> ReadingChoice:
    """Return what a request says of positions.

    Args:
        rope: as it came.
        scale: as it came.
        beyond: as it came.
        pointer: of the object that holds them, for messages.

    Raises:
        InvalidInput: a parameter belongs to another scheme.
    """
    return ReadingChoice(
        rope=_rope_choice(rope, pointer),
        scale=_scale_choice(scale, pointer),
        beyond=Beyond(beyond),
    )


def _rope_choice(rope: RopeOptions, pointer: str) -> RopeChoice:
    given = rope.model_dump(exclude={"name"}, exclude_none=True)
    for name in sorted(set(given) - _READ_BY[rope.name]):
        raise InvalidInput(
            f"The position scheme {rope.name!r} does not read {name}; leave it out.",
            faults=(Fault(f"{pointer}/rope/{name}", f"is not read by {rope.name}"),),
        )
    return RopeChoice(name=RopeName(rope.name), **given)


def _scale_choice(scale: ScaleOptions, pointer: str) -> ScaleChoice:
    if scale.value is not None and (scale.name, scale.length) != (None, None):
        raise InvalidInput(
            f"The scale is given as the number {scale.value:g} and by name or length; one will do.",
            faults=(Fault(f"{pointer}/scale", "is given twice"),),
        )
    if scale.length is not None and scale.name in {None, "sqrt"}:
        raise InvalidInput(
            "A length belongs to the scales log_n and log_n_dagger; name one, or leave it out.",
            faults=(Fault(f"{pointer}/scale/length", "belongs to log_n and log_n_dagger"),),
        )
    if scale.value is not None:
        return ScaleChoice(name=ScaleName.VALUE, value=scale.value)
    name = None if scale.name is None else ScaleName(scale.name)
    return ScaleChoice(name=name, length=scale.length)


def describe_reading(reading: Reading) -> dict[str, Any]:
    """Return `rope` and `scale` of an answer: what was really used, parameters that matter only."""
    rope, scale = reading.rope, reading.scale
    read = _READ_BY[rope.name.value]
    return {
        "rope": {
            "name": rope.name.value,
            **{name: getattr(rope, name) if name in read else None for name in _PARAMETERS},
        },
        "scale": {
            "name": scale.name.value,
            "length": None if scale.name in {ScaleName.SQRT, ScaleName.VALUE} else scale.length,
            "value": scale.value if scale.name is ScaleName.VALUE else None,
        },
    }
