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

import onnx
from tokenizers import Tokenizer

from models.completion import Completed, complete_graph
from models.digest import measure
from models.errors import RecipeError
from models.graph import serialise
from models.trial import Trial, try_encoder

Progress = Callable[[str, int, int], None]

# Longest text where no file of the folder says how long one may be.
FALLBACK_MAX_TOKENS = 512
# A stated limit from here on means no limit.
LARGEST_MAX_TOKENS = 1_000_000
# protobuf cannot hold more; a larger graph keeps its tensors beside it.
LARGEST_FILE_BYTES = 2_000_000_000
TOLERANCE = 1e-5

_POOLING_NAMES: Mapping[str, str] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "mean": "mean",
    "cls": "cls",
}
# What a graph of token vectors and our poolings cover; Dense or others need a pooled output.
_SERVED_STEPS = frozenset({"Transformer", "Pooling", "Normalize"})
# These count positions from the padding id + 1 on, and so use as many rows less.
_SHIFTED_POSITIONS = frozenset({"roberta", "xlm-roberta", "camembert", "mpnet"})


@dataclass(frozen=True, slots=True)
class Folder:
    """Hold what an exported folder says about its encoder.

    Attributes:
        graph: path of the ONNX file.
        tokenizer: the parsed `tokenizer.json`.
        pooling: `mean` or `cls`.
        pooled_only: steps follow the pooling that only the graph itself can hold.
        max_tokens: longest text, special tokens included.
        prompts: texts to put before an input, by purpose.
        default_prompt: the purpose taken where none is named, or "".
        name: the folder's own name.
    """

    graph: Path
    tokenizer: dict[str, object]
    pooling: str
    pooled_only: bool
    max_tokens: int
    prompts: dict[str, str]
    default_prompt: str
    name: str


def adopt(source: Path, folder: Path, *, model_id: str, progress: Progress) -> dict[str, object]:
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
    completed = complete_graph(
        load_graph(read.graph), pooling=read.pooling, pooled_only=read.pooled_only
    )
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
    graph = find_graph(source)
    tokenizer = read_tokenizer(source / "tokenizer.json")
    truncation = tokenizer.pop("truncation", None)
    tokenizer.pop("padding", None)
    modules = _read_modules(source)
    prompts, default_prompt = _read_prompts(source)
    return Folder(
        graph=graph,
        tokenizer={**tokenizer, "truncation": None, "padding": None},
        pooling=_read_pooling(source / modules.get("Pooling", "1_Pooling") / "config.json"),
        pooled_only=not modules.keys() <= _SERVED_STEPS,
        max_tokens=_read_max_tokens(source, truncation=truncation),
        prompts=prompts,
        default_prompt=default_prompt,
        name=source.resolve().name,
    )


def find_graph(source: Path) -> Path:
    """Return the ONNX file of an exported folder.

    Raises:
        RecipeError: it is no folder, or has no graph where exporters put it.
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
    return graph


def load_graph(path: Path) -> onnx.ModelProto:
    """Return the model of an ONNX file, with tensors kept beside it brought inside.

    Raises:
        RecipeError: not an ONNX file, or a file of tensors is missing.
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's own exception, which it alone can name
        message = f"{path} is not an ONNX file: {error}"
        raise RecipeError(message) from error
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except Exception as error:  # missing, short or outside the folder: each raises its own
        message = f"{path} keeps tensors in another file that cannot be read: {error}"
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


def read_object(path: Path) -> dict[str, object]:
    """Return the JSON object in `path`, or an empty one where there is no such file."""
    if not path.is_file():
        return {}
    content = _read_json(path)
    if not isinstance(content, dict):
        message = f"{path} is to hold a JSON object, not {type(content).__name__}"
        raise RecipeError(message)
    return content


def read_tokenizer(path: Path) -> dict[str, object]:
    """Return the parsed `tokenizer.json` at `path`.

    Raises:
        RecipeError: it is missing, or the tokenizers library cannot read it.
    """
    if not path.is_file():
        message = (
            f"{path} is missing; save the model's fast tokenizer there "
            "(tokenizer.save_pretrained writes it)"
        )
        raise RecipeError(message)
    content = read_object(path)
    try:
        Tokenizer.from_str(json.dumps(content))
    except Exception as error:  # the library raises nothing narrower
        message = f"{path} is not a tokenizer that the tokenizers library reads: {error}"
        raise RecipeError(message) from error
    return content


