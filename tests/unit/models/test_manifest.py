"""Check what `manifest.json` promises, without building anything."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from models import catalogue
from models.digest import measure
from models.errors import PinMismatchError, RecipeError
from models.fetch import Source, fetch_wheel

ENTRIES: list[dict[str, Any]] = catalogue.manifest()["models"]  # type: ignore[assignment]
ENCODERS = [entry for entry in ENTRIES if entry["kind"] == "encoder"]
FIELDS = {
    "id", "kind", "description", "languages", "licence", "source", "recipe", "options", "opset",
    "ir_version", "files", "inputs", "outputs", "dimensions", "max_tokens", "pooling", "poolings",
    "prefix", "prefixes", "tolerance",
}  # fmt: skip


def _silent(_stage: str, _done: int, _total: int) -> None:
    pass


def test_ids_are_unique_and_the_default_stands_first() -> None:
    ids = [entry["id"] for entry in ENTRIES]
    assert len(set(ids)) == len(ids)
    assert ids[:2] == ["all-MiniLM-L6-v2", "all-MiniLM-L6-v2-int8"]


@pytest.mark.parametrize("entry", ENCODERS, ids=lambda entry: entry["id"])
def test_every_entry_is_whole(entry: dict[str, Any]) -> None:
    assert entry.keys() >= FIELDS
    assert entry["opset"] == 24
    assert entry["ir_version"] == 11
    assert entry["inputs"].keys() == {"input_ids", "attention_mask"}
    assert {value["dtype"] for value in entry["inputs"].values()} == {"int64"}
    names = {f"{pooling}{end}" for pooling in entry["poolings"] for end in ("", "_raw")}
    assert entry["outputs"].keys() == names
    for output in entry["outputs"].values():
        assert output == {"dtype": "float32", "shape": ["batch", entry["dimensions"]]}
    assert entry["pooling"] in entry["poolings"]
    assert entry["files"].keys() >= {"model.onnx", "tokenizer.json"}
    assert entry["prefix"] in {"", *entry["prefixes"].values()}
    assert importlib.import_module(f"models.recipes.{entry['recipe']}").build
    assert Source.parse(entry["source"]).version


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["id"])
def test_every_pin_is_a_digest(entry: dict[str, Any]) -> None:
    digests = [pin["sha256"] for pin in entry["files"].values()]
    if entry["kind"] == "encoder":
        digests.append(entry["source"]["wheel_sha256"])
    for digest in digests:
        assert re.fullmatch("[0-9a-f]{64}", digest)
    assert all(pin["bytes"] > 0 for pin in entry["files"].values())


@pytest.mark.parametrize("entry", ENCODERS, ids=lambda entry: entry["id"])
def test_a_built_artefact_matches_its_pins(entry: dict[str, Any], models_dir: Path) -> None:
    folder = models_dir / entry["id"]
    assert folder.is_dir(), f"build it first: isotrope models build {entry['id']}"
    assert json.loads((folder / "manifest.json").read_text(encoding="utf-8")) == entry
    assert {name: measure(folder / name) for name in entry["files"]} == entry["files"]


def test_an_unknown_id_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"no shipped model is called 'bert'.*all-MiniLM-L6-v2"):
        catalogue.build("bert", tmp_path, progress=_silent)


def test_a_file_that_differs_from_its_pin_fails_and_leaves_no_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build_files(pinned: dict[str, Any], folder: Path, *, progress: object) -> None:
        for name in pinned["files"]:
            (folder / name).write_bytes(b"something else")

    monkeypatch.setattr(catalogue, "build_files", build_files)
    with pytest.raises(PinMismatchError, match=r"was built with sha256 .* the manifest pins"):
        catalogue.build("all-MiniLM-L6-v2", tmp_path, progress=_silent)
    assert not (tmp_path / "manifest.json").exists()


@pytest.mark.parametrize("source", ["text", {}, {"package": "a", "version": "1"}])
def test_a_source_without_its_pin_is_refused(source: object) -> None:
    with pytest.raises(RecipeError, match="source"):
        Source.parse(source)


def test_a_wheel_that_cannot_be_fetched_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    source = Source("no-such-wheel-of-isotrope", "1.0", "0" * 64)
    with pytest.raises(RecipeError, match="PIP_FIND_LINKS"):
        fetch_wheel(source, folder=tmp_path)
