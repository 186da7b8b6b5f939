"""Graphs of any shape compute what plain NumPy does."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.decoder.description import Form, Sizes
from models.decoder.storage import DataFile
from tests.support.decoder_reference import Positions, direct, leaky, reference_decoder
from tests.support.decoder_runs import DecoderRun
from tests.support.decoders import build_graph, random_weights

FORMULAS = ("mha", "gqa", "mqa", "mla", "mla_rope", "mla_absorbed")
SCHEMES = ("direct", "interpolated", "log_n", "leaky")


@st.composite
def cases(draw: st.DrawFn, formula: str, scheme: str) -> tuple[Sizes, Form, Positions, list[int]]:
    groups = 1 if formula == "mqa" else draw(st.integers(1, 3))
    repeats = 1 if formula == "mha" else draw(st.integers(1, 3))
    width = 2 * draw(st.integers(1, 5))
    sizes = Sizes(
        layers=1,
        hidden=draw(st.integers(8, 20)),
        q_heads=groups * repeats,
        head_dim=width,
        vocabulary=19,
        epsilon=1e-5,
        interleaved=draw(st.integers(0, 1)),
    )
    rope = 2 * draw(st.integers(1, 4)) if formula in {"mla_rope", "mla_absorbed"} else None
    form = Form(
        "mla" if formula == "mla_rope" else formula,  # type: ignore[arg-type]
        groups,
        1 / np.sqrt(width),
        normaliser=draw(st.sampled_from(["softmax", "l2"])),
        reach="near_and_far" if scheme == "leaky" else "one",
        kv_rank=draw(st.integers(1, 9)) if formula.startswith("mla") else None,
        rope_dim=rope,
    )
    ids = draw(st.lists(st.integers(0, 18), min_size=1, max_size=12))
    return sizes, form, positions_of(scheme, rope or width), ids


def positions_of(scheme: str, width: int) -> Positions:
    if scheme == "leaky":
        return leaky(width, base=500.0, window=3, factor=2)
    plain = direct(width, base=500.0, factor=4.0 if scheme == "interpolated" else 1.0)
    if scheme == "log_n":
        return Positions(plain.near, row_scale=lambda t: np.log(t + 1) / np.log(5))
    return plain


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("formula", FORMULAS)
@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_graph_computes_the_formula(formula: str, scheme: str, data: st.DataObject) -> None:
    sizes, form, positions, ids = data.draw(cases(formula, scheme))
    weights = random_weights(sizes, form, feed_forward=7)
    logits, entropies = reference_decoder(
        ids, weights=weights, sizes=sizes, form=form, positions=positions
    )
    with tempfile.TemporaryDirectory() as folder:
        path = build_graph(
            Path(folder), "any", sizes=sizes, form=form, weights=weights, file=DataFile("any.bin")
        )
        run = DecoderRun(path, sizes=sizes, form=form, positions=positions)
        split = data.draw(st.integers(1, len(ids)))
        given_parts = [
            run.step(np.array([part], dtype=np.int64))
            for part in (ids[:split], ids[split:])
            if part
        ]
    for key, wanted, axis in (("logits", logits[None], 1), ("entropy", entropies[:, None], 3)):
        found = np.concatenate([part[key] for part in given_parts], axis=axis)
        np.testing.assert_allclose(found, wanted, atol=1e-5, rtol=1e-5)
