"""Say in a manifest entry what an adopted decoder is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from models.digest import measure
from models.graph import IR_VERSION, OPSET

CHATML_MARK = "<|im_start|>"


@dataclass(frozen=True, slots=True)
class Facts:
    """Hold what a source says of its decoder, beyond its graphs.

    Attributes:
        vocabulary: numbers in a row of logits.
        max_tokens: positions it was trained for.
        layers: of the model.
        hidden: numbers between layers.
        q_heads: heads of queries a layer.
        head_dim: numbers of a head.
        rope_base: of the rotary angles.
        bos_id: put before every text, or None.
        eos_ids: ids that end a text.
        chat_template: as the source has it; empty where there is none.
        licence: as the source names it, or `unknown`.
    """

    vocabulary: int
    max_tokens: int
    layers: int
    hidden: int
    q_heads: int
    head_dim: int
    rope_base: float
    bos_id: int | None
    eos_ids: tuple[int, ...]
    chat_template: str
    licence: str


def variant(
    name: str,
    *,
    formula: str,
    kv_heads: int | None,
    cache_elements: int,
    kv_rank: int | None = None,
    lossy: bool = False,
    windowed: str | None = None,
) -> dict[str, object]:
    """Return one item of `variants`; its graph is `<name>.onnx`."""
    return {
        "file": f"{name}.onnx",
        "windowed": windowed,
        "formula": formula,
        "kv_heads": kv_heads,
        "kv_rank": kv_rank,
        "rope_dim": None,
        "cache_elements": cache_elements,
        "lossy": lossy,
        "scale": "sqrt",
        "normaliser": "softmax",
        "perplexity": None,
    }


def own_formula(q_heads: int, kv_heads: int) -> str:
    """Return what a decoder with these heads is: mha, gqa or mqa."""
    if kv_heads == q_heads:
        return "mha"
    return "mqa" if kv_heads == 1 else "gqa"


def describe_entry(
    facts: Facts,
    *,
    model_id: str,
    source: Path,
    folder: Path,
    variants: Mapping[str, object],
    default_variant: str,
    tolerance: float,
    serving: str | None = None,
    opset: int = OPSET,
    ir_version: int = IR_VERSION,
) -> dict[str, object]:
    """Return the entry of the files that lie in `folder`.

    Args:
        facts: of the source.
        model_id: id of the new entry.
        source: the file or the graph that was adopted.
        folder: where the artefact lies, complete but for the entry.
        variants: items by name.
        default_variant: one of them.
        tolerance: largest difference of a logit between a text read whole and token by token.
        serving: file of the fast graph, or None.
        opset: of the graphs.
        ir_version: of the graphs.
    """
    return {
        "id": model_id,
        "kind": "decoder",
        "description": f"Adopted from {source.name}.",
        "languages": [],
        "licence": facts.licence,
        "source": {"file": source.name, "sha256": measure(source)["sha256"]},
        "recipe": "adopted",
        "options": {},
        "opset": opset,
        "ir_version": ir_version,
        "files": {path.name: measure(path) for path in sorted(folder.iterdir())},
        "max_tokens": facts.max_tokens,
        "vocabulary": facts.vocabulary,
        "tokenizer": "tokenizer.json",
        "chat": "chatml" if CHATML_MARK in facts.chat_template else None,
        "bos_id": facts.bos_id,
        "eos_ids": list(facts.eos_ids),
        "layers": facts.layers,
        "hidden": facts.hidden,
        "q_heads": facts.q_heads,
        "head_dim": facts.head_dim,
        "rope_base": facts.rope_base,
        "default_variant": default_variant,
        "serving": serving,
        "variants": dict(variants),
        "tolerance": tolerance,
    }
