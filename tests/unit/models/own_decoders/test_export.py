"""Exported decoder folders are served as they are, or refused with a reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from models import catalogue
from models.errors import RecipeError
from service.errors import VariantNotAvailable
from service.numerics.attention.positions import RopeName, RopeScheme
from service.numerics.attention.scales import ScaleName, ScaleScheme
from service.runtime.decoders.feeds import Reading
from service.runtime.decoders.forward import begin, forward
from service.runtime.decoders.graph import Giving, open_graph, read_graph
from service.runtime.decoders.opened import Decoder, Family
from service.runtime.decoders.tokenizers import open_decoder_tokenizer
from service.runtime.manifest import read_manifest, verify_files
from service.runtime.session import SessionOptions
from service.settings import ProviderPolicy
from tests.support.decoder_exports import FORM, PARTS, config, export_sizes, write_decoder_export
from tests.support.decoder_reference import direct
from tests.support.decoder_runs import DecoderRun
from tests.support.decoders import ROPE_BASE

IDS = np.array([[5, 17, 300, 41, 2, 88, 123]])


def _silent(_stage: str, _done: int, _total: int) -> None:
    """Report nothing."""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_decoder_export(tmp_path / "export")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    return folder


def adopt(source: Path, target: Path) -> None:
    catalogue.adopt(source, target, model_id="mine", progress=_silent)


def opened(folder: Path) -> Decoder:
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    assert manifest.family is not None
    tokenizer = open_decoder_tokenizer(folder, manifest.family)
    family = Family(folder, manifest, manifest.family, tokenizer)
    chosen = family.variant(None)
    path = folder / chosen.file
    options = SessionOptions(("cpu",), ProviderPolicy.CPU, threads_per_run=1)
    graph = open_graph(path, read_graph(path, Giving.CONTINUATION), options)
    return Decoder(manifest, manifest.family, chosen, tokenizer, graph)


def twin_logits(source: Path) -> Any:
    run = DecoderRun(
        source / "twin" / "gqa.onnx",
        sizes=export_sizes(),
        form=FORM,
        positions=direct(8, base=ROPE_BASE),
    )
    return run.step(IDS)["logits"][0]


def test_the_service_runs_it_whole_and_in_parts(source: Path, target: Path) -> None:
    adopt(source, target)
    decoder = opened(target)
    expected = twin_logits(source)
    whole = forward(decoder, IDS, begin(decoder), Reading()).logits[0]
    np.testing.assert_allclose(whole, expected, atol=1e-5)
    first = forward(decoder, IDS[:, :4], begin(decoder), Reading())
    last = forward(decoder, IDS[:, 4:], first.kept, Reading(), logits_from=1)
    np.testing.assert_allclose(last.logits[0], expected[5:], atol=1e-5)
    assert first.kept.nbytes == 4 * decoder.variant.cache_elements * 2 * 4


def test_two_rows_have_the_same_positions(source: Path, target: Path) -> None:
    adopt(source, target)
    decoder = opened(target)
    both = np.vstack([IDS, IDS[:, ::-1]])
    logits = forward(decoder, both, begin(decoder, rows=2), Reading()).logits
    np.testing.assert_allclose(logits[0], twin_logits(source), atol=1e-5)


def test_rows_are_cut_behind_a_head_that_is_no_plain_product(source: Path, target: Path) -> None:
    path = source / "model.onnx"
    model = onnx.load(path)
    for node in model.graph.node:
        node.output[:] = ["plain" if name == "logits" else name for name in node.output]
    model.graph.node.append(helper.make_node("Add", ["plain", "plain"], ["logits"]))
    onnx.save(model, path)
    adopt(source, target)
    decoder = opened(target)
    found = forward(decoder, IDS, begin(decoder), Reading(), logits_from=5).logits[0]
    np.testing.assert_allclose(found, 2 * twin_logits(source)[5:], atol=2e-5)


@pytest.mark.parametrize(
    "reading",
    [
        Reading(rope=RopeScheme(name=RopeName.PI, factor=2.0)),
        Reading(scale=ScaleScheme(name=ScaleName.LOG_N)),
    ],
    ids=["positions", "scale"],
)
def test_other_positions_and_scales_are_a_conflict(
    reading: Reading, source: Path, target: Path
) -> None:
    adopt(source, target)
    decoder = opened(target)
    with pytest.raises(VariantNotAvailable, match="inside its graph"):
        forward(decoder, IDS, begin(decoder), reading)


def test_outputs_that_it_lacks_are_a_conflict(source: Path, target: Path) -> None:
    adopt(source, target)
    decoder = opened(target)
    with pytest.raises(VariantNotAvailable, match="entropy"):
        forward(decoder, IDS, begin(decoder), Reading(), extras=["entropy"])


def test_the_entry_says_what_it_is(source: Path, target: Path) -> None:
    adopt(source, target)
    entry = json.loads((target / "manifest.json").read_text())
    assert (entry["kind"], entry["recipe"], entry["default_variant"]) == (
        "decoder",
        "adopted",
        "gqa",
    )
    assert sorted(entry["files"]) == ["gqa.onnx", "tokenizer.json", "weights.bin"]
    assert entry["variants"]["gqa"]["windowed"] is None
    assert entry["eos_ids"] == [export_sizes().vocabulary - 1]
    assert (entry["layers"], entry["head_dim"], entry["hidden"]) == (2, 8, 32)


Change = Callable[[Path], None]


def reshaped(change: Callable[[onnx.ModelProto], None]) -> Change:
    def apply(source: Path) -> None:
        model = onnx.load(source / "model.onnx")
        change(model)
        onnx.save(model, source / "model.onnx")

    return apply


def configured(**changes: object) -> Change:
    return lambda source: (
        (source / "config.json").write_text(json.dumps(config() | changes)) and None
    )


def _take_more(model: onnx.ModelProto) -> None:
    branch = helper.make_tensor_value_info("use_cache_branch", TensorProto.BOOL, [1])
    model.graph.input.append(branch)


def _take_halves(model: onnx.ModelProto) -> None:
    for given in model.graph.input:
        if given.name == f"past_key_values.{PARTS[0]}":
            given.type.tensor_type.elem_type = TensorProto.FLOAT16


def _take_no_cache(model: onnx.ModelProto) -> None:
    kept = [each for each in model.graph.input if not each.name.startswith("past_key_values")]
    del model.graph.input[:]
    model.graph.input.extend(kept)


def _forget_a_present(model: onnx.ModelProto) -> None:
    kept = [each for each in model.graph.output if each.name != "present.1.key"]
    del model.graph.output[:]
    model.graph.output.extend(kept)


def _count_rows_wrongly(model: onnx.ModelProto) -> None:
    """Read the past keys of layer 0 as if there were none, so that the cache is of no use."""
    for node in model.graph.node:
        if list(node.output) == ["past.0.key"]:
            node.op_type = "Neg"  # of the keys before


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param(reshaped(_take_more), "use_cache_branch", id="an input that we cannot give"),
        pytest.param(reshaped(_take_halves), "FLOAT16", id="half precision"),
        pytest.param(reshaped(_take_no_cache), "text-generation-with-past", id="no cache"),
        pytest.param(reshaped(_forget_a_present), "no present.1.key", id="half a cache"),
        pytest.param(reshaped(_count_rows_wrongly), "token by token", id="a cache that is wrong"),
        pytest.param(configured(num_attention_heads=None), "num_attention_heads", id="no sizes"),
        pytest.param(configured(num_key_value_heads=4), "do not belong together", id="heads"),
        pytest.param(configured(eos_token_id=10**6), "10", id="an end beyond the vocabulary"),
        pytest.param(lambda source: (source / "tokenizer.json").unlink(), "tokenizer", id="no tok"),
        pytest.param(
            lambda source: (source / "model.onnx").write_bytes(b"\x08\x07rubbish"),
            "not an ONNX file",
            id="rubbish",
        ),
    ],
)
def test_what_cannot_be_served_is_refused_and_nothing_is_kept(
    change: Change, reason: str, source: Path, target: Path
) -> None:
    change(source)
    with pytest.raises(RecipeError, match=reason):
        adopt(source, target)
    assert not (target / "manifest.json").exists()


def test_a_tokenizer_of_another_model_is_refused(source: Path, target: Path) -> None:
    path = source / "tokenizer.json"
    described = json.loads(path.read_text())
    described["model"]["vocab"]["zz"] = 5000
    path.write_text(json.dumps(described))
    with pytest.raises(RecipeError, match="do not belong together"):
        adopt(source, target)
