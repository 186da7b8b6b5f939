"""Describe a family of language models: one set of weights, and a graph a variant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# A tokenizer without a file: an id is a byte of UTF-8.
BYTES = "bytes"


@dataclass(frozen=True, slots=True)
class MeasuredPerplexity:
    """Hold the perplexity that was measured when a variant was made.

    Attributes:
        text: what was read.
        windows: pieces of it.
        length: tokens of each.
        value: exp of the mean negative log-likelihood, in tokens.
    """

    text: str
    windows: int
    length: int
    value: float


@dataclass(frozen=True, slots=True)
class VariantEntry:
    """Hold what the manifest says of one variant.

    Attributes:
        name: as requests call it.
        file: its graph.
        windowed: its graph for schemes with a near and a far table; None where there is none.
        formula: mha, mqa, gqa, mla or mla_absorbed.
        kv_heads: heads of keys; None for a latent.
        kv_rank: numbers of the latent; None for heads of keys.
        rope_dim: numbers of the decoupled key that turns; None where whole heads turn.
        cache_elements: numbers kept of a token in one layer.
        lossy: whether the variant computes another function than the weights were trained for.
        scale: `sqrt` or `log_n`, what it was trained with.
        normaliser: `softmax` or `l2`, likewise.
        perplexity: None where it was not measured.
    """

    name: str
    file: str
    windowed: str | None
    formula: str
    kv_heads: int | None
    kv_rank: int | None
    rope_dim: int | None
    cache_elements: int
    lossy: bool
    scale: str
    normaliser: str
    perplexity: MeasuredPerplexity | None


@dataclass(frozen=True, slots=True)
class FamilyEntry:
    """Hold what the manifest says of a decoder beyond what it says of every model.

    Attributes:
        vocabulary: numbers in a row of logits.
        tokenizer: a file of the folder, or `bytes`.
        chat: `chatml`, or None for a model that was not trained to chat.
        bos_id: put before every text; None where nothing is.
        eos_ids: ids that end a text.
        layers: of the model.
        hidden: numbers between layers.
        q_heads: heads of queries a layer.
        head_dim: numbers of a head.
        rope_base: of the rotary angles.
        default_variant: a key of `variants`.
        serving: file of the graph for many ragged sequences; None where there is none.
        variants: by name.
    """

    vocabulary: int
    tokenizer: str
    chat: str | None
    bos_id: int | None
    eos_ids: tuple[int, ...]
    layers: int
    hidden: int
    q_heads: int
    head_dim: int
    rope_base: float
    default_variant: str
    serving: str | None
    variants: Mapping[str, VariantEntry]


def parse_family(entry: Mapping[str, Any], files: Mapping[str, object]) -> FamilyEntry:
    """Return the part of a manifest entry that only a decoder has.

    Args:
        entry: parsed JSON object.
        files: what the folder holds; every graph must be among it.

    Raises:
        KeyError: a field is missing.
        TypeError: a field is of another kind.
        ValueError: a field names a file or a variant that is not there.
    """
    variants = {
        str(name): _parse_variant(str(name), each) for name, each in entry["variants"].items()
    }
    family = FamilyEntry(
        vocabulary=int(entry["vocabulary"]),
        tokenizer=str(entry["tokenizer"]),
        chat=_text_or_none(entry["chat"]),
        bos_id=_whole_or_none(entry["bos_id"]),
        eos_ids=tuple(int(each) for each in entry["eos_ids"]),
        layers=int(entry["layers"]),
        hidden=int(entry["hidden"]),
        q_heads=int(entry["q_heads"]),
        head_dim=int(entry["head_dim"]),
        rope_base=float(entry["rope_base"]),
        default_variant=str(entry["default_variant"]),
        serving=_text_or_none(entry["serving"]),
        variants=variants,
    )
    _require_whole(family, files)
    return family


def _require_whole(family: FamilyEntry, files: Mapping[str, object]) -> None:
    if family.default_variant not in family.variants:
        raise ValueError(f"the default variant {family.default_variant!r} is not a variant")
    named = [each.file for each in family.variants.values()]
    named += [each.windowed for each in family.variants.values() if each.windowed is not None]
    named += [] if family.serving is None else [family.serving]
    named += [] if family.tokenizer == BYTES else [family.tokenizer]
    missing = sorted(set(named) - set(files))
    if missing:
        raise ValueError(f"{missing[0]!r} is named and not pinned")


def _parse_variant(name: str, entry: Mapping[str, Any]) -> VariantEntry:
    measured = entry["perplexity"]
    return VariantEntry(
        name=name,
        file=str(entry["file"]),
        windowed=_text_or_none(entry["windowed"]),
        formula=str(entry["formula"]),
        kv_heads=_whole_or_none(entry["kv_heads"]),
        kv_rank=_whole_or_none(entry["kv_rank"]),
        rope_dim=_whole_or_none(entry["rope_dim"]),
        cache_elements=int(entry["cache_elements"]),
        lossy=bool(entry["lossy"]),
        scale=str(entry["scale"]),
        normaliser=str(entry["normaliser"]),
        perplexity=None if measured is None else _parse_perplexity(measured),
    )


def _parse_perplexity(entry: Mapping[str, Any]) -> MeasuredPerplexity:
    return MeasuredPerplexity(
        text=str(entry["text"]),
        windows=int(entry["windows"]),
        length=int(entry["length"]),
        value=float(entry["value"]),
    )


def _text_or_none(value: object) -> str | None:
    return None if value is None else str(value)


def _whole_or_none(value: Any) -> int | None:  # noqa: ANN401 - what JSON held
    return None if value is None else int(value)
