"""Adopt an exported decoder folder: its graph, its tokenizer, and what its config says.

```
folder/                                                  artefact/
  model.onnx (or onnx/model.onnx)  ─ our names ────────▶   gqa.onnx, weights.bin
  tokenizer.json                   ─ drop trunc., pad. ▶   tokenizer.json
  config.json  sizes, ids, positions ┐
  tokenizer_config.json  chat, bos   ┴─────────────────▶   (entry)
```
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import onnx

from models.adoption import find_graph, load_graph, read_object, read_tokenizer
from models.errors import RecipeError
from models.own_decoders.cached_graph import CachedGraph, adapt_graph
from models.own_decoders.entry import Facts, describe_entry, own_formula, variant
from models.own_decoders.trial import try_decoder

Progress = Callable[[str, int, int], None]
_WEIGHTS = "weights.bin"
_ROPE_BASE = 10_000.0
# Smaller arrays stay in the graph.
_LEAST_OUTSIDE_BYTES = 1024


def adopt_export(
    source: Path, folder: Path, *, model_id: str, progress: Progress
) -> dict[str, object]:
    """Write the graph, its weights and the tokenizer into `folder`; return the fitting entry.

    Args:
        source: the exported folder.
        folder: an existing, empty folder.
        model_id: id of the new entry.
        progress: called with a stage's name, the steps done and the steps in all.

    Raises:
        RecipeError: a file is missing or cannot be used; the message names it.
    """
    progress("read", 0, 1)
    path = find_graph(source)
    cached = adapt_graph(load_graph(path))
    config = read_object(source / "config.json")
    tokenizer = read_tokenizer(source / "tokenizer.json")
    facts = _facts(source, config, cached)
    _require_fitting(tokenizer, facts.vocabulary, source)
    progress("read", 1, 1)
    name = own_formula(facts.q_heads, cached.kv_heads)
    progress("write", 0, 1)
    text = json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":"))
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    onnx.save_model(
        cached.model, folder / f"{name}.onnx",
        save_as_external_data=True, all_tensors_to_one_file=True,
        location=_WEIGHTS, size_threshold=_LEAST_OUTSIDE_BYTES,
    )  # fmt: skip
    progress("write", 1, 1)
    progress("try", 0, 1)
    tolerance = try_decoder(
        folder / f"{name}.onnx", vocabulary=facts.vocabulary, rope_base=facts.rope_base
    )
    progress("try", 1, 1)
    own = variant(
        name,
        formula=name,
        kv_heads=cached.kv_heads,
        cache_elements=2 * cached.kv_heads * cached.head_dim,
    )
    return describe_entry(
        facts, model_id=model_id, source=path, folder=folder,
        variants={name: own}, default_variant=name, tolerance=tolerance,
        opset=cached.opset, ir_version=cached.model.ir_version,
    )  # fmt: skip


def _facts(source: Path, config: Mapping[str, object], cached: CachedGraph) -> Facts:
    about = read_object(source / "tokenizer_config.json")
    heads = _whole(config, "num_attention_heads")
    vocabulary = cached.vocabulary or _whole(config, "vocab_size")
    stated = _whole(config, "num_key_value_heads", absent=heads)
    if stated != cached.kv_heads or heads % stated:
        message = (
            f"config.json says {heads} heads and {stated} of keys, the graph caches "
            f"{cached.kv_heads}: they do not belong together"
        )
        raise RecipeError(message)
    base = config.get("rope_theta", _ROPE_BASE)
    eos = config.get("eos_token_id")
    begins = config.get("bos_token_id") if about.get("add_bos_token") else None
    ends = eos if isinstance(eos, list) else [eos]
    return Facts(
        vocabulary=vocabulary,
        max_tokens=_whole(config, "max_position_embeddings"),
        layers=cached.layers,
        hidden=_whole(config, "hidden_size"),
        q_heads=heads,
        head_dim=cached.head_dim,
        rope_base=float(base) if isinstance(base, int | float) else _ROPE_BASE,
        bos_id=_token(begins, vocabulary),
        eos_ids=tuple(id_ for each in ends if (id_ := _token(each, vocabulary)) is not None),
        chat_template=str(about.get("chat_template") or ""),
        licence="unknown",
    )


def _token(number: object, vocabulary: int) -> int | None:
    """Return an id that the config names, or None where it names none.

    Raises:
        RecipeError: it is no id of the vocabulary.
    """
    if number is None:
        return None
    if not isinstance(number, int) or not 0 <= number < vocabulary:
        message = f"config.json names the token {number!r}, not one of {vocabulary} ids"
        raise RecipeError(message)
    return number


def _whole(config: Mapping[str, object], key: str, *, absent: int | None = None) -> int:
    value = config.get(key, absent)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        message = f"config.json is to give {key!r} as a positive whole number, not {value!r}"
        raise RecipeError(message)
    return value


def _require_fitting(tokenizer: Mapping[str, object], vocabulary: int, source: Path) -> None:
    model = tokenizer.get("model")
    known = model.get("vocab") if isinstance(model, dict) else None
    ids = list(known.values()) if isinstance(known, dict) else []
    added = tokenizer.get("added_tokens")
    ids += [each["id"] for each in added] if isinstance(added, list) else []
    largest = max((each for each in ids if isinstance(each, int)), default=-1)
    if not 0 <= largest < vocabulary:
        message = (
            f"{source / 'tokenizer.json'} has ids up to {largest} and the model {vocabulary} "
            "logits: they do not belong together"
        )
        raise RecipeError(message)
