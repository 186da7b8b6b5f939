"""Write a tiny family with a serving graph: the same function as its float graph."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

from models.decoder.body import feed_forward, norm
from models.decoder.source import FloatSource, Source
from models.decoder.storage import DataFile, write_graph
from models.digest import measure
from models.graph import CONTRIB_DOMAIN, GraphBuilder
from tests.support.decoders import FORMS, SIZES, random_weights, write_decoder

FORM = FORMS["gqa"]
# Letters of bytes that no UTF-8 holds: their ids are free for merges and marks.
_NEVER = set(map(chr, (0xC0, 0xC1, *range(0xF5, 0x100))))
_MERGES = [
    ("t", "h"), ("th", "e"), ("Ġ", "c"), ("Ġc", "a"), ("Ġca", "t"),
    ("i", "n"), ("in", "g"), ("o", "n"), ("Ġ", "s"), ("Ġs", "a"),
]  # fmt: skip
_MARKS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_PAIRS = SIZES.head_dim // 2
_TURN = {"interleaved": SIZES.interleaved}
_CACHE = ("batch", FORM.kv_heads, "capacity", SIZES.head_dim)


def write_serving_family(folder: Path, *, model_id: str = "tiny-serving") -> dict[str, Any]:
    """Write a family with one float variant and a serving graph; return its manifest entry."""
    entry = write_decoder(folder, model_id=model_id, names=["gqa"])
    place = folder / model_id
    file = DataFile("serving.bin")
    graph = serving_graph(FloatSource(random_weights(SIZES, FORM), file=file))
    file.write(place)
    write_graph(graph, place / "serving.onnx")
    for name in ("serving.onnx", "serving.bin"):
        entry["files"][name] = measure(place / name)
    entry["serving"] = "serving.onnx"
    (place / "manifest.json").write_text(json.dumps(entry, indent=2), encoding="utf-8")
    return entry


def write_chat_family(folder: Path, *, model_id: str = "tiny-chat") -> dict[str, Any]:
    """Write the same family with a byte-level tokenizer of a few merges, and ChatML's marks."""
    entry = write_serving_family(folder, model_id=model_id)
    place = folder / model_id
    pieces = [*sorted(set(ByteLevel.alphabet()) - _NEVER), *map("".join, _MERGES)]
    tokenizer = Tokenizer(BPE({piece: number for number, piece in enumerate(pieces)}, _MERGES))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    tokenizer.add_special_tokens(list(_MARKS))
    tokenizer.save(str(place / "tokenizer.json"))
    entry["files"]["tokenizer.json"] = measure(place / "tokenizer.json")
    entry |= {
        "tokenizer": "tokenizer.json",
        "chat": "chatml",
        "eos_ids": [tokenizer.token_to_id("<|im_end|>")],
    }
    (place / "manifest.json").write_text(json.dumps(entry, indent=2), encoding="utf-8")
    return entry


def serving_graph(source: Source) -> GraphBuilder:
    """Return the graph of the contract's serving form, float32 throughout."""
    graph = GraphBuilder("serving")
    ids = graph.take("input_ids", dtype=np.int64, shape=("batch", "sequence"))
    tables = [
        graph.take(name, dtype=np.float32, shape=("batch", "sequence", _PAIRS))
        for name in ("q_cos", "q_sin", "k_cos", "k_sin")
    ]
    lengths = [
        graph.take("seqlens_k", dtype=np.int32, shape=("batch",)),
        graph.take("total_length", dtype=np.int32, shape=(1,)),
    ]
    logits_from = graph.take("logits_from", dtype=np.int64, shape=(1,))
    hidden = source.embed(graph.at("embedding"), ids)
    for layer in range(SIZES.layers):
        hidden = _layer(graph, hidden, layer=layer, source=source, tables=tables, lengths=lengths)
    head = graph.at("head")
    end = head.constant("end", np.array([np.iinfo(np.int64).max]))
    axis = head.constant("axis", np.array([1]))
    wanted = head.apply("Slice", hidden, logits_from, end, axis)
    normed = norm(head.at("norm"), wanted, sizes=SIZES, source=source, name="norm")
    logits = source.head(head, normed)
    graph.give("logits", logits, dtype=np.float32, shape=("batch", "rows", SIZES.vocabulary))
    return graph


def _layer(
    graph: GraphBuilder,
    hidden: str,
    *,
    layer: int,
    source: Source,
    tables: list[str],
    lengths: list[str],
) -> str:
    at = graph.at(f"layers.{layer}")
    normed = norm(
        at.at("norm"), hidden, sizes=SIZES, source=source, name=f"layers.{layer}/attention/norm"
    )
    query, key, value = (
        source.project(at.at(part), normed, layer=layer, part=f"attention/{part}")
        for part in ("query", "key", "value")
    )
    query = at.apply("RotaryEmbedding", query, *tables[:2], num_heads=SIZES.q_heads, **_TURN)
    key = at.apply("RotaryEmbedding", key, *tables[2:], num_heads=FORM.kv_heads, **_TURN)
    past = [
        graph.take(f"past.{layer}.{part}", dtype=np.float32, shape=_CACHE)
        for part in ("key", "value")
    ]
    output, *present = at.apply_many(
        "GroupQueryAttention", query, key, value, *past, *lengths,
        outputs=3, domain=CONTRIB_DOMAIN, num_heads=SIZES.q_heads, kv_num_heads=FORM.kv_heads,
        scale=float(FORM.score_scale),
    )  # fmt: skip
    for part, value_name in zip(("key", "value"), present, strict=True):
        graph.give(f"present.{layer}.{part}", value_name, dtype=np.float32, shape=_CACHE)
    projected = source.project(at.at("output"), output, layer=layer, part="attention/output")
    hidden = at.apply("Add", hidden, projected)
    fed = feed_forward(at.at("feed_forward"), hidden, layer=layer, sizes=SIZES, source=source)
    return at.apply("Add", hidden, fed)
