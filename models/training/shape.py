"""Say how large each variant of the small decoder is, and what its cache holds.

All variants spend the same number of parameters: what the attention does not use goes into the
feed-forward width, rounded to a multiple of 8.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

BYTES = 256
EPSILON = 1e-5  # added to the mean square by every norm
WIDTH_STEP = 8
# parameters of one layer's attention and feed-forward products: 4 d² + 3 d · 512 at d = 128
LAYER_BUDGET = 262_144


@dataclass(frozen=True, slots=True, kw_only=True)
class Latent:
    """Hold the sizes of latent attention: one vector of `kv_rank` and one rotated key a token."""

    kv_rank: int
    rope_dim: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Hold every size of one variant.

    `head_dim` is the unrotated key size of a latent head; its rotated part is `rope_dim` more.
    """

    variant: str
    kv_heads: int
    latent: Latent | None = None
    normalization: Literal["softmax", "l2"] = "softmax"
    scale: Literal["sqrt", "log_n"] = "sqrt"
    model_dim: int = 128
    layers: int = 4
    heads: int = 4
    head_dim: int = 32

    @property
    def rotary_dim(self) -> int:
        """Return how many numbers of a query position encoding turns."""
        return self.head_dim if self.latent is None else self.latent.rope_dim

    @property
    def score_dim(self) -> int:
        """Return d of the score scale 1/√d: the size of a head's whole query."""
        return self.head_dim if self.latent is None else self.head_dim + self.latent.rope_dim

    @property
    def ffn_dim(self) -> int:
        """Return the feed-forward width that spends what attention leaves of the budget."""
        left = LAYER_BUDGET - sum(rows * columns for rows, columns in self.attention().values())
        return left // (3 * self.model_dim * WIDTH_STEP) * WIDTH_STEP

    def attention(self) -> Mapping[str, tuple[int, int]]:
        """Return the (in, out) size of each product of one layer's attention, by name."""
        wide = self.heads * self.head_dim
        output = {"attention/output": (wide, self.model_dim)}
        if self.latent is None:
            narrow = self.kv_heads * self.head_dim
            return {
                "attention/query": (self.model_dim, wide),
                "attention/key": (self.model_dim, narrow),
                "attention/value": (self.model_dim, narrow),
            } | output
        rank, rope = self.latent.kv_rank, self.latent.rope_dim
        return {
            "attention/query": (self.model_dim, wide),
            "attention/query_rope": (self.model_dim, self.heads * rope),
            "attention/latent": (self.model_dim, rank),
            "attention/rope_key": (self.model_dim, rope),
            "attention/key_up": (rank, wide),
            "attention/value_up": (rank, wide),
        } | output

    def layer(self) -> Mapping[str, tuple[int, ...]]:
        """Return the size of each tensor of one layer, by name."""
        return {
            "attention/norm": (self.model_dim,),
            **self.attention(),
            "feed_forward/norm": (self.model_dim,),
            "feed_forward/gate": (self.model_dim, self.ffn_dim),
            "feed_forward/up": (self.model_dim, self.ffn_dim),
            "feed_forward/down": (self.ffn_dim, self.model_dim),
        }

    def tensors(self) -> Mapping[str, tuple[int, ...]]:
        """Return the size of every tensor of the model, by name, in the order they are drawn."""
        blocks = {
            f"layers.{index}/{name}": size
            for index in range(self.layers)
            for name, size in self.layer().items()
        }
        return {"embedding": (BYTES, self.model_dim), **blocks, "norm": (self.model_dim,)}

    @property
    def parameters(self) -> int:
        """Return the number of trained numbers; the embedding serves as output head too."""
        total = 0
        for size in self.tensors().values():
            product = 1
            for extent in size:
                product *= extent
            total += product
        return total

    @property
    def cache_elements(self) -> int:
        """Return how many numbers one layer keeps of one token."""
        if self.latent is None:
            return 2 * self.kv_heads * self.head_dim
        return self.latent.kv_rank + self.latent.rope_dim


VARIANTS: Mapping[str, Shape] = {
    shape.variant: shape
    for shape in (
        Shape(variant="mha", kv_heads=4),
        Shape(variant="gqa", kv_heads=2),
        Shape(variant="mqa", kv_heads=1),
        Shape(variant="mla", kv_heads=4, latent=Latent(kv_rank=32, rope_dim=32)),
        Shape(variant="gqa_log_n", kv_heads=2, scale="log_n"),
        Shape(variant="gqa_l2", kv_heads=2, normalization="l2"),
    )
}
