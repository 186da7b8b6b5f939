"""Choose how a model reads positions, from what a request says and what the model was trained to.

A model that was trained to N tokens says nothing useful far beyond them unless its positions are
brought back to where it was trained. What a scheme reaches is a rule (`reach`), and a longer text
is refused unless the caller asks for it by name.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum

from service.errors import Fault, SequenceTooLong
from service.numerics.attention.positions import RopeName, RopeScheme
from service.numerics.attention.scales import STANDARD_LENGTH, ScaleName, ScaleScheme
from service.runtime.decoders.feeds import Reading
from service.runtime.decoders.opened import Family
from service.runtime.family import VariantEntry

_STRETCHED = frozenset({RopeName.PI, RopeName.NTK, RopeName.NTK_FIXED, RopeName.NTK_MIXED})
_WINDOWED = frozenset({RopeName.REROPE, RopeName.LEAKY_REROPE})


class Beyond(StrEnum):
    """Say what happens to a text that is longer than a position scheme reaches."""

    ERROR = "error"
    RUN = "run"


@dataclass(frozen=True, slots=True, kw_only=True)
class RopeChoice:
    """Hold what a request says of positions.

    Attributes:
        name: of the scheme.
        factor: None for the smallest that reaches the text's end.
        mixing: of ntk_mixed.
        window: None for half of the trained length.
    """

    name: RopeName = RopeName.DIRECT
    factor: float | None = None
    mixing: float = 0.625
    window: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleChoice:
    """Hold what a request says of the scale.

    Attributes:
        name: None for what the variant was trained with.
        length: None for the trained length; 512 for log_n on a model not trained with it.
        value: of the scheme `value`, a factor on top of the model's own scale.
    """

    name: ScaleName | None = None
    length: int | None = None
    value: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingChoice:
    """Hold everything that a request says of how a model reads positions."""

    rope: RopeChoice = field(default_factory=RopeChoice)
    scale: ScaleChoice = field(default_factory=ScaleChoice)
    beyond: Beyond = Beyond.ERROR


def choose_reading(
    family: Family, variant: VariantEntry, choice: ReadingChoice, *, tokens: int, pointer: str
) -> Reading:
    """Return position scheme and scale for a text of so many tokens.

    Args:
        family: says the trained length N.
        variant: says what scale it was trained with.
        choice: what the request says.
        tokens: of the text, those that will be generated included.
        pointer: where the text stands in the request.

    Raises:
        SequenceTooLong: the scheme does not reach the text's end.
        InvalidInput: a parameter of the scheme is outside its range.
    """
    trained = family.manifest.max_tokens
    rope = _choose_rope(choice.rope, tokens=tokens, trained=trained)
    longest = reach(rope, trained=trained)
    if tokens > longest and choice.beyond is Beyond.ERROR:
        raise SequenceTooLong(
            f"The text has {tokens} tokens, {family.manifest.id} was trained to {trained}, and "
            f"{rope.name.value} reaches {longest:g}. Shorten it, send a rope that reaches further "
            "(ntk_mixed, say), or beyond_context=run.",
            faults=(Fault(pointer, f"has {tokens} tokens, {longest:g} are read"),),
        )
    return Reading(rope, _choose_scale(choice.scale, variant, trained=trained))


def reach(rope: RopeScheme, *, trained: int) -> float:
    """Return the longest text in which every distance is one that the model was trained to.

    N for direct and none; k N for the stretched schemes; without end for rerope, and
    w + k (N - w) for leaky_rerope, both with a window w ≤ N.
    """
    if rope.name in _STRETCHED:
        # a factor that was computed as tokens / trained must reach those tokens
        return math.floor(rope.factor * trained + 1e-6)
    if rope.window is None or not rope.windowed or rope.window > trained:
        return trained
    if rope.name is RopeName.REROPE:
        return math.inf
    return math.floor(rope.window + rope.factor * (trained - rope.window) + 1e-6)


def _choose_rope(choice: RopeChoice, *, tokens: int, trained: int) -> RopeScheme:
    window = choice.window
    if window is None and choice.name in _WINDOWED:
        window = max(1, trained // 2)
    factor = choice.factor
    if factor is None:
        factor = _least_factor(choice.name, window, tokens=tokens, trained=trained)
    return RopeScheme(name=choice.name, factor=factor, mixing=choice.mixing, window=window)


def _least_factor(name: RopeName, window: int | None, *, tokens: int, trained: int) -> float:
    if name in _STRETCHED:
        return max(1.0, tokens / trained)
    if name is RopeName.LEAKY_REROPE and window is not None and window < trained:
        return max(1.0, (tokens - window) / (trained - window))
    return 1.0


def _choose_scale(choice: ScaleChoice, variant: VariantEntry, *, trained: int) -> ScaleScheme:
    name = ScaleName(variant.scale) if choice.name is None else choice.name
    length = choice.length
    if length is None:
        foreign = name is ScaleName.LOG_N and variant.scale != ScaleName.LOG_N
        length = STANDARD_LENGTH if foreign else trained
    return ScaleScheme(name=name, length=length, value=choice.value)
