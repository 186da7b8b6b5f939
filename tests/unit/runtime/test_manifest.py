"""A manifest says what a model is; its files must be the pinned ones, byte for byte."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from service.errors import ArtefactDamaged, ModelNotReady
from service.runtime.manifest import file_sha256, parse_manifest, read_manifest, verify_files
from tests.fakes.artefacts import manifest_entry, write_model
from tests.support.decoders import write_decoder

FILES = {"model.onnx": b"graph", "tokenizer.json": b"{}"}


def test_a_sound_folder_is_accepted(tmp_path: Path) -> None:
    folder = write_model(tmp_path, "tiny")
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    assert (manifest.id, manifest.dimensions, manifest.poolings) == ("tiny", 4, ("mean", "cls"))
    assert (manifest.prefix, dict(manifest.prefixes), dict(manifest.tolerance)) == ("", {}, {})


def test_the_digest_of_nothing_is_the_published_one(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.write_bytes(b"")
    assert file_sha256(path) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_the_digest_goes_over_every_piece(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(b"a" * 1_000_000)  # FIPS 180-2, the third example of SHA-256
    assert file_sha256(path) == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"
    path.write_bytes(b"a" * 3_000_000)
    long = file_sha256(path)
    path.write_bytes(b"a" * 2_999_999 + b"b")
    assert file_sha256(path) != long


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
@pytest.mark.parametrize("place", [0, 10, -1])
def test_one_flipped_bit_is_found(tmp_path: Path, name: str, place: int) -> None:
    folder = write_model(tmp_path, "tiny")
    content = bytearray((folder / name).read_bytes())
    content[place] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(ArtefactDamaged, match=f"tiny: {name} has SHA-256"):
        verify_files(folder, read_manifest(folder))


def test_a_cut_file_is_found_by_its_size(tmp_path: Path) -> None:
    folder = write_model(tmp_path, "tiny")
    content = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(content[:-1])
    with pytest.raises(ArtefactDamaged, match=f"{len(content) - 1} bytes, {len(content)} are pin"):
        verify_files(folder, read_manifest(folder))


def test_a_missing_file_is_found(tmp_path: Path) -> None:
    folder = write_model(tmp_path, "tiny")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ArtefactDamaged, match=r"tokenizer\.json is missing"):
        verify_files(folder, read_manifest(folder))


def test_a_folder_without_manifest_is_not_ready(tmp_path: Path) -> None:
    with pytest.raises(ModelNotReady, match="isotrope models build absent"):
        read_manifest(tmp_path / "absent")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[]", b"null", b"3", b"{}"])
def test_what_is_no_manifest_is_damaged(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(ArtefactDamaged):
        read_manifest(tmp_path)


@pytest.mark.parametrize("field", sorted(manifest_entry("tiny", FILES)))
def test_every_field_is_needed(field: str) -> None:
    entry = manifest_entry("tiny", FILES)
    del entry[field]
    with pytest.raises(ArtefactDamaged, match=f"here is not a manifest.*{field}"):
        parse_manifest(entry, "here")


@pytest.mark.parametrize(
    "change",
    [
        {"files": []},
        {"files": {"model.onnx": "text"}},
        {"files": {"model.onnx": {"sha256": "0"}}},
        {"dimensions": "many"},
        {"max_tokens": None},
        {"languages": 3},
        {"source": "a text"},
        {"prefixes": 1},
    ],
)
def test_fields_of_another_kind_are_damaged(change: dict[str, object]) -> None:
    with pytest.raises(ArtefactDamaged):
        parse_manifest(manifest_entry("tiny", FILES) | change, "here")


def test_a_foreign_manifest_of_json_is_damaged(tmp_path: Path) -> None:
    # what a browser extension calls a manifest
    foreign = {"manifest_version": 3, "name": "tiny", "version": "1", "files": ["a.js"]}
    (tmp_path / "manifest.json").write_text(json.dumps(foreign), encoding="utf-8")
    with pytest.raises(ArtefactDamaged):
        read_manifest(tmp_path)


def test_one_digest_stands_for_all_files() -> None:
    digest = parse_manifest(manifest_entry("tiny", FILES), "here").sha256
    turned = dict(reversed(FILES.items()))
    other_words = {**FILES, "tokenizer.json": b"{ }"}
    renamed = {"graph.onnx": FILES["model.onnx"], "tokenizer.json": FILES["tokenizer.json"]}
    assert parse_manifest(manifest_entry("other", turned), "here").sha256 == digest
    for files in (other_words, renamed):
        assert parse_manifest(manifest_entry("tiny", files), "here").sha256 != digest


@pytest.fixture(scope="module")
def decoder_entry(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return write_decoder(tmp_path_factory.mktemp("models"), names=["gqa", "mla"])


def test_a_decoder_is_a_family_of_variants(decoder_entry: dict[str, Any]) -> None:
    manifest = parse_manifest(decoder_entry, "here")
    family = manifest.family
    assert family is not None
    assert (manifest.kind, manifest.max_tokens, manifest.dimensions) == ("decoder", 128, 0)
    assert dict(manifest.tolerance) == {"logits": 1e-4}
    assert (family.vocabulary, family.tokenizer, family.chat) == (256, "bytes", None)
    assert (family.default_variant, family.serving, family.eos_ids) == ("gqa", None, (0,))
    assert list(family.variants) == ["gqa", "mla"]
    mla = family.variants["mla"]
    assert (mla.kv_heads, mla.kv_rank, mla.rope_dim, mla.cache_elements) == (None, 8, 4, 12)
    assert mla.perplexity is not None
    assert mla.perplexity.value == 256


@pytest.mark.parametrize(
    "field",
    [
        *("vocabulary", "tokenizer", "chat", "bos_id", "eos_ids", "layers", "hidden"),
        *("q_heads", "head_dim", "rope_base", "default_variant", "serving", "variants"),
        *("max_tokens", "opset"),
    ],
)
def test_every_field_of_a_decoder_is_needed(decoder_entry: dict[str, Any], field: str) -> None:
    entry = {name: value for name, value in decoder_entry.items() if name != field}
    with pytest.raises(ArtefactDamaged, match=f"here is not a manifest.*{field}"):
        parse_manifest(entry, "here")


@pytest.mark.parametrize("field", ["file", "windowed", "formula", "cache_elements", "perplexity"])
def test_every_field_of_a_variant_is_needed(decoder_entry: dict[str, Any], field: str) -> None:
    entry = deepcopy(decoder_entry)
    del entry["variants"]["mla"][field]
    with pytest.raises(ArtefactDamaged, match=f"here is not a manifest.*{field}"):
        parse_manifest(entry, "here")


@pytest.mark.parametrize(
    "change",
    [
        {"default_variant": "mha"},
        {"serving": "serving.onnx"},
        {"tokenizer": "tokenizer.json"},
        {"variants": {}},
        {"variants": []},
        {"eos_ids": 3},
        {"layers": "many"},
    ],
)
def test_a_decoder_that_does_not_hang_together_is_damaged(
    decoder_entry: dict[str, Any], change: dict[str, object]
) -> None:
    with pytest.raises(ArtefactDamaged):
        parse_manifest(decoder_entry | change, "here")


def test_a_file_without_a_pin_is_refused(tmp_path: Path) -> None:
    folder = write_model(tmp_path, "tiny")
    with pytest.raises(ArtefactDamaged, match=r"no digest is pinned for 'other\.bin'"):
        verify_files(folder, read_manifest(folder), ["model.onnx", "other.bin"])
