"""Check the family that the repository carries: whole, pinned, and built by copying."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from models import catalogue
from models.errors import PinMismatchError
from models.training.export import provenance_entry
from models.training.shape import VARIANTS

MODEL = "isotrope-bytes"
FAMILY = Path(catalogue.__file__).with_name("decoders") / MODEL
FIELDS = {
    "id", "kind", "description", "languages", "licence", "source", "recipe", "options", "opset",
    "ir_version", "files", "tolerance", "max_tokens", "vocabulary", "tokenizer", "chat", "bos_id",
    "eos_ids", "layers", "hidden", "q_heads", "head_dim", "rope_base", "default_variant", "serving",
    "variants",
}  # fmt: skip


def silent(_stage: str, _done: int, _total: int) -> None:
    pass


@pytest.fixture
def entry() -> dict[str, Any]:
    return catalogue.entry(MODEL)


def test_the_entry_is_whole(entry: dict[str, Any]) -> None:
    assert set(entry) == FIELDS
    assert set(entry["variants"]) == {*VARIANTS, "mla_absorbed"}
    for described in entry["variants"].values():
        assert {described["file"], described["windowed"]} <= set(entry["files"])
        assert 1 < described["perplexity"]["value"] < 16
        assert described["lossy"] is False
    for name, shape in VARIANTS.items():
        assert entry["variants"][name]["cache_elements"] == shape.cache_elements


def test_building_copies_what_is_committed(tmp_path: Path, entry: dict[str, Any]) -> None:
    catalogue.build(MODEL, tmp_path, progress=silent)
    assert json.loads((tmp_path / "manifest.json").read_text()) == entry
    built = {path.name for path in tmp_path.iterdir()} - {"manifest.json"}
    assert built == set(entry["files"]) == {path.name for path in FAMILY.iterdir()}
    for name in built:
        assert (tmp_path / name).read_bytes() == (FAMILY / name).read_bytes()


def test_a_damaged_file_is_not_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(FAMILY, tmp_path / "decoders" / MODEL)
    damaged = tmp_path / "decoders" / MODEL / "gqa.safetensors"
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    monkeypatch.setattr(catalogue, "_DECODERS", tmp_path / "decoders")
    (tmp_path / "out").mkdir()
    with pytest.raises(PinMismatchError, match=r"gqa\.safetensors"):
        catalogue.build(MODEL, tmp_path / "out", progress=silent)
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_provenance_agrees_with_the_entry_and_the_weights(entry: dict[str, Any]) -> None:
    told = json.loads((FAMILY / "provenance.json").read_text())
    assert provenance_entry(FAMILY) == entry
    for name, shape in VARIANTS.items():
        described = told["variants"][name]
        assert described["parameters"] == shape.parameters
        assert described["weights"] == entry["files"][f"{name}.safetensors"]
        assert len({run["seed"] for run in described["runs"]}) >= 3
