"""Find a Llama-shaped decoder in a GGUF file: its sizes, its matrices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.decoder.description import Sizes
from models.decoder.packed import PackedWeights, pack, pack_table, pack_vector
from models.errors import RecipeError
from models.gguf.blocks import Tensor
from models.gguf.reader import GgufFile

_FOUR_BITS = ("Q4_0", "Q4_1")
_FLOATS = ("F32", "F16")
# Files of this family are written with the pairs of a rotation side by side.
_INTERLEAVED = 1


@dataclass(frozen=True, slots=True)
class Llama:
    """Give what a file's metadata says of its decoder.

    Attributes:
        sizes: of the decoder.
        kv_heads: heads of keys and values.
        feed_forward: width of the feed-forward layer.
        max_tokens: positions it was trained for.
        rope_base: base of the rotary angles.
    """

    sizes: Sizes
    kv_heads: int
    feed_forward: int
    max_tokens: int
    rope_base: float


def describe(file: GgufFile) -> Llama:
    """Return the sizes of the decoder in `file`.

    Raises:
        RecipeError: another architecture, or sizes that do not fit together.
    """
    architecture = file.metadata.get("general.architecture")
    if architecture != "llama":
        message = f"GGUF general.architecture is {architecture!r}; only 'llama' is read"
        raise RecipeError(message)
    layers, hidden, feed_forward, heads, kv_heads = (
        _whole(file, f"llama.{key}")
        for key in (
            "block_count",
            "embedding_length",
            "feed_forward_length",
            "attention.head_count",
            "attention.head_count_kv",
        )
    )
    if hidden % heads or heads % kv_heads:
        message = (
            f"llama.embedding_length {hidden} is to be a multiple of attention.head_count "
            f"{heads}, and that of attention.head_count_kv {kv_heads}"
        )
        raise RecipeError(message)
    sizes = Sizes(
        layers=layers,
        hidden=hidden,
        q_heads=heads,
        head_dim=hidden // heads,
        vocabulary=file.tensor("token_embd.weight").shape[0],
        epsilon=float(file.number("llama.attention.layer_norm_rms_epsilon")),
        interleaved=_INTERLEAVED,
    )
    rotated = _whole(file, "llama.rope.dimension_count")
    if rotated != sizes.head_dim:
        message = f"llama.rope.dimension_count is {rotated}; read is only {sizes.head_dim}, all"
        raise RecipeError(message)
    return Llama(
        sizes,
        kv_heads,
        feed_forward,
        max_tokens=_whole(file, "llama.context_length"),
        rope_base=float(file.number("llama.rope.freq_base")),
    )


def packed_weights(file: GgufFile, llama: Llama) -> PackedWeights:
    """Return the decoder's weights, 4-bit matrices and an 8-bit table.

    Raises:
        RecipeError: a tensor is missing, or has another kind or shape.
    """
    sizes = llama.sizes
    width, table = sizes.hidden, (sizes.vocabulary, sizes.hidden)
    matrices, vectors = {}, {"norm": _vector(file, "output_norm.weight", width)}
    for layer in range(sizes.layers):
        place, block = f"layers.{layer}", f"blk.{layer}"
        query, inner = (width, width), (llama.feed_forward, width)
        own = (llama.kv_heads * sizes.head_dim, width)
        stored: dict[str, dict[str, tuple[int, int]]] = {
            "attention/qkv": {"attn_q": query, "attn_k": own, "attn_v": own},
            "attention/output": {"attn_output": query},
            "feed_forward/gate_up": {"ffn_gate": inner, "ffn_up": inner},
            "feed_forward/down": {"ffn_down": (width, llama.feed_forward)},
        }
        for part, members in stored.items():
            matrices[f"{place}/{part}"] = pack(
                *(_matrix(file, f"{block}.{name}.weight", of) for name, of in members.items())
            )
        for part, name in (("attention", "attn"), ("feed_forward", "ffn")):
            vectors[f"{place}/{part}/norm"] = _vector(file, f"{block}.{name}_norm.weight", width)
    if "output.weight" in file.tensors:
        message = "the GGUF file has an output matrix of its own; read is only the tied form"
        raise RecipeError(message)
    found = file.tensor("token_embd.weight").expect(kinds=("Q8_0",), shape=table)
    return PackedWeights(pack_table(found), matrices, vectors)


def _matrix(file: GgufFile, name: str, shape: tuple[int, int]) -> Tensor:
    return file.tensor(name).expect(kinds=_FOUR_BITS, shape=shape)


def _vector(file: GgufFile, name: str, width: int) -> NDArray[np.float32]:
    return pack_vector(file.tensor(name).expect(kinds=_FLOATS, shape=(width,)))


def _whole(file: GgufFile, key: str) -> int:
    value = file.number(key)
    if not isinstance(value, int) or value < 1:
        message = f"GGUF metadata {key!r} is to be a positive whole number, not {value!r}"
        raise RecipeError(message)
    return value
