"""A scheme reaches so far and no farther; what a request leaves out follows from the model."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import InvalidInput, SequenceTooLong
from service.numerics.attention.positions import RopeName, RopeScheme
from service.numerics.attention.scales import ScaleName
from service.runtime.decoders.opened import Family
from service.runtime.decoders.reading import (
    Beyond,
    ReadingChoice,
    RopeChoice,
    ScaleChoice,
    choose_reading,
    reach,
)
from service.runtime.decoders.tokenizers import ByteTokenizer
from service.runtime.manifest import parse_manifest

TRAINED = 128


@pytest.fixture(scope="module")
def family(decoder_models: Path) -> Family:
    folder = decoder_models / "tiny-decoder"
    manifest = parse_manifest(json.loads((folder / "manifest.json").read_text()), "here")
    assert manifest.family is not None
    return Family(folder, manifest, manifest.family, ByteTokenizer())


def choose(family: Family, tokens: int, **rope: object) -> RopeScheme:
    choice = ReadingChoice(rope=RopeChoice(**rope))  # type: ignore[arg-type]
    variant = family.variant(None)
    return choose_reading(family, variant, choice, tokens=tokens, pointer="/text").rope


@pytest.mark.parametrize(
    ("scheme", "longest"),
    [
        (RopeScheme(), 128),
        (RopeScheme(name=RopeName.NONE), 128),
        (RopeScheme(name=RopeName.PI, factor=4), 512),
        (RopeScheme(name=RopeName.NTK_MIXED, factor=1.5), 192),
        (RopeScheme(name=RopeName.REROPE, window=64), math.inf),
        (RopeScheme(name=RopeName.REROPE, window=129), 128),
        (RopeScheme(name=RopeName.LEAKY_REROPE, window=64, factor=8), 64 + 8 * 64),
        (RopeScheme(name=RopeName.LEAKY_REROPE, window=500, factor=8), 128),
    ],
)
def test_what_a_scheme_reaches(scheme: RopeScheme, longest: float) -> None:
    assert reach(scheme, trained=TRAINED) == longest


@given(
    st.integers(1, 10**6),
    st.sampled_from(["pi", "ntk", "ntk_fixed", "ntk_mixed", "rerope", "leaky_rerope"]),
)
def test_without_a_factor_a_scheme_reaches_any_text(tokens: int, name: str) -> None:
    # nothing of the family but the trained length is read here
    from service.runtime.decoders.reading import _choose_rope

    scheme = _choose_rope(RopeChoice(name=RopeName(name)), tokens=tokens, trained=TRAINED)
    assert reach(scheme, trained=TRAINED) >= tokens
    if tokens <= TRAINED:
        assert scheme.factor == 1


def test_a_text_beyond_the_reach_names_both_lengths(family: Family) -> None:
    assert choose(family, 128) == RopeScheme()
    with pytest.raises(SequenceTooLong, match="has 129 tokens, tiny-decoder was trained to 128"):
        choose(family, 129)
    with pytest.raises(SequenceTooLong, match="pi reaches 256"):
        choose(family, 257, name=RopeName.PI, factor=2.0)
    assert choose(family, 256, name=RopeName.PI, factor=2.0).factor == 2


def test_run_runs_all_the_same(family: Family) -> None:
    choice = ReadingChoice(beyond=Beyond.RUN)
    found = choose_reading(family, family.variant(None), choice, tokens=10**5, pointer="/text")
    assert found.rope == RopeScheme()


def test_a_window_is_half_of_the_trained_length(family: Family) -> None:
    assert choose(family, 300, name=RopeName.REROPE).window == 64
    leaky = choose(family, 576, name=RopeName.LEAKY_REROPE)
    assert (leaky.window, leaky.factor) == (64, 8)


@pytest.mark.parametrize(
    ("trained_with", "asked", "name", "length"),
    [
        ("sqrt", ScaleChoice(), "sqrt", None),
        ("log_n", ScaleChoice(), "log_n", 128),
        ("log_n", ScaleChoice(name=ScaleName.LOG_N), "log_n", 128),
        ("sqrt", ScaleChoice(name=ScaleName.LOG_N), "log_n", 512),
        ("sqrt", ScaleChoice(name=ScaleName.LOG_N, length=64), "log_n", 64),
        ("sqrt", ScaleChoice(name=ScaleName.LOG_N_DAGGER), "log_n_dagger", 128),
        ("log_n", ScaleChoice(name=ScaleName.SQRT), "sqrt", None),
    ],
)
def test_the_scale_is_the_trained_one_unless_another_is_asked(
    family: Family, trained_with: str, asked: ScaleChoice, name: str, length: int | None
) -> None:
    variant = replace(family.variant(None), scale=trained_with)
    choice = ReadingChoice(scale=asked)
    scale = choose_reading(family, variant, choice, tokens=10, pointer="/text").scale
    assert scale.name.value == name
    if length is not None:
        assert scale.length == length


def test_what_no_scheme_can_be_is_refused(family: Family) -> None:
    with pytest.raises(InvalidInput, match="factor of the position scheme is 0"):
        choose(family, 10, name=RopeName.PI, factor=0.0)
