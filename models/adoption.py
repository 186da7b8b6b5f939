"""Turn an exported encoder folder into an artefact: read it, finish its graph, try it.

```
folder/                                                    artefact/
  onnx/model.onnx (or model.onnx)  ─ finish the graph ───▶   model.onnx
  tokenizer.json                   ─ drop trunc., padding ▶  tokenizer.json
  1_Pooling/config.json  ─ which pooling ┐
  sentence_bert_config.json ─ max tokens ┼────────────────▶  (entry)
  config.json, modules.json              ┘
```
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from tokenizers import Tokenizer

from models.completion import Completed, complete_graph
from models.errors import RecipeError
from models.graph import serialise
from models.trial import Trial, try_encoder

Progress = Callable[[str, int, int], None]

# Longest text where no file of the folder says how long one may be.
FALLBACK_MAX_TOKENS = 512
# protobuf cannot hold more; a larger graph keeps its tensors beside it.
LARGEST_FILE_BYTES = 2_000_000_000
TOLERANCE = 1e-5

_POOLING_KEYS: Mapping[str, str] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
}


@dataclass(frozen=True, slots=True)
class Folder:
    """Hold what an exported folder says about its encoder.

    Attributes:
        graph: path of the ONNX file.
        tokenizer: the parsed `tokenizer.json`.
        pooling: `mean` or `cls`.
        max_tokens: longest text, special tokens included.
        description: where the model says it comes from, or the folder's name.
    """

    graph: Path
    tokenizer: dict[str, object]
    pooling: str
    max_tokens: int
    description: str


def adopt(
    source: Path, folder: Path, *, model_id: str, progress: Progress
) -> dict[str, object]:
    """Write `model.onnx` and `tokenizer.json` into `folder`; return the entry that fits them.

    Args:
        source: the exported folder.
        folder: an existing, empty folder.
        model_id: id of the new entry.
        progress: called with a stage's name, the steps done and the steps in all.

    Raises:
        RecipeError: a file is missing or cannot be used; the message names it.
    """
    progress("read", 0, 1)
    read = read_folder(source)
    completed = complete_graph(load_graph(read.graph), pooling=read.pooling)
    progress("read", 1, 1)
    progress("write", 0, 2)
    model_path, tokenizer_path = folder / "model.onnx", folder / "tokenizer.json"
    model_path.write_bytes(_content(completed.model))
    progress("write", 1, 2)
    text = json.dumps(read.tokenizer, ensure_ascii=False, separators=(",", ":"))
    tokenizer_path.write_text(text, encoding="utf-8")
    progress("write", 2, 2)
    progress("try", 0, 1)
    trial = try_encoder(model_path, tokenizer_path, poolings=completed.poolings)
    progress("try", 1, 1)
    return _entry(read, completed, trial, model_id=model_id, files=(model_path, tokenizer_path))


def read_folder(source: Path) -> Folder:
    """Collect what `source` says, each fact from the file that settles it.

    Raises:
        RecipeError: a needed file is missing or damaged, or the pooling is not mean or cls.
    """
    if not source.is_dir():
        message = f"{source} is not a folder; give the folder that holds model.onnx"
        raise RecipeError(message)
    graph = next(
        (path for path in (source / "onnx/model.onnx", source / "model.onnx") if path.is_file()),
        None,
    )
    if graph is None:
        message = (
            f"{source} has neither onnx/model.onnx nor model.onnx; export the model first, "
            "for example with optimum or with SentenceTransformer(..., backend='onnx')"
        )
        raise RecipeError(message)
    tokenizer = _read_tokenizer(source / "tokenizer.json")
    truncation = tokenizer.pop("truncation", None)
    tokenizer.pop("padding", None)
    return Folder(
        graph=graph,
        tokenizer={**tokenizer, "truncation": None, "padding": None},
        pooling=_read_pooling(source),
        max_tokens=_read_max_tokens(source, truncation=truncation),
        description=f"Adopted from the folder {source.resolve().name}.",
    )


def load_graph(path: Path) -> onnx.ModelProto:
    """Return the model of an ONNX file, with tensors kept beside it brought inside.

    Raises:
        RecipeError: not an ONNX file, or a file of tensors is missing.
    """
    try:
        model = onnx.load(path)
    except DecodeError as error:
        message = f"{path} is not an ONNX file: {error}"
        raise RecipeError(message) from error
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        message = f"{path} refers to tensors kept in another file that cannot be read: {error}"
        raise RecipeError(message) from error
    if not model.graph.node or not model.graph.output:
        message = f"{path} is not an ONNX file: it holds no graph"
        raise RecipeError(message)
    return model


def _content(model: onnx.ModelProto) -> bytes:
    size = model.ByteSize()
    if size > LARGEST_FILE_BYTES:
        message = (
            f"model.onnx would have {size} bytes and one file holds at most "
            f"{LARGEST_FILE_BYTES}; export it with smaller weights (float16 or int8)"
        )
        raise RecipeError(message)
    return serialise(model)


def _read_json(path: Path) -> object:
    try:
        return cast("object", json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        message = f"{path} is not JSON: {error}"
        raise RecipeError(message) from error


def _read_object(path: Path) -> dict[str, object]:
    """Return the JSON object in `path`, or an empty one where there is no such file."""
    if not path.is_file():
        return {}
    content = _read_json(path)
    if not isinstance(content, dict):
        message = f"{path} is to hold a JSON object, not {type(content).__name__}"
        raise RecipeError(message)
    return content


def _read_tokenizer(path: Path) -> dict[str, object]:
    if not path.is_file():
        message = (
            f"{path} is missing; save the model's fast tokenizer there "
            "(tokenizer.save_pretrained writes it)"
        )
        raise RecipeError(message)
    content = _read_object(path)
    try:
        Tokenizer.from_str(json.dumps(content))
    except Exception as error:  # the library raises nothing narrower
        message = f"{path} is not a tokenizer that the tokenizers library reads: {error}"
        raise RecipeError(message) from error
    return content


def _read_pooling(source: Path) -> str:
    """Return the pooling of the pooling module's config; mean where there is none."""
    path = _pooling_folder(source) / "config.json"
    config = _read_object(path)
    # Newer exports name one mode, older ones switch each mode on or off.
    named = config.get("pooling_mode")
    if isinstance(named, str):
        chosen = [f"pooling_mode_{named}"]
    else:
        chosen = [key for key, on in config.items() if key.startswith("pooling_mode_") and on]
    known = {**_POOLING_KEYS, "pooling_mode_mean": "mean", "pooling_mode_cls": "cls"}
    if not chosen and not path.is_file():
        return "mean"
    if len(chosen) != 1 or chosen[0] not in known:
        message = (
            f"{path} asks for the pooling {', '.join(chosen) or 'of no kind'}; "
            "mean or cls, one of them, can be served"
        )
        raise RecipeError(message)
    return known[chosen[0]]


def _pooling_folder(source: Path) -> Path:
    path = source / "modules.json"
    modules = _read_json(path) if path.is_file() else []
    for module in modules if isinstance(modules, list) else []:
        if isinstance(module, dict) and str(module.get("type", "")).endswith("Pooling"):
            return source / str(module.get("path", "1_Pooling"))
    return source / "1_Pooling"


def _read_max_tokens(source: Path, *, truncation: object) -> int:
    """Return the first of: the encoder's own limit, the tokenizer's, the position table's."""
    own = _read_object(source / "sentence_bert_config.json").get("max_seq_length")
    cut = truncation.get("max_length") if isinstance(truncation, dict) else None
    table = _read_object(source / "config.json").get("max_position_embeddings")
    for limit in (own, cut, table):
        if isinstance(limit, int) and limit > 0:
            # No table row, no position: a longer text would fail inside the graph.
            return min(limit, table) if isinstance(table, int) and table > 0 else limit
    return FALLBACK_MAX_TOKENS
