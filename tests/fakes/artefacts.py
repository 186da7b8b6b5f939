"""Write model folders in a moment: a real tokenizer, a real manifest, any graph."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from service.runtime.library import Progress

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "query", ":", "the", "cat", "sat", "on", "a", "mat")
VOCABULARY = {word: number for number, word in enumerate(WORDS)}
BEFORE, AFTER = VOCABULARY["[CLS]"], VOCABULARY["[SEP]"]
MAX_TOKENS = 16


def tokenizer_json(*, special: bool = True, words: Mapping[str, int] = VOCABULARY) -> str:
    """Return a word-level `tokenizer.json`, with or without `[CLS] … [SEP]` around a text."""
    template = {
        "type": "TemplateProcessing",
        "single": [
            {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
            {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
        ],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {
            name: {"id": name, "ids": [VOCABULARY[name]], "tokens": [name]}
            for name in ("[CLS]", "[SEP]")
        },
    }
    return json.dumps(
        {
            "version": "1.0",
            "truncation": {
                "direction": "Right",
                "max_length": 4,
                "strategy": "LongestFirst",
                "stride": 0,
            },
            "padding": None,
            "added_tokens": [],
            "normalizer": {"type": "Lowercase"},
            "pre_tokenizer": {"type": "Whitespace"},
            "post_processor": template if special else None,
            "decoder": None,
            "model": {"type": "WordLevel", "vocab": dict(words), "unk_token": "[UNK]"},
        }
    )


def manifest_entry(
    model_id: str, files: Mapping[str, bytes], **changes: object
) -> dict[str, object]:
    """Return a manifest entry that pins `files`; `changes` replace fields."""
    entry: dict[str, object] = {
        "id": model_id,
        "kind": "encoder",
        "description": "A model for tests.",
        "languages": ["en"],
        "licence": "Apache-2.0",
        "source": {"folder": "tests"},
        "files": {
            name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
            for name, content in files.items()
        },
        "dimensions": 4,
        "max_tokens": MAX_TOKENS,
        "pooling": "mean",
        "poolings": ["mean", "cls"],
        "opset": 20,
    }
    return entry | changes


def write_model(models: Path, model_id: str, *, special: bool = True, **changes: object) -> Path:
    """Write a sound model folder, its graph a few bytes that only a fake session opens."""
    files = {
        "model.onnx": b"no graph, only bytes",
        "tokenizer.json": tokenizer_json(special=special).encode(),
    }
    folder = models / model_id
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    entry = manifest_entry(model_id, files, **changes)
    (folder / "manifest.json").write_text(json.dumps(entry), encoding="utf-8")
    return folder


def write_export(folder: Path) -> Path:
    """Write what an exporter leaves: a graph of token vectors, a tokenizer, a pooling config.

    ```
    input_ids ─ Gather in a (12, 4) table ─ last_hidden_state (batch, length, 4)
    ```
    """
    table = np.random.default_rng(5).standard_normal((len(WORDS), 4)).astype(np.float32)
    axes = ["batch", "length"]
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "input_ids"], ["last_hidden_state"])],
        "export",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, axes)
            for name in ("input_ids", "attention_mask")
        ],
        [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, [*axes, 4])],
        [numpy_helper.from_array(table, "table")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    (folder / "onnx").mkdir(parents=True)
    onnx.save(model, folder / "onnx" / "model.onnx")
    (folder / "tokenizer.json").write_text(tokenizer_json(), encoding="utf-8")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    return folder


class FakeCatalogue:
    """Ship some entries; those in `folders` are bundled, the others are to be built."""

    def __init__(
        self, *entries: Mapping[str, object], folders: Mapping[str, Path] | None = None
    ) -> None:
        self.entries: Sequence[Mapping[str, object]] = entries
        self.folders = dict(folders or {})

    def manifest(self) -> Mapping[str, object]:
        """Return the entries as a shipped manifest."""
        return {"models": list(self.entries)}

    def build(self, model_id: str, folder: Path, *, progress: Progress) -> None:
        """Refuse: no test builds from here."""
        raise AssertionError(f"no test makes {model_id}")

    def bundled(self, model_id: str) -> Path | None:
        """Return where a bundled model lies."""
        return self.folders.get(model_id)

    def adopt(self, source: Path, folder: Path, *, model_id: str, progress: Progress) -> None:
        """Refuse: no test adopts through here."""
        raise AssertionError(f"no test makes {model_id}")
