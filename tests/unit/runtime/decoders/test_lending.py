"""Graphs load once, verified; the memory bound lets the oldest go; refusals name what is there."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from pathlib import Path

import pytest

from service.errors import (
    ArtefactDamaged,
    DeadlineExceeded,
    ModelNotReady,
    UnknownModel,
    VariantNotAvailable,
)
from service.runtime.decoders.graph import DecoderGraph, Giving
from service.runtime.decoders.lending import Decoders
from service.runtime.decoders.opened import GraphForm
from tests.support.decoders import FORMS
from tests.unit.runtime.decoders.conftest import OpenDecoders

pytestmark = pytest.mark.anyio


@pytest.fixture
def own_models(decoder_models: Path, tmp_path: Path) -> Path:
    """Return a copy that a test may damage."""
    shutil.copytree(decoder_models / "tiny-decoder", tmp_path / "tiny-decoder")
    return tmp_path


async def test_many_callers_share_one_load(
    decoder_models: Path, open_decoders: OpenDecoders
) -> None:
    async with open_decoders(decoder_models) as decoders:
        assert decoders.loaded() == {}
        names = (None, "gqa") * 8
        found = await asyncio.gather(*(decoders.decoder(None, name) for name in names))
        assert all(each.graph is found[0].graph for each in found)
        assert (await decoders.decoder("tiny-decoder", "gqa")).graph is found[0].graph
        assert list(decoders.loaded()) == ["tiny-decoder"]
        assert found[0].sha256 == found[0].manifest.sha256


async def test_what_a_graph_gives_follows_from_what_was_asked(
    decoder_models: Path, open_decoders: OpenDecoders
) -> None:
    async with open_decoders(decoder_models) as decoders:
        lean = (await decoders.decoder(None, None)).graph
        shown = (await decoders.decoder(None, None, giving=Giving.ENTROPY)).graph
        tapped = (await decoders.decoder(None, None, giving=Giving.TAPS)).graph
    presents = {f"present.{layer}.{part}" for layer in (0, 1) for part in ("key", "value")}
    assert lean.outputs == {"logits", *presents}
    assert shown.outputs == {"logits", "entropy", *presents}
    assert {"query.0", "key.1", "value.1", "entropy"} <= tapped.outputs


async def load_all(decoders: Decoders) -> list[DecoderGraph]:
    """Load every graph of the family, in one order: more than a MiB in all."""
    found = [
        (await decoders.decoder(None, name, form=form)).graph
        for form in (GraphForm.PLAIN, GraphForm.WINDOWED)
        for name in FORMS
    ]
    assert sum(graph.held_bytes for graph in found) > 2**20
    return found


async def test_the_bound_lets_the_least_used_go(
    decoder_models: Path, open_decoders: OpenDecoders
) -> None:
    async with open_decoders(decoder_models, decoder_memory_mb=1) as decoders:
        graphs = await load_all(decoders)
        assert decoders.held_bytes <= 2**20
        last = await decoders.decoder(None, list(FORMS)[-1], form=GraphForm.WINDOWED)
        assert last.graph is graphs[-1]
        first = await decoders.decoder(None, next(iter(FORMS)))
        assert first.graph is not graphs[0], "it had gone, and was loaded anew"


async def test_use_keeps_a_graph(decoder_models: Path, open_decoders: OpenDecoders) -> None:
    async with open_decoders(decoder_models, decoder_memory_mb=1) as decoders:
        kept = (await decoders.decoder(None, "gqa", giving=Giving.TAPS)).graph
        for form in (GraphForm.PLAIN, GraphForm.WINDOWED):
            for name in FORMS:
                await decoders.decoder(None, name, form=form)
                again = await decoders.decoder(None, "gqa", giving=Giving.TAPS)
                assert again.graph is kept


@pytest.mark.parametrize(
    ("model", "variant", "error", "match"),
    [
        ("nope", None, UnknownModel, "no model 'nope'"),
        ("../tiny-decoder", None, UnknownModel, "no model"),
        ("tiny", None, UnknownModel, "'tiny' is of the kind 'encoder'"),
        ("shipped", None, ModelNotReady, "isotrope models build shipped"),
        (None, "mla-7", VariantNotAvailable, "no variant 'mla-7'. It has: gqa, mha, mqa"),
    ],
)
async def test_refusals_say_what_there_is(
    decoder_models: Path,
    open_decoders: OpenDecoders,
    *,
    model: str | None,
    variant: str | None,
    error: type[Exception],
    match: str,
) -> None:
    async with open_decoders(decoder_models) as decoders:
        with pytest.raises(error, match=match):
            await decoders.decoder(model, variant)


async def test_a_graph_that_is_not_there_is_a_conflict(
    own_models: Path, open_decoders: OpenDecoders
) -> None:
    path = own_models / "tiny-decoder" / "manifest.json"
    entry = json.loads(path.read_text())
    entry["variants"]["mha"]["windowed"] = None
    path.write_text(json.dumps(entry))
    async with open_decoders(own_models) as decoders:
        await decoders.decoder(None, "gqa", form=GraphForm.WINDOWED)
        with pytest.raises(VariantNotAvailable, match="'mha' of tiny-decoder has no graph"):
            await decoders.decoder(None, "mha", form=GraphForm.WINDOWED)
        with pytest.raises(VariantNotAvailable, match="no serving graph"):
            await decoders.decoder(None, None, form=GraphForm.SERVING)


@pytest.mark.parametrize("name", ["gqa.onnx", "gqa.bin"])
async def test_a_changed_byte_is_found_and_other_variants_still_answer(
    own_models: Path, open_decoders: OpenDecoders, name: str
) -> None:
    path = own_models / "tiny-decoder" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    async with open_decoders(own_models) as decoders:
        with pytest.raises(ArtefactDamaged, match=f"tiny-decoder: {name} has SHA-256"):
            await decoders.decoder(None, "gqa")
        await decoders.decoder(None, "mha")


async def test_nobody_waits_past_the_deadline_and_the_load_goes_on(
    decoder_models: Path, open_decoders: OpenDecoders
) -> None:
    async with open_decoders(decoder_models) as decoders:
        await decoders.family(None)
        with pytest.raises(DeadlineExceeded, match=r"gqa\.onnx of tiny-decoder is still loading"):
            await decoders.decoder(None, "gqa", deadline=time.monotonic())
        assert (await decoders.decoder(None, "gqa")).variant.name == "gqa"
