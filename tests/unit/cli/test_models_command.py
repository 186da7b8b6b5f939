"""`isotrope models`: list, verify, add; exit codes are what a script relies on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from service.cli.main import app
from service.runtime.batcher import pad
from service.runtime.library import Library, load_catalogues
from service.runtime.manifest import read_manifest
from service.runtime.session import SessionOptions, open_session
from service.runtime.tokenizer import Truncate, open_tokenizer
from service.settings import ProviderPolicy
from tests.fakes.artefacts import write_export, write_model
from tests.support.decoder_exports import write_decoder_export
from tests.support.llama_files import tiny_llama


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "models"
    monkeypatch.setenv("SERVICE_MODELS_DIR", str(folder))
    monkeypatch.setenv("COLUMNS", "200")
    return folder


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["models", *map(str, arguments)])


@pytest.mark.usefixtures("models")
def test_list_shows_what_can_be_built_before_anything_is() -> None:
    done = call("list")
    assert done.exit_code == 0
    assert "all-MiniLM-L6-v2" in done.stdout
    # what lies in the package itself is there from the beginning
    (there,) = (line for line in done.stdout.splitlines() if "yes" in line)
    assert "isotrope-bytes" in there


def test_list_shows_what_is_installed(models: Path) -> None:
    write_model(models, "mine")
    lines = call("list").stdout.splitlines()
    (mine,) = (line for line in lines if " mine " in line)
    assert "yes" in mine


def test_verify_of_sound_models(models: Path) -> None:
    write_model(models, "mine")
    (models / "notes.txt").write_text("a file beside the models")
    done = call("verify")
    assert (done.exit_code, done.stdout) == (0, "mine: sound\n")


def test_verify_of_a_damaged_model(models: Path) -> None:
    write_model(models, "mine")
    graph = write_model(models, "other") / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-1])
    done = call("verify")
    assert done.exit_code == 1
    assert "mine: sound" in done.stdout
    assert "other: other: model.onnx has" in done.stdout
    assert call("verify", "mine").exit_code == 0
    assert call("verify", "other").exit_code == 1


def test_verify_finds_a_folder_without_a_manifest(models: Path) -> None:
    (models / "half").mkdir(parents=True)
    done = call("verify")
    assert done.exit_code == 1
    assert "half" in done.stdout


@pytest.mark.usefixtures("models")
def test_verify_of_what_is_not_there() -> None:
    assert call("verify").exit_code == 0
    assert call("verify", "../somewhere").exit_code == 1
    assert call("verify", "all-MiniLM-L6-v2").exit_code == 1


@pytest.mark.usefixtures("models")
def test_build_of_an_unknown_model() -> None:
    done = call("build", "nobody")
    assert done.exit_code == 1
    assert "Shipped are: all-MiniLM-L6-v2" in done.stderr


def test_an_added_model_answers(models: Path, tmp_path: Path) -> None:
    export = write_export(tmp_path / "my-encoder")
    done = call("add", export)
    assert done.exit_code == 0, done.output
    assert 'Use it with "model": "my-encoder"' in done.stderr
    folder, manifest = Library(models, load_catalogues()).open("my-encoder")
    assert manifest.pooling == "cls"
    assert set(manifest.poolings) == {"mean", "cls"}
    assert (manifest.dimensions, manifest.max_tokens) == (4, 4)
    options = SessionOptions(providers=("cpu",), policy=ProviderPolicy.CPU, threads_per_run=1)
    tokenizer = open_tokenizer(
        folder / "tokenizer.json", max_tokens=manifest.max_tokens, prefix=manifest.prefix
    )
    texts = [found.ids for found in tokenizer.encode_texts(["the cat", "mat"], Truncate.ERROR)]
    session = open_session(folder / "model.onnx", options)
    ids, mask = pad(texts)
    cls, mean, raw = session.run(ids, mask, ["cls", "mean", "mean_raw"])
    assert [matrix.shape for matrix in (cls, mean, raw)] == [(2, 4)] * 3
    assert abs(float((cls[0] ** 2).sum()) - 1) < 1e-5
    assert call("verify").stdout == "my-encoder: sound\n"
    assert [each.name for each in models.iterdir()] == ["my-encoder"], "no scaffold is left"


def test_a_model_may_be_replaced_and_named(models: Path, tmp_path: Path) -> None:
    export = write_export(tmp_path / "export")
    for _ in range(2):
        assert call("add", export, "--name", "mine").exit_code == 0
    assert [each.name for each in models.iterdir()] == ["mine"]
    manifest = json.loads((models / "mine" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["id"] == "mine"


def test_the_folder_one_stands_in_has_a_name(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(write_export(tmp_path / "my-encoder"))
    assert call("add", ".").exit_code == 0
    assert [each.name for each in models.iterdir()] == ["my-encoder"]


@pytest.mark.parametrize("name", ["..", "../up", "a/b", ".hidden", "a b", "x" * 200])
def test_a_name_that_is_no_folder_of_ours_is_refused(
    models: Path, tmp_path: Path, name: str
) -> None:
    write_model(models, "mine")
    done = call("add", write_export(tmp_path / "export"), "--name", name)
    assert done.exit_code == 1
    assert "cannot name a model" in done.stderr
    assert [each.name for each in models.iterdir()] == ["mine"]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["export", "models"]


def test_a_shipped_name_is_not_taken(models: Path, tmp_path: Path) -> None:
    done = call("add", write_export(tmp_path / "all-MiniLM-L6-v2"))
    assert done.exit_code == 1
    assert "--name" in done.stderr
    assert not models.exists()


@pytest.mark.parametrize("missing", ["tokenizer.json", "onnx/model.onnx"])
def test_an_export_that_lacks_a_file_leaves_nothing(
    models: Path, tmp_path: Path, missing: str
) -> None:
    export = write_export(tmp_path / "export")
    (export / missing).unlink()
    done = call("add", export)
    assert done.exit_code == 1
    assert Path(missing).name in done.stderr
    assert list(models.iterdir()) == []


def test_a_failed_replacement_leaves_the_old_model(models: Path, tmp_path: Path) -> None:
    export = write_export(tmp_path / "mine")
    assert call("add", export).exit_code == 0
    (export / "tokenizer.json").write_text("{}")
    assert call("add", export).exit_code == 1
    assert call("verify").stdout == "mine: sound\n"


@pytest.mark.timeout(20)  # it must not wait for a network that is not there
def test_the_hub_without_a_network_says_so_at_once(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    done = call("add", "some-org/some-model")
    assert done.exit_code == 1
    assert "hub cannot be reached" in done.stderr
    assert "Without a network, give a folder" in done.stderr
    assert not models.exists()


@pytest.mark.usefixtures("models")
def test_what_is_neither_folder_nor_id() -> None:
    done = call("add", "not/a/folder")
    assert done.exit_code == 1
    assert "neither a folder here nor an id on the hub" in done.stderr


def test_a_gguf_file_becomes_a_language_model(models: Path, tmp_path: Path) -> None:
    done = call("add", tiny_llama().write(tmp_path / "tiny.gguf"))
    assert done.exit_code == 0, done.stderr
    assert call("verify", "tiny").stdout == "tiny: sound\n"
    family = read_manifest(models / "tiny").family
    assert family is not None
    assert family.default_variant == "gqa"


def test_a_damaged_gguf_file_leaves_nothing(models: Path, tmp_path: Path) -> None:
    file = tiny_llama().write(tmp_path / "tiny.gguf")
    file.write_bytes(file.read_bytes()[:-100])
    done = call("add", file)
    assert done.exit_code == 1
    assert "blk.1" in done.stderr or "output_norm" in done.stderr
    assert list(models.iterdir()) == []


def test_an_exported_decoder_becomes_a_language_model(models: Path, tmp_path: Path) -> None:
    assert call("add", write_decoder_export(tmp_path / "mine")).exit_code == 0
    manifest = read_manifest(models / "mine")
    assert manifest.kind == "decoder"
