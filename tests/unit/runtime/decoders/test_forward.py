"""A decoder's logits are those of plain numpy, whatever variant, scheme, and cuts of the text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from service.errors import InvalidModelOutput, VariantNotAvailable
from service.numerics.attention.positions import RopeName, RopeScheme
from service.numerics.attention.scales import ScaleName, ScaleScheme
from service.runtime.decoders.feeds import Reading, position_feed
from service.runtime.decoders.forward import begin, forward, read_text
from service.runtime.decoders.graph import Giving
from service.runtime.decoders.opened import GraphForm
from tests.support.decoder_reference import Positions, direct, leaky, reference_decoder
from tests.support.decoders import FORMS, ROPE_BASE, SIZES, random_weights
from tests.unit.runtime.decoders.conftest import OpenDecoders

pytestmark = pytest.mark.anyio
LENGTH = 40
IDS = np.random.default_rng(3).integers(0, 256, LENGTH)


def width_of(name: str) -> int:
    return FORMS[name].rope_dim or SIZES.head_dim


def readings(name: str) -> dict[str, tuple[Reading, Positions]]:
    """Return position schemes as the service says them, and as the reference does."""
    width = width_of(name)
    dagger = ScaleScheme(name=ScaleName.LOG_N_DAGGER, length=8)
    stretched = direct(width, base=ROPE_BASE, factor=4.0)
    return {
        "direct": (Reading(), direct(width, base=ROPE_BASE)),
        "pi and log n": (
            Reading(RopeScheme(name=RopeName.PI, factor=4.0), dagger),
            Positions(
                stretched.near, row_scale=lambda t: max(1.0, float(np.log(t + 1) / np.log(8)))
            ),
        ),
        "a number": (
            Reading(scale=ScaleScheme(name=ScaleName.VALUE, value=0.5)),
            Positions(direct(width, base=ROPE_BASE).near, row_scale=lambda _: 0.5),
        ),
        "leaky": (
            Reading(RopeScheme(name=RopeName.LEAKY_REROPE, window=16, factor=4.0)),
            leaky(width, base=ROPE_BASE, window=16, factor=4.0),
        ),
    }


@pytest.mark.parametrize("scheme", ["direct", "pi and log n", "a number", "leaky"])
@pytest.mark.parametrize("name", sorted(FORMS))
async def test_logits_and_entropy_are_those_of_the_reference(
    decoder_models: Path, open_decoders: OpenDecoders, name: str, scheme: str
) -> None:
    reading, positions = readings(name)[scheme]
    logits, entropy = reference_decoder(
        IDS.tolist(),
        weights=random_weights(SIZES, FORMS[name]),
        sizes=SIZES,
        form=FORMS[name],
        positions=positions,
    )
    async with open_decoders(decoder_models) as decoders:
        form = GraphForm.of(reading.rope)
        decoder = await decoders.decoder(None, name, form=form, giving=Giving.ENTROPY)
    whole = forward(decoder, IDS[np.newaxis], begin(decoder), reading, extras=["entropy"])
    np.testing.assert_allclose(whole.logits[0], logits, atol=2e-5)
    np.testing.assert_allclose(whole.extras["entropy"][:, 0], entropy, atol=2e-5)


@pytest.mark.parametrize("scheme", ["direct", "leaky"])
@pytest.mark.parametrize("name", sorted(FORMS))
async def test_a_text_in_parts_gives_the_logits_of_one_run(
    decoder_models: Path, open_decoders: OpenDecoders, name: str, scheme: str
) -> None:
    reading, _ = readings(name)[scheme]
    async with open_decoders(decoder_models) as decoders:
        decoder = await decoders.decoder(None, name, form=GraphForm.of(reading.rope))
    ids = np.stack([IDS, IDS[::-1]])
    start = begin(decoder, rows=2)
    whole = forward(decoder, ids, start, reading)
    kept, parts = start, []
    for part in np.split(ids, [17, 18, 30], axis=1):
        step = forward(decoder, part, kept, reading)
        kept = step.kept
        parts.append(step.logits)
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole.logits, atol=1e-5)
    assert start.tokens == start.nbytes == 0, "what went in is as it was"
    assert kept.tokens == LENGTH
    elements = sum(part.heads * part.width for part in decoder.graph.parts)
    assert kept.nbytes == 2 * LENGTH * elements * 4
    assert elements == decoder.family.layers * decoder.variant.cache_elements


async def test_only_the_rows_asked_for_come_back(
    decoder_models: Path, open_decoders: OpenDecoders
) -> None:
    async with open_decoders(decoder_models) as decoders:
        decoder = await decoders.decoder(None, None)
    whole = forward(decoder, IDS[np.newaxis], begin(decoder), Reading())
    last = forward(decoder, IDS[np.newaxis], begin(decoder), Reading(), logits_from=LENGTH - 1)
    assert last.logits.shape == (1, 1, 256)
    np.testing.assert_array_equal(last.logits[0, 0], whole.logits[0, -1])


async def test_a_long_text_is_read_in_runs_of_512(
    decoder_models: Path, open_decoders: OpenDecoders
) -> None:
    ids = np.random.default_rng(5).integers(0, 256, 1100).tolist()
    async with open_decoders(decoder_models) as decoders:
        decoder = await decoders.decoder(None, "mla")
    steps = list(read_text(decoder, ids, Reading()))
    assert [step.kept.tokens for step in steps] == [512, 1024, 1100]
    whole = forward(decoder, np.array([ids]), begin(decoder), Reading())
    together = np.concatenate([step.logits for step in steps], axis=1)
    np.testing.assert_allclose(together, whole.logits, atol=2e-5)


async def test_logits_that_are_not_finite_are_no_answer(
    decoder_models: Path, open_decoders: OpenDecoders
) -> None:
    async with open_decoders(decoder_models) as decoders:
        decoder = await decoders.decoder(None, None)
    mad = Reading(scale=ScaleScheme(name=ScaleName.VALUE, value=1e6))
    poisoned = begin(decoder)
    for array in poisoned.arrays:
        assert array.shape[2] == 0
    full = forward(decoder, IDS[np.newaxis], poisoned, mad).kept
    full.arrays[1][:] = np.nan
    with pytest.raises(InvalidModelOutput, match="tiny-decoder gave logits"):
        forward(decoder, IDS[np.newaxis], full, Reading())


async def test_a_graph_with_positions_of_its_own_takes_no_other(
    decoder_models: Path, open_decoders: OpenDecoders
) -> None:
    from dataclasses import replace

    async with open_decoders(decoder_models) as decoders:
        graph = (await decoders.decoder(None, None)).graph
    own = replace(graph, pairs=0, inputs=frozenset({"input_ids"}))
    sizes = {"base": ROPE_BASE, "rows": 1, "past": 0, "new": 3}
    assert position_feed(own, Reading(), **sizes) == {}  # type: ignore[arg-type]
    for reading, name in (
        (Reading(RopeScheme(name=RopeName.PI, factor=2)), "pi"),
        (Reading(scale=ScaleScheme(name=ScaleName.LOG_N)), "log_n"),
    ):
        with pytest.raises(VariantNotAvailable, match=f"so {name} is not"):
            position_feed(own, reading, **sizes)  # type: ignore[arg-type]
