"""Attention graphs against plain float64 arithmetic, over variants, schemes, scales and masks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.numerics.attention.forms import (
    Heads,
    Latents,
    LayerForm,
    compress,
    head_size,
    rope_size,
)
from service.numerics.attention.positions import RopeName, RopeScheme, rope_tables
from service.numerics.attention.reference import (
    Conditions,
    Layout,
    Normaliser,
    Path,
    attend,
    visible_keys,
)
from service.numerics.attention.scales import ScaleName, ScaleScheme, row_scale
from service.numerics.seeds import generator
from service.runtime.attention.sessions import LayerGraphs
from service.runtime.session import SessionOptions
from service.settings import ProviderPolicy

GRAPHS = LayerGraphs(SessionOptions(("cpu",), ProviderPolicy.CPU, 1))


@dataclass(frozen=True)
class Case:
    """Hold one drawn layer."""

    form: LayerForm
    path: Path
    conditions: Conditions


def random_heads(rng: np.random.Generator, batch: int, groups: int, tokens: int) -> Heads:
    size, value_size = int(2 * rng.integers(2, 9)), int(rng.integers(1, 12))
    heads = groups * int(rng.integers(1, 4))

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    return Heads(
        normal(batch, heads, tokens, size),
        normal(batch, groups, tokens, size),
        normal(batch, groups, tokens, value_size),
    )


def random_latents(rng: np.random.Generator, batch: int, heads: int, tokens: int) -> Latents:
    size, rank = int(rng.integers(1, 9)), int(rng.integers(1, 9))
    rope_dim, value_size = int(2 * rng.integers(2, 5)), int(rng.integers(1, 9))

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    return Latents(
        queries=normal(batch, heads, tokens, size),
        rope_queries=normal(batch, heads, tokens, rope_dim),
        latent=normal(batch, tokens, rank),
        rope_keys=normal(batch, tokens, rope_dim),
        key_maps=normal(heads, rank, size),
        value_maps=normal(heads, rank, value_size),
    )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    rng = generator(draw(st.integers(0, 2**32)), "layers")
    batch, heads, tokens = (draw(st.integers(1, most)) for most in (2, 3, 12))
    made = draw(st.sampled_from(["heads", "compressed", "decoupled"]))
    name = draw(st.sampled_from(RopeName))
    if made == "heads":
        form: LayerForm = random_heads(rng, batch, heads, tokens)
        path = Path.HEADS
    elif made == "compressed":
        form = compress(random_heads(rng, batch, heads, tokens), rank=None).latents
        path = (
            Path.EXPANDED
            if name is not RopeName.NONE
            else draw(st.sampled_from([Path.EXPANDED, Path.ABSORBED]))
        )
    else:
        form = random_latents(rng, batch, heads, tokens)
        path = draw(st.sampled_from([Path.EXPANDED, Path.ABSORBED]))
    return Case(form, path, draw(conditions(form, name, rng)))


@st.composite
def conditions(
    draw: st.DrawFn, form: LayerForm, name: RopeName, rng: np.random.Generator
) -> Conditions:
    tokens = form.queries.shape[-2]
    scheme = RopeScheme(
        name=name,
        factor=draw(st.sampled_from([1.0, 4.0])),
        mixing=draw(st.sampled_from([0.0, 0.625, 1.0])),
        window=draw(st.integers(1, tokens)),
    )
    at = np.arange(tokens)
    tables = None
    if name is not RopeName.NONE:
        tables = rope_tables(scheme, queries=at, keys=at, rope_dim=rope_size(form), base=1e4)
    causal = draw(st.booleans())
    mask = None
    bias = None
    if draw(st.booleans()):
        mask = (rng.random((tokens, tokens)) < 0.7) | np.eye(tokens, dtype=bool)
        bias = np.where(mask, 0.0, -np.inf).astype(np.float32)
        if draw(st.booleans()):  # noise on the scores of every head
            noise = rng.standard_normal((*form.queries.shape[:2], tokens, tokens))
            bias = (bias + noise).astype(np.float32)
    lengths = visible_keys(tokens, causal=causal, mask=mask).sum(axis=1)
    scale = draw(st.sampled_from(ScaleName))
    factors = row_scale(
        ScaleScheme(name=scale, length=4, value=0.3), lengths, head_dim=head_size(form)
    )
    return Conditions(
        tables=tables,
        layout=draw(st.sampled_from(Layout)),
        scale=factors / np.sqrt(head_size(form)),
        bias=bias,
        causal=causal,
        normaliser=draw(st.sampled_from(Normaliser)),
    )


@given(cases())
@settings(max_examples=250, deadline=None)
def test_graphs_agree_with_plain_arithmetic(case: Case) -> None:
    found = GRAPHS.attend(case.form, case.conditions, path=case.path)
    expected = attend(case.form, case.conditions, path=case.path)
    assert found.weights is not None
    size = max(1.0, float(np.abs(expected.output).max()))
    np.testing.assert_allclose(found.weights, expected.weights, atol=1e-5)
    np.testing.assert_allclose(found.output / size, expected.output / size, atol=1e-5)


@given(cases())
@settings(max_examples=60, deadline=None)
def test_absorbed_and_expanded_are_one_function(case: Case) -> None:
    if not isinstance(case.form, Latents) or not (
        case.form.decoupled or case.conditions.tables is None
    ):
        return
    expanded, absorbed = (
        GRAPHS.attend(case.form, case.conditions, path=path).output
        for path in (Path.EXPANDED, Path.ABSORBED)
    )
    np.testing.assert_allclose(absorbed, expanded, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_full_latent_is_the_heads_it_was_made_of(groups: int) -> None:
    rng = generator(1, "full")
    heads = random_heads(rng, 2, groups, 9)
    made = compress(heads, rank=None)
    assert made.error == pytest.approx(0, abs=1e-12)
    plain = Conditions(tables=None, scale=np.full(9, 0.5), causal=True)
    expected = attend(heads, plain, path=Path.HEADS).output
    for path in (Path.EXPANDED, Path.ABSORBED):
        found = attend(made.latents, plain, path=path).output
        np.testing.assert_allclose(found, expected, atol=1e-5)
