"""Write a tiny 4-bit decoder with a serving graph beside its float graph: under 1 MB, seeded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from models.decoder.description import Form
from models.digest import measure
from models.gguf.reader import parse_gguf
from models.recipes.smollm2 import NATIVE, Family, Variant
from tests.support.decoders import manifest_entry, variant_entry
from tests.support.gguf_files import tiny_llama


def tiny_family(*, seed: int = 0) -> tuple[Family, Form]:
    """Return the family of `tiny_llama`, nothing added yet, and its native form."""
    family = Family(parse_gguf(tiny_llama(seed=seed)))
    sizes = family.llama.sizes
    return family, Form("gqa", family.llama.kv_heads, float(sizes.head_dim**-0.5))


def write_serving_decoder(
    folder: Path, *, model_id: str = "tiny-serving", seed: int = 0
) -> dict[str, Any]:
    """Write the family `model_id` into `folder / model_id` and return its manifest entry.

    Its vocabulary is the 256 bytes; its variants are `gqa` alone; `serving.onnx` reads the same
    `weights.bin`.
    """
    place = folder / model_id
    place.mkdir(parents=True)
    family, form = tiny_family(seed=seed)
    family.add(NATIVE, Variant(form, lossy=False), bases={})
    family.add_serving()
    family.write(place)
    (place / "tokenizer.json").unlink()
    sizes = family.llama.sizes
    entry = manifest_entry(
        model_id,
        sizes=sizes,
        variants={NATIVE: variant_entry(NATIVE, sizes=sizes, form=form, windowed=None)},
        files={path.name: measure(path) for path in sorted(place.iterdir())},
        serving="serving.onnx",
    )
    (place / "manifest.json").write_text(json.dumps(entry, indent=2), encoding="utf-8")
    return entry
