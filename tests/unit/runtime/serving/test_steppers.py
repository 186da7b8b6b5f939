"""Every stepper keeps the same promises: the fake one, the float graphs, the serving graph."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from service.errors import Internal
from service.numerics.attention.positions import RopeName, RopeScheme
from service.numerics.attention.scales import ScaleName, ScaleScheme
from service.numerics.dtypes import Matrix32
from service.runtime.decoders.feeds import Reading
from service.runtime.decoders.forward import begin, forward
from service.runtime.decoders.graph import Giving, open_graph, read_graph
from service.runtime.decoders.opened import Decoder, Family, GraphForm
from service.runtime.decoders.tokenizers import ByteTokenizer
from service.runtime.manifest import read_manifest
from service.runtime.serving.arena import Arena, Block
from service.runtime.serving.jobs import Row, Stepper
from service.runtime.serving.single import SingleFile
from service.runtime.session import SessionOptions
from service.settings import ProviderPolicy
from tests.fakes.steppers import FakeStepper
from tests.support.decoders import write_decoder
from tests.support.serving_graphs import write_serving_family

DIRECT = Reading()
STRETCHED = Reading(
    RopeScheme(name=RopeName.NTK_MIXED, factor=4), ScaleScheme(name=ScaleName.LOG_N, length=64)
)
VARIANTS = ("gqa", "mla", "mla_absorbed")
Opener = Callable[[int], Stepper]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_serving_family(folder)
    write_decoder(folder, names=VARIANTS)
    return folder


def decoder(folder: Path, *, variant: str, form: GraphForm = GraphForm.PLAIN) -> Decoder:
    manifest = read_manifest(folder)
    assert manifest.family is not None
    family = Family(folder, manifest, manifest.family, ByteTokenizer())
    chosen = family.variant(variant)
    path = folder / family.file(chosen, form)
    options = SessionOptions(("cpu",), ProviderPolicy.CPU, threads_per_run=1)
    graph = open_graph(path, read_graph(path, Giving.CONTINUATION), options)
    return Decoder(manifest, manifest.family, chosen, family.tokenizer, graph)


def arena(models: Path, slots: int, capacity: int = 300) -> Arena:
    found = decoder(models / "tiny-serving", variant="gqa", form=GraphForm.SERVING)
    return Arena(found.graph, base=1e4, vocabulary=256, slots=slots, capacity=capacity)


@pytest.fixture(params=["fake", "serving", *VARIANTS])
def opener(request: pytest.FixtureRequest, models: Path) -> Opener:
    if request.param == "fake":
        return FakeStepper
    if request.param == "serving":
        return lambda slots: arena(models, slots)
    found = decoder(models / "tiny-decoder", variant=request.param)
    return lambda slots: SingleFile(found, slots=slots)


def write(
    stepper: Stepper, slot: int, prompt: list[int], count: int, reading: Reading = DIRECT
) -> Matrix32:
    """Return the logits of a prompt and of `count` likeliest tokens behind it, run alone."""
    found = [stepper.extend(slot, np.array(prompt), start=0, positions=reading)]
    for at in range(len(prompt), len(prompt) + count):
        found.append(stepper.step([Row(slot, int(found[-1].argmax()), at, reading)])[0])
    return np.stack(found)


class TestEveryStepper:
    def test_rows_have_the_same_bits_alone_and_together(self, opener: Opener) -> None:
        prompts = {0: [5] * 9, 2: [1, 2, 3], 3: list(range(20))}
        readings = {0: DIRECT, 2: STRETCHED, 3: DIRECT}
        alone = {
            slot: write(opener(4), slot, prompt, 6, readings[slot])
            for slot, prompt in prompts.items()
        }
        other_place = write(opener(2), 1, prompts[0], 6)
        assert np.array_equal(other_place, alone[0])
        stepper = opener(4)
        last = {
            slot: stepper.extend(slot, np.array(prompt), start=0, positions=readings[slot])
            for slot, prompt in prompts.items()
        }
        for slot, row in last.items():
            assert np.array_equal(row, alone[slot][0])
        for step in range(6):
            rows = [
                Row(slot, int(last[slot].argmax()), len(prompt) + step, readings[slot])
                for slot, prompt in prompts.items()
            ]
            found = stepper.step(rows)
            for row, logits in zip(rows, found, strict=True):
                assert np.array_equal(logits, alone[row.slot][step + 1])
                last[row.slot] = logits

    def test_a_prefix_can_be_gone_back_to(self, opener: Opener) -> None:
        prompt, other = list(range(12)), [*range(8), 50, 51]
        plain = opener(2)
        plain.extend(0, np.array(other[:8]), start=0, positions=DIRECT)
        expected = plain.extend(0, np.array(other[8:]), start=8, positions=DIRECT)
        stepper = opener(2)
        stepper.extend(0, np.array(prompt[:8]), start=0, positions=DIRECT)
        stepper.extend(0, np.array(prompt[8:]), start=8, positions=DIRECT)
        stepper.step([Row(0, 7, 12, DIRECT)])
        stepper.forget(0, 8)
        stepper.extend(1, np.array([9, 9]), start=0, positions=DIRECT)
        stepper.step([Row(1, 7, 2, DIRECT)])
        found = stepper.extend(0, np.array(other[8:]), start=8, positions=DIRECT)
        assert np.array_equal(found, expected)

    def test_what_lies_behind_a_start_is_forgotten(self, opener: Opener) -> None:
        ids = np.arange(12)
        stepper, plain = opener(2), opener(2)
        for each in (stepper, plain):
            each.extend(0, ids[:8], start=0, positions=DIRECT)
        stepper.extend(0, ids[:4], start=8, positions=DIRECT)
        stepper.step([Row(0, 7, 12, DIRECT)])
        found = stepper.extend(0, ids[8:], start=8, positions=DIRECT)
        assert np.array_equal(found, plain.extend(0, ids[8:], start=8, positions=DIRECT))

    def test_what_was_given_stays(self, opener: Opener) -> None:
        stepper = opener(2)
        first = stepper.extend(0, np.array([1, 2, 3]), start=0, positions=DIRECT)
        second = stepper.step([Row(0, 4, 3, DIRECT)])
        copies = first.copy(), second.copy()
        stepper.step([Row(0, 5, 4, DIRECT)])
        stepper.extend(1, np.array([7]), start=0, positions=DIRECT)
        assert np.array_equal(first, copies[0])
        assert np.array_equal(second, copies[1])
        stepper.close()


@pytest.mark.parametrize("reading", [DIRECT, STRETCHED])
def test_the_serving_graph_computes_what_the_float_graph_does(
    models: Path, reading: Reading
) -> None:
    ids = np.random.default_rng(0).integers(0, 256, 290)
    plain = decoder(models / "tiny-decoder", variant="gqa")
    expected = forward(plain, ids[np.newaxis], begin(plain), reading).logits[0]
    stepper = arena(models, 3)
    found = stepper.extend(1, ids[:260], start=0, positions=reading)  # over a border of tables
    assert np.allclose(found, expected[259], atol=1e-4)
    for at in range(260, 290):
        row = stepper.step([Row(1, int(ids[at]), at, reading)])[0]
        assert np.allclose(row, expected[at], atol=1e-4)


@pytest.mark.parametrize("slot", [0, 1])
def test_no_run_has_one_row(models: Path, slot: int) -> None:
    """Kernels for one row may round otherwise, so the neighbour of a lone row runs too."""
    stepper = arena(models, 2)
    stepper.extend(slot, np.array([1, 2, 3]), start=0, positions=DIRECT)
    block = stepper._blocks["0.value"]
    assert not block.values[1 - slot].any()
    stepper.step([Row(slot, 4, 3, DIRECT)])
    assert block.values[1 - slot, :, 0].any()
    assert arena(models, 1)._blocks["0.key"].shape[0] == 2


def test_a_slot_cannot_be_overrun(models: Path) -> None:
    stepper = arena(models, 2, capacity=8)
    with pytest.raises(Internal, match="9 tokens and 8 fit"):
        stepper.extend(0, np.arange(9), start=0, positions=DIRECT)
    stepper.extend(0, np.arange(8), start=0, positions=DIRECT)
    with pytest.raises(Internal, match="9 tokens and 8 fit"):
        stepper.step([Row(0, 1, 8, DIRECT)])


def resident(block: Block) -> int:
    """Return the pages of a block that are in memory, by what a fresh look finds written."""
    return int(np.count_nonzero(block.values.reshape(-1, 1024).any(axis=1)))


def test_memory_comes_with_tokens_and_goes_with_them(models: Path) -> None:
    capacity = 4096
    stepper = arena(models, 2, capacity=capacity)
    block = next(iter(stepper._blocks.values()))
    assert block.shape == (2, 2, capacity, 8)
    ids = np.ones(1000, np.int64)
    stepper.extend(0, ids, start=0, positions=DIRECT)
    stepper.extend(1, ids, start=0, positions=DIRECT)
    whole = block.values.copy()
    assert resident(block) == 2 * 2 * 8
    stepper.forget(0, 500)
    assert np.array_equal(block.values[0, :, :500], whole[0, :, :500])
    assert np.array_equal(block.values[1], whole[1])
    assert not block.values[0, :, 512:].any()
    assert resident(block) == 2 * 8 + 2 * 4
    stepper.forget(0, 0)
    stepper.forget(1, 0)
    assert resident(block) == 0