def _read_modules(source: Path) -> dict[str, str]:
    """Return the folder of each step of `modules.json`, by the last word of its type."""
    path = source / "modules.json"
    listed = _read_json(path) if path.is_file() else []
    modules = listed if isinstance(listed, list) else []
    return {
        str(module.get("type", "")).rpartition(".")[2]: str(module.get("path", ""))
        for module in modules
        if isinstance(module, dict)
    }


def _read_pooling(path: Path) -> str:
    """Return the pooling that the config at `path` names; mean where there is no such file."""
    if not path.is_file():
        return "mean"
    config = read_object(path)
    # Newer exports name one mode, older ones switch each mode on or off.
    named = config.get("pooling_mode")
    chosen = (
        [named]
        if isinstance(named, str)
        else [key for key, on in config.items() if key.startswith("pooling_mode_") and on]
    )
    if len(chosen) != 1 or chosen[0] not in _POOLING_NAMES:
        message = (
            f"{path} asks for the pooling {', '.join(chosen) or 'of no kind'}; "
            "mean or cls, one of them, can be served"
        )
        raise RecipeError(message)
    return _POOLING_NAMES[chosen[0]]


def _read_prompts(source: Path) -> tuple[dict[str, str], str]:
    """Return the prompts by purpose, and the purpose that is the default, or ""."""
    config = read_object(source / "config_sentence_transformers.json")
    named = config.get("prompts")
    prompts = {str(k): str(v) for k, v in named.items() if v} if isinstance(named, dict) else {}
    default = config.get("default_prompt_name")
    return prompts, default if isinstance(default, str) and default in prompts else ""


def _read_max_tokens(source: Path, *, truncation: object) -> int:
    """Return the encoder's own limit, or the tokenizer's, but never more than the positions."""
    config = read_object(source / "config.json")
    limits = [
        read_object(source / "sentence_bert_config.json").get("max_seq_length"),
        truncation.get("max_length") if isinstance(truncation, dict) else None,
        read_object(source / "tokenizer_config.json").get("model_max_length"),
    ]
    rows = config.get("max_position_embeddings")
    known = rows if isinstance(rows, int) and rows > 0 else LARGEST_MAX_TOKENS
    if config.get("model_type") in _SHIFTED_POSITIONS:
        padding = config.get("pad_token_id")
        known -= (padding if isinstance(padding, int) else 1) + 1
    # Some tokenizers say 10**30 where they mean no limit.
    stated = [
        limit for limit in limits if isinstance(limit, int) and 0 < limit < LARGEST_MAX_TOKENS
    ]
    fallback = known if known < LARGEST_MAX_TOKENS else FALLBACK_MAX_TOKENS
    return min(stated[0] if stated else fallback, known)


def _entry(
    read: Folder,
    completed: Completed,
    trial: Trial,
    *,
    model_id: str,
    files: tuple[Path, ...],
) -> dict[str, object]:
    whole = {"dtype": "int64", "shape": ["batch", "length"]}
    vector = {"dtype": "float32", "shape": ["batch", trial.dimensions]}
    outputs = [f"{name}{end}" for name in completed.poolings for end in ("", "_raw")]
    return {
        "id": model_id,
        "kind": "encoder",
        "description": f"Adopted from the folder {read.name}.",
        "languages": [],
        "licence": "unknown",
        "source": {"folder": read.name, "graph_sha256": measure(read.graph)["sha256"]},
        "recipe": "adopted",
        "options": {},
        "opset": completed.opset,
        "ir_version": completed.model.ir_version,
        "files": {path.name: measure(path) for path in files},
        "inputs": {"input_ids": whole, "attention_mask": whole},
        "outputs": dict.fromkeys(outputs, vector),
        "dimensions": trial.dimensions,
        "max_tokens": read.max_tokens,
        "pooling": read.pooling,
        "poolings": list(completed.poolings),
        "prefix": read.prompts.get(read.default_prompt, ""),
        "prefixes": read.prompts,
        "tolerance": {"max_abs_difference": max(TOLERANCE, trial.padding_difference)},
    }
