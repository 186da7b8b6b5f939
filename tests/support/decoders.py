"""Write a tiny decoder with random weights, in every variant: under 1 MB, seeded."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.decoder.body import decoder_graph
from models.decoder.description import Form, Sizes, cache_shapes
from models.decoder.source import FloatSource
from models.decoder.storage import DataFile, write_graph
from models.digest import measure

Weights = dict[str, NDArray[np.float32]]

SIZES = Sizes(layers=2, hidden=32, q_heads=4, head_dim=8, vocabulary=256, epsilon=1e-5)
FEED_FORWARD = 48
ROPE_BASE = 10_000.0
MAX_TOKENS = 128
_OWN = 1 / np.sqrt(SIZES.head_dim)
_WITH_ROPE = 1 / np.sqrt(SIZES.head_dim + 4)
FORMS: Mapping[str, Form] = {
    "gqa": Form("gqa", 2, _OWN, tapped=frozenset(range(SIZES.layers))),
    "mha": Form("mha", 4, _OWN),
    "mqa": Form("mqa", 1, _OWN),
    "gqa_l2": Form("gqa", 2, _OWN, normaliser="l2"),
    "mla": Form("mla", 4, _WITH_ROPE, kv_rank=8, rope_dim=4),
    "mla_absorbed": Form("mla_absorbed", 4, _WITH_ROPE, kv_rank=8, rope_dim=4),
    "mla_rebuilt": Form("mla", 2, _OWN, kv_rank=16),
}


def random_weights(
    sizes: Sizes, form: Form, *, feed_forward: int = FEED_FORWARD, seed: int = 0
) -> Weights:
    """Return weights of the right shapes for one form; body parts depend on the seed alone."""
    body, own = np.random.default_rng(seed), np.random.default_rng(seed + 1)
    hidden, inner = sizes.hidden, sizes.q_heads * sizes.head_dim
    weights: Weights = {
        "embedding": (0.3 * body.normal(size=(sizes.vocabulary, hidden))).astype(np.float32),
        "norm": _scale(body, hidden),
    }
    for layer in range(sizes.layers):
        place = f"layers.{layer}"
        for part in ("attention/norm", "feed_forward/norm"):
            weights[f"{place}/{part}"] = _scale(body, hidden)
        shapes = {
            "feed_forward/gate": (hidden, feed_forward),
            "feed_forward/up": (hidden, feed_forward),
            "feed_forward/down": (feed_forward, hidden),
            "attention/query": (hidden, inner),
            "attention/output": (inner, hidden),
        }
        for part, shape in shapes.items():
            weights[f"{place}/{part}"] = _matrix(body, *shape)
        for part, shape in _own_shapes(sizes, form).items():
            weights[f"{place}/attention/{part}"] = _matrix(own, *shape)
    return weights


def build_graph(
    folder: Path, name: str, *, sizes: Sizes, form: Form, weights: Weights, file: DataFile
) -> Path:
    """Write one graph and its data file into `folder`; return the graph's path."""
    graph = decoder_graph(name, sizes=sizes, form=form, source=FloatSource(weights, file=file))
    file.write(folder)
    write_graph(graph, folder / f"{name}.onnx")
    return folder / f"{name}.onnx"


def write_decoder(
    folder: Path,
    *,
    model_id: str = "tiny-decoder",
    names: Sequence[str] = tuple(FORMS),
    seed: int = 0,
) -> dict[str, Any]:
    """Write the family `model_id` into `folder / model_id` and return its manifest entry.

    Args:
        folder: the models' folder.
        model_id: id of the family and name of its folder.
        names: which of `FORMS`; the first is the default variant.
        seed: of the weights.
    """
    place = folder / model_id
    place.mkdir(parents=True)
    # An absorbed form computes the same function from the same bytes.
    owners = {name: name.removesuffix("_absorbed") for name in names}
    data = {owner: DataFile(f"{owner}.bin") for owner in owners.values()}
    variants = {
        name: _write_variant(place, name, file=data[owner], seed=seed)
        for name, owner in owners.items()
    }
    files = {path.name: measure(path) for path in sorted(place.iterdir())}
    entry = manifest_entry(model_id, sizes=SIZES, variants=variants, files=files, serving=None)
    (place / "manifest.json").write_text(json.dumps(entry, indent=2), encoding="utf-8")
    return entry


