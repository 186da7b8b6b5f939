"""Describe a decoder: its sizes, and the form of attention that one graph of it has."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Formula = Literal["mha", "mqa", "gqa", "mla", "mla_absorbed"]
Normaliser = Literal["softmax", "l2"]
Reach = Literal["one", "near_and_far"]


@dataclass(frozen=True, slots=True)
class Sizes:
    """Give the sizes that every variant of one decoder shares.

    Attributes:
        layers: number of layers.
        hidden: width of a token's vector.
        q_heads: query heads a layer.
        head_dim: width d of one head's values.
        vocabulary: rows of the token table, which is the output matrix too.
        epsilon: added to the mean square by every norm, no unit.
        interleaved: 1 where a rotated pair is (x_2i, x_2i+1), 0 where it is (x_i, x_i+d/2).
    """

    layers: int
    hidden: int
    q_heads: int
    head_dim: int
    vocabulary: int
    epsilon: float
    interleaved: int = 0


@dataclass(frozen=True, slots=True)
class Form:
    """Give the form of attention of one graph.

    Attributes:
        formula: which keys and values the heads see, and what is cached of them.
        kv_heads: heads of keys and values; of the maps out of the latent for MLA.
        score_scale: multiplies each score; 1/sqrt(d) of what the weights were trained with.
        normaliser: `softmax`, or `l2`: softmax divided by its own Euclidean length.
        reach: `one` pair of rotary tables, or one for near and one for far keys (ReRoPE).
        kv_rank: width r of the cached latent; MLA only.
        rope_dim: width of the part of its own that carries the rotation; None where the
            rotation is on the heads themselves (a latent's keys are then rebuilt, then rotated).
        tapped: layers whose query, key and value (before rotation) are outputs.
    """

    formula: Formula
    kv_heads: int
    score_scale: float
    normaliser: Normaliser = "softmax"
    reach: Reach = "one"
    kv_rank: int | None = None
    rope_dim: int | None = None
    tapped: frozenset[int] = field(default_factory=frozenset)

    def __post_init__(self) -> None:
        """Refuse a description that no graph can be built for.

        Raises:
            ValueError: a rank without a latent or the reverse, or an absorbed form without a
                rotary part of its own.
        """
        latent = self.formula in {"mla", "mla_absorbed"}
        if latent != (self.kv_rank is not None):
            message = (
                f"kv_rank belongs to mla and mla_absorbed, got {self.kv_rank} for {self.formula}"
            )
            raise ValueError(message)
        if self.rope_dim is not None and not latent:
            message = f"rope_dim belongs to mla and mla_absorbed, not {self.formula}"
            raise ValueError(message)
        if self.formula == "mla_absorbed" and self.rope_dim is None:
            message = "mla_absorbed needs rope_dim: a rotated key cannot be absorbed into the query"
            raise ValueError(message)

    @property
    def keys_rotated_before_caching(self) -> bool:
        """Return whether the cache holds rotated keys, so that tables cover new tokens only."""
        rebuilt = self.kv_rank is not None and self.rope_dim is None
        return self.reach == "one" and not rebuilt


def cache_shapes(sizes: Sizes, form: Form) -> dict[str, tuple[int, int]]:
    """Return what is cached of each layer: part to (heads, width), in the graph's order."""
    if form.kv_rank is None:
        shape = (form.kv_heads, sizes.head_dim)
        return {"key": shape, "value": shape}
    parts = {"latent": (1, form.kv_rank)}
    if form.rope_dim is not None:
        parts["rope_key"] = (1, form.rope_dim)
    return parts


def rotated_width(sizes: Sizes, form: Form) -> int:
    """Return the width that rotary tables cover, twice the columns of a table."""
    return sizes.head_dim if form.rope_dim is None else form.rope_dim
