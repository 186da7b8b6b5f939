"""Read what a GGUF file says of its decoder, and refuse what our graphs would compute otherwise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from models.errors import RecipeError
from models.gguf.llama import Llama, describe
from models.gguf.reader import GgufFile
from models.own_decoders.gguf_source import HEAD, MATRICES, NORM, NORMS, TABLE

KINDS = ("F32", "F16", "Q4_0", "Q4_1", "Q8_0")
# More than any decoder of this shape has; a hostile file may claim any number.
_MOST_LAYERS = 1024


def read_facts(file: GgufFile) -> Llama:
    """Return the sizes of the decoder in `file`, after checking every tensor against them.

    Raises:
        RecipeError: another architecture, sizes that do not fit together, scaled positions, or a
            tensor that is missing, unknown, or of another kind or shape.
    """
    completed = replace(file, metadata={**_defaults(file), **file.metadata})
    _refuse_scaled_positions(file)
    file.tensor(TABLE)
    layers = file.number("llama.block_count")
    if layers > _MOST_LAYERS:
        message = f"GGUF metadata 'llama.block_count' is {layers}; at most {_MOST_LAYERS} are read"
        raise RecipeError(message)
    llama = describe(completed)
    wanted = _wanted(llama)
    unknown = [name for name in file.tensors if name not in wanted and name != HEAD]
    if unknown:
        message = (
            f"the GGUF file has the tensor {unknown[0]!r}, which a plain Llama has not "
            f"({len(unknown)} such); without it this would be another model"
        )
        raise RecipeError(message)
    if HEAD in file.tensors:
        wanted[HEAD] = wanted[TABLE]
    for name, shape in wanted.items():
        file.tensor(name).expect(kinds=KINDS, shape=shape)
    return llama


def _defaults(file: GgufFile) -> dict[str, float]:
    """Return what the format says of keys that a file may leave out."""
    heads = file.metadata.get("llama.attention.head_count")
    width = file.metadata.get("llama.embedding_length")
    found: dict[str, float] = {"llama.rope.freq_base": 10_000.0}
    if isinstance(heads, int) and isinstance(width, int) and heads > 0:
        found["llama.attention.head_count_kv"] = heads
        found["llama.rope.dimension_count"] = width // heads
    return found


def _refuse_scaled_positions(file: GgufFile) -> None:
    kind = file.metadata.get("llama.rope.scaling.type", "none")
    if kind != "none" or "rope_freqs.weight" in file.tensors:
        message = (
            f"the GGUF file scales its positions (llama.rope.scaling.type {kind!r}"
            f"{', rope_freqs.weight' if 'rope_freqs.weight' in file.tensors else ''}); "
            "only plain rotary positions are read"
        )
        raise RecipeError(message)


def _wanted(llama: Llama) -> dict[str, tuple[int, ...]]:
    sizes = llama.sizes
    hidden, own = sizes.hidden, llama.kv_heads * sizes.head_dim
    shapes = {
        "attention/query": (hidden, hidden),
        "attention/key": (own, hidden),
        "attention/value": (own, hidden),
        "attention/output": (hidden, hidden),
        "feed_forward/gate": (llama.feed_forward, hidden),
        "feed_forward/up": (llama.feed_forward, hidden),
        "feed_forward/down": (hidden, llama.feed_forward),
    }
    wanted: dict[str, tuple[int, ...]] = {TABLE: (sizes.vocabulary, hidden), NORM: (hidden,)}
    for layer in range(sizes.layers):
        for part, name in MATRICES.items():
            wanted[f"blk.{layer}.{name}.weight"] = shapes[part]
        for name in NORMS.values():
            wanted[f"blk.{layer}.{name}.weight"] = (hidden,)
    return wanted


def identity_fits(llama: Llama, *, most: int = 2048) -> bool:
    """Return whether a latent of full rank, 2 g d numbers, is small enough to be worth a graph."""
    return bool(np.int64(2) * llama.kv_heads * llama.sizes.head_dim <= most)
