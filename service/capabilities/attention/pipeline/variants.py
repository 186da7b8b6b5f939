"""Say what each variant is, and count what it keeps."""

from __future__ import annotations

from dataclasses import dataclass

from service.errors import Fault, InvalidInput
from service.numerics.attention.cache import (
    LATENT,
    HeadSizes,
    Variant,
    cache_bytes,
    cache_elements,
)

_MOST_BYTES = 2**53


@dataclass(frozen=True, slots=True)
class Description:
    """Say what a variant is.

    Attributes:
        formula: how queries, keys and values are made.
        cache: numbers kept of a token in one layer.
        lossy: when keys and values lose something.
        source: where it is described.
    """

    formula: str
    cache: str
    lossy: str
    source: str


DESCRIPTIONS = {
    Variant.MHA: Description(
        "softmax(q_s k_sᵀ / √d_k) v_s, keys and values for each head s",
        "h (d_k + d_v)",
        "never",
        "arXiv:1706.03762",
    ),
    Variant.GQA: Description(
        "head s reads keys and values of group ⌊s g / h⌋",
        "g (d_k + d_v)",
        "never",
        "arXiv:2305.13245",
    ),
    Variant.MQA: Description(
        "one head of keys and values for all",
        "d_k + d_v",
        "where more heads of keys come in: their mean is used",
        "arXiv:1911.02150",
    ),
    Variant.MLA: Description(
        "k_s = [c W_kc,s, x W_kr R], v_s = c W_v,s, made from the latent c = x W_c for every head",
        "d_c + d_r",
        "where a latent is made of q, k, v with a kv_rank below theirs",
        "arXiv:2405.04434",
    ),
    Variant.MLA_ABSORBED: Description(
        "the same function: q_s W_kc,sᵀ meets c itself, key and value of one shared head",
        "d_c + d_r",
        "as mla",
        "arXiv:2405.04434",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """Say of what a cache is counted.

    Attributes:
        sizes: of one layer.
        grouped: whether gqa is among the variants.
        latent: whether mla is.
        layers: of the model.
        tokens: of each sequence.
        sequences: kept at one time.
        dtype: of the numbers.
    """

    sizes: HeadSizes
    grouped: bool
    latent: bool
    layers: int
    tokens: int
    sequences: int
    dtype: str


@dataclass(frozen=True, slots=True)
class CacheCount:
    """Hold what one variant keeps.

    Attributes:
        variant: which.
        elements: numbers of one token in one layer.
        token_bytes: of one token in all layers.
        total_bytes: of all tokens of all sequences.
        share: of what mha keeps.
    """

    variant: Variant
    elements: int
    token_bytes: int
    total_bytes: int
    share: float


def count_caches(deployment: Deployment) -> list[CacheCount]:
    """Return what each variant keeps.

    Raises:
        DimensionMismatch: heads cannot be shared out among the groups.
    """
    whole = cache_elements(Variant.MHA, deployment.sizes)
    return [
        _count(variant, deployment, whole)
        for variant in (Variant.MHA, Variant.GQA, Variant.MQA, Variant.MLA, Variant.MLA_ABSORBED)
        if (deployment.grouped or variant is not Variant.GQA)
        and (deployment.latent or variant not in LATENT)
    ]


def _count(variant: Variant, deployment: Deployment, whole: int) -> CacheCount:
    elements = cache_elements(variant, deployment.sizes)
    token = cache_bytes(elements, dtype=deployment.dtype, tokens=1, layers=deployment.layers)
    total = token * deployment.tokens * deployment.sequences
    if total > _MOST_BYTES:
        raise InvalidInput(
            f"The cache of {variant.value} would have {total:.3g} bytes; above 2^53 JSON numbers "
            "are not exact. Ask for fewer tokens, layers or heads.",
            faults=(Fault("/tokens", "makes a cache of more than 2^53 bytes"),),
        )
    return CacheCount(variant, elements, token, total, elements / whole)
