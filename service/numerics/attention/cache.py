"""Count what a variant keeps of each token between steps."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from service.errors import DimensionMismatch, Fault


class Variant(StrEnum):
    """Name how queries share keys and values."""

    MHA = "mha"
    MQA = "mqa"
    GQA = "gqa"
    MLA = "mla"
    MLA_ABSORBED = "mla_absorbed"


LATENT = frozenset({Variant.MLA, Variant.MLA_ABSORBED})

BYTES_OF_DTYPE = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "float8": 1, "int8": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadSizes:
    """Hold the sizes of one attention layer.

    Attributes:
        q_heads: h.
        kv_heads: g, of gqa; the other variants fix it.
        head_dim: d_k, numbers of a key that a head keeps.
        value_dim: d_v; None means d_k.
        kv_rank: d_c, numbers of the latent of mla.
        rope_dim: d_r, numbers of the shared key of mla that turns; 0 where there is none.
    """

    q_heads: int
    kv_heads: int
    head_dim: int
    value_dim: int | None = None
    kv_rank: int = 0
    rope_dim: int = 0


def cache_elements(variant: Variant, sizes: HeadSizes) -> int:
    """Return the numbers kept of one token in one layer.

    - mha: h (d_k + d_v); mqa: d_k + d_v; gqa: g (d_k + d_v).
    - mla, mla_absorbed: d_c + d_r. Keys and values are the same latent.

    Raises:
        DimensionMismatch: the heads cannot be shared out among the groups.
    """
    if variant in LATENT:
        return sizes.kv_rank + sizes.rope_dim
    value_dim = sizes.head_dim if sizes.value_dim is None else sizes.value_dim
    return kept_heads(variant, sizes) * (sizes.head_dim + value_dim)


def kept_heads(variant: Variant, sizes: HeadSizes) -> int:
    """Return how many heads of keys a variant keeps.

    Raises:
        DimensionMismatch: the heads cannot be shared out among the groups.
    """
    if variant is Variant.MHA:
        return sizes.q_heads
    if variant is not Variant.GQA:
        return 1
    require_groups(sizes.q_heads, sizes.kv_heads)
    return sizes.kv_heads


def require_groups(q_heads: int, kv_heads: int) -> None:
    """Check that every head of keys serves as many heads of queries.

    Raises:
        DimensionMismatch: the first number is no multiple of the second.
    """
    if q_heads % kv_heads:
        raise DimensionMismatch(
            f"{q_heads} query heads cannot share {kv_heads} key heads evenly; the first must be a "
            "multiple of the second.",
            faults=(Fault("/kv_heads", f"{kv_heads} does not divide {q_heads}"),),
        )


def cache_bytes(elements: int, *, dtype: str, tokens: int, layers: int) -> int:
    """Return the bytes of a cache: elements · tokens · layers · bytes of a number.

    Args:
        elements: of one token in one layer.
        dtype: a key of `BYTES_OF_DTYPE`.
        tokens: kept at once, over all sequences.
        layers: of the model.
    """
    return elements * tokens * layers * BYTES_OF_DTYPE[dtype]