def _write_variant(folder: Path, name: str, *, file: DataFile, seed: int) -> dict[str, Any]:
    form = FORMS[name]
    weights = random_weights(SIZES, form, seed=seed)
    build_graph(folder, name, sizes=SIZES, form=form, weights=weights, file=file)
    windowed = replace(form, reach="near_and_far", tapped=frozenset())
    build_graph(folder, f"{name}.windowed", sizes=SIZES, form=windowed, weights=weights, file=file)
    return variant_entry(name, sizes=SIZES, form=form, windowed=f"{name}.windowed.onnx")


def variant_entry(name: str, *, sizes: Sizes, form: Form, windowed: str | None) -> dict[str, Any]:
    """Return what a manifest says of one variant."""
    return {
        "file": f"{name}.onnx",
        "windowed": windowed,
        "formula": form.formula,
        "kv_heads": form.kv_heads if form.kv_rank is None else None,
        "kv_rank": form.kv_rank,
        "rope_dim": form.rope_dim,
        "cache_elements": sum(heads * width for heads, width in cache_shapes(sizes, form).values()),
        "lossy": False,
        "scale": "sqrt",
        "normaliser": form.normaliser,
        "perplexity": {"text": "a uniform guess", "windows": 1, "length": 1, "value": 256.0},
    }


def manifest_entry(
    model_id: str,
    *,
    sizes: Sizes,
    variants: dict[str, Any],
    files: dict[str, Any],
    serving: str | None,
) -> dict[str, Any]:
    """Return the manifest of a family over bytes whose default variant is the first."""
    return {
        "id": model_id,
        "kind": "decoder",
        "description": "Random weights: every variant, no sense.",
        "languages": [],
        "licence": "Apache-2.0",
        "source": {"package": "none", "version": "0", "wheel_sha256": "0" * 64},
        "recipe": "none",
        "options": {},
        "opset": 24,
        "ir_version": 11,
        "max_tokens": MAX_TOKENS,
        "vocabulary": sizes.vocabulary,
        "tokenizer": "bytes",
        "chat": None,
        "bos_id": None,
        "eos_ids": [0],
        "layers": sizes.layers,
        "hidden": sizes.hidden,
        "q_heads": sizes.q_heads,
        "head_dim": sizes.head_dim,
        "rope_base": ROPE_BASE,
        "default_variant": next(iter(variants)),
        "serving": serving,
        "variants": variants,
        "tolerance": 1e-4,
        "files": files,
    }


def _own_shapes(sizes: Sizes, form: Form) -> dict[str, tuple[int, ...]]:
    if form.kv_rank is None:
        width = form.kv_heads * sizes.head_dim
        return {"key": (sizes.hidden, width), "value": (sizes.hidden, width)}
    up = (form.kv_heads, form.kv_rank, sizes.head_dim)
    shapes: dict[str, tuple[int, ...]] = {
        "latent": (sizes.hidden, form.kv_rank),
        "key_up": up,
        "value_up": up,
    }
    if form.rope_dim is not None:
        shapes["query_rope"] = (sizes.hidden, sizes.q_heads * form.rope_dim)
        shapes["rope_key"] = (sizes.hidden, form.rope_dim)
    return shapes


def _scale(draw: np.random.Generator, width: int) -> NDArray[np.float32]:
    return draw.uniform(0.5, 1.5, width).astype(np.float32)


def _matrix(draw: np.random.Generator, *shape: int) -> NDArray[np.float32]:
    return (draw.normal(size=shape) / np.sqrt(shape[-2])).astype(np.float32)
