"""Define how a request says positions, scales and noise; shared by layers and models."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, Field

from service.errors import Fault, InvalidInput
from service.numerics.attention.positions import MOST_FACTOR, MOST_WINDOW, RopeName, RopeScheme
from service.numerics.attention.scales import (
    MOST_SCALE,
    STANDARD_LENGTH,
    ScaleName,
    ScaleScheme,
)
from service.web.wire import Seed, WireModel, whole

VariantName: TypeAlias = Literal["mha", "mqa", "gqa", "mla", "mla_absorbed"]
RopeLiteral: TypeAlias = Literal[
    "none", "direct", "pi", "ntk", "ntk_fixed", "ntk_mixed", "rerope", "leaky_rerope"
]
ScaleLiteral: TypeAlias = Literal["sqrt", "log_n", "log_n_dagger"]

_FACTOR, _MIXING, _WINDOW = 2.0, 0.625, 512
_Window = Annotated[int, Field(ge=1, le=MOST_WINDOW)]
_Length = Annotated[int, Field(ge=2, le=2**31 - 1)]
_READ_BY_ROPE: Mapping[str, Collection[str]] = {
    "factor": {"pi", "ntk", "ntk_fixed", "ntk_mixed", "leaky_rerope"},
    "mixing": {"ntk_mixed"},
    "window": {"rerope", "leaky_rerope"},
}


class RopeChoice(WireModel):
    """Say how positions become angles."""

    name: RopeLiteral = Field(
        description="`none`; `direct`; `pi`: all angles k times slower; `ntk`, `ntk_fixed`, "
        "`ntk_mixed`: slow pairs more than quick ones; `rerope`: distances stay at `window`; "
        "`leaky_rerope`: beyond it they grow k times slower."
    )
    factor: Annotated[float, Field(ge=1, le=MOST_FACTOR)] = Field(
        _FACTOR, description="k, how many times the trained length is read."
    )
    mixing: Annotated[float, Field(ge=0, le=1)] = Field(
        _MIXING, description="b of `ntk_mixed`: 0 is `pi`, 1 is `ntk_fixed`."
    )
    window: Annotated[_Window, BeforeValidator(whole, json_schema_input_type=_Window)] = Field(
        _WINDOW, description="Positions within which distances stay true; of the rerope schemes."
    )


class ScaleChoice(WireModel):
    """Say what multiplies the scores of a row."""

    name: ScaleLiteral = Field(
        description="`sqrt`: 1/√d. `log_n`: ln n / ln `length` times that, n the keys that the row "
        "sees. `log_n_dagger`: max(1, ln n / ln `length`) times that."
    )
    length: Annotated[_Length, BeforeValidator(whole, json_schema_input_type=_Length)] = Field(
        STANDARD_LENGTH,
        description="Of `log_n`: where nothing changes. Of `log_n_dagger`: the trained length.",
    )


RopeField: TypeAlias = RopeLiteral | RopeChoice
ScaleNumber = Annotated[float, Field(gt=0, le=MOST_SCALE)]
ScaleField: TypeAlias = ScaleLiteral | ScaleNumber | ScaleChoice


class NoiseChoice(WireModel):
    """Say which noise is added to the scores."""

    sigma: Annotated[float, Field(ge=0, le=10)] = Field(
        description="Standard deviation of normal noise on each score, in nats."
    )
    seed: Seed


class RopeAnswer(BaseModel):
    """Repeat how positions became angles; null where the scheme does not read a parameter."""

    name: RopeLiteral
    factor: float | None
    mixing: float | None
    window: int | None


class ScaleAnswer(BaseModel):
    """Repeat what multiplied the scores."""

    name: Literal["sqrt", "log_n", "log_n_dagger", "value"]
    length: int | None
    value: float | None = Field(description="Of a number: what q·k was multiplied by.")


def rope_scheme(given: RopeField, *, pointer: str = "/rope") -> RopeScheme:
    """Return the position scheme that a request names.

    Raises:
        InvalidInput: a parameter was given that the scheme does not read.
    """
    chosen = RopeChoice(name=given) if isinstance(given, str) else given
    for field in sorted(chosen.model_fields_set & set(_READ_BY_ROPE)):
        if chosen.name not in _READ_BY_ROPE[field]:
            raise InvalidInput(
                f"The position scheme {chosen.name!r} does not read {field}, which belongs to "
                f"{', '.join(sorted(_READ_BY_ROPE[field]))}. Leave it out, or choose another.",
                faults=(Fault(f"{pointer}/{field}", f"is not read by {chosen.name!r}"),),
            )
    return RopeScheme(
        name=RopeName(chosen.name),
        factor=chosen.factor if chosen.name in _READ_BY_ROPE["factor"] else 1.0,
        mixing=chosen.mixing,
        window=chosen.window if chosen.name in _READ_BY_ROPE["window"] else None,
    )


def scale_scheme(given: ScaleField, *, pointer: str = "/scale") -> ScaleScheme:
    """Return the scale that a request names, or the number that it gives.

    Raises:
        InvalidInput: a length was given to `sqrt`, which does not read it.
    """
    if isinstance(given, float | int):
        return ScaleScheme(name=ScaleName.VALUE, value=float(given))
    chosen = ScaleChoice(name=given) if isinstance(given, str) else given
    if chosen.name == "sqrt" and "length" in chosen.model_fields_set:
        raise InvalidInput(
            "The scale 'sqrt' does not read length, which belongs to log_n and log_n_dagger. "
            "Leave it out, or choose another.",
            faults=(Fault(f"{pointer}/length", "is not read by 'sqrt'"),),
        )
    return ScaleScheme(name=ScaleName(chosen.name), length=chosen.length)


def describe_rope(scheme: RopeScheme) -> dict[str, object]:
    """Return a position scheme with the parameters that it reads."""
    name = scheme.name.value
    return {
        "name": name,
        "factor": scheme.factor if name in _READ_BY_ROPE["factor"] else None,
        "mixing": scheme.mixing if name in _READ_BY_ROPE["mixing"] else None,
        "window": scheme.window,
    }


def describe_scale(scheme: ScaleScheme) -> dict[str, object]:
    """Return a scale with the parameters that it reads."""
    logarithmic = scheme.name in {ScaleName.LOG_N, ScaleName.LOG_N_DAGGER}
    return {
        "name": scheme.name.value,
        "length": scheme.length if logarithmic else None,
        "value": scheme.value if scheme.name is ScaleName.VALUE else None,
    }
