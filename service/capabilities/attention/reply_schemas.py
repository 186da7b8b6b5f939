"""Define what the routes on layers answer."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import BaseModel, Field

from service.capabilities.attention.option_schemas import RopeAnswer, ScaleAnswer, VariantName

Numbers: TypeAlias = list[list[float | None]] | list[list[list[float | None]]]
Rows: TypeAlias = list[list[list[float]]] | list[list[list[list[float]]]]


class EncodedArray(BaseModel):
    """Hold an array as base64 of little-endian numbers."""

    shape: list[int]
    dtype: Literal["float32", "float64"]
    data: str


class NoiseReply(BaseModel):
    """Hold what noise on the scores does."""

    sigma: float
    seed: int | None = Field(description="Null where no noise was added, and `sigma` is 1.")
    expected: Numbers | EncodedArray = Field(
        description="(e^sigma² - 1) Σ p² |v - o|² of each row, in squared units of the values."
    )
    observed: Numbers | EncodedArray | None = Field(
        description="|õ - o|² of each row for this noise."
    )
    relative_change: float | None = Field(description="‖õ - o‖ / ‖o‖ over all rows.")


class RankReply(BaseModel):
    """Hold how many rows of each head's weights are independent."""

    numerical: list[int] | list[list[int]] = Field(
        description="Singular values above largest · n · 2^-23."
    )
    smallest_singular_value: list[float] | list[list[float]]
    largest_singular_value: list[float] | list[list[float]]


class LayerReply(BaseModel):
    """Hold what one layer gives; null for what was not asked for.

    Arrays begin with a batch axis where the request's do.
    """

    variant: VariantName
    q_heads: int
    kv_heads: int = Field(description="Heads of keys that are kept; 1 for a latent.")
    tokens: int
    head_dim: int = Field(description="Numbers of a whole key, whose root divides the scores.")
    kv_rank: int | None = Field(description="Numbers of the latent.")
    rope_dim: int = Field(description="Numbers of a head that turn; 0 where none do.")
    lossy: bool = Field(description="Whether the variant lost a part of the keys and values.")
    error: float | None = Field(
        description="Of a latent made of q, k, v: the share of keys and values that it lost."
    )
    causal: bool
    normaliser: Literal["softmax", "l2"]
    scale: ScaleAnswer
    rope: RopeAnswer
    seed: int | None = Field(description="Of the noise.")
    model: str | None = Field(description="Language model that the layer came from.")
    model_sha256: str | None
    output: Rows | EncodedArray | None = Field(description="(heads, n, d_v).")
    probabilities: Rows | EncodedArray | None = Field(
        description="(heads, n, n), rows of sum 1, or of length 1 with `l2`."
    )
    entropy: Numbers | EncodedArray | None = Field(description="(heads, n), in nats.")
    normalized_entropy: Numbers | EncodedArray | None = Field(
        description="Entropy over ln n, n the keys that the row sees; null for one key."
    )
    entropy_by_head: list[float] | list[list[float]] | None = Field(
        description="Mean over rows, in nats."
    )
    concentration: dict[str, Numbers | EncodedArray] | None = Field(
        description="As `/v1/analysis/concentration` gives for rows of probabilities."
    )
    cache_elements_per_token: int | None
    cache_bytes_per_token: int | None
    cache_bytes: int | None = Field(description="Of all tokens, of the float32 arrays kept.")
    noise_sensitivity: NoiseReply | None
    rank: RankReply | None


class CacheRow(BaseModel):
    """Hold what one variant keeps."""

    variant: VariantName
    elements_per_token_layer: int
    bytes_per_token: int = Field(description="Over all layers.")
    bytes: int = Field(description="Of all tokens of all sequences.")
    share_of_mha: float


class CacheSizeReply(BaseModel):
    """Hold what variants keep, in the order mha, gqa, mqa, mla, mla_absorbed."""

    dtype: str
    layers: int
    tokens: int
    sequences: int
    variants: list[CacheRow]


class PositionRow(BaseModel):
    """Hold how far the outputs of equal tokens are apart."""

    normaliser: Literal["softmax", "l2"]
    causal: bool
    marker: bool = Field(description="Whether the first token is a different one.")
    variance: float = Field(
        description="Over rows, of the outputs of the equal tokens, relative to their mean square."
    )


class RankRow(BaseModel):
    """Hold how many rows of the weights of random tokens are independent, for each head."""

    causal: bool
    numerical_rank: list[int]
    smallest_singular_value: list[float]
    largest_singular_value: list[float]
    log_determinant: list[float | None] = Field(
        description="ln |det|; null where it is 0. Of causal weights the sum of ln of the diagonal."
    )


class ProbeReply(BaseModel):
    """Hold both probes."""

    tokens: int
    heads: int
    head_dim: int
    seed: int
    rope: RopeAnswer
    scale: ScaleAnswer
    position: list[PositionRow]
    rank: list[RankRow]


class VariantRow(BaseModel):
    """Say what a variant is."""

    variant: VariantName
    formula: str
    cache: str = Field(description="Numbers kept of a token in one layer.")
    lossy: str = Field(description="When keys and values lose something.")
    source: str


class FamilyVariant(BaseModel):
    """Say what an installed language model has of a variant."""

    name: str
    formula: str
    cache_elements: int
    lossy: bool
    scale: str
    normaliser: str
    windowed: bool = Field(description="Whether the rerope schemes can be used.")
    perplexity: float | None = Field(description="Measured when the model was made.")


class FamilyRow(BaseModel):
    """Say which variants an installed language model has."""

    model: str
    default_variant: str
    layers: int
    q_heads: int
    head_dim: int
    max_tokens: int
    variants: list[FamilyVariant]


class VariantsReply(BaseModel):
    """Hold what can be computed, and within which limits."""

    variants: list[VariantRow]
    rope: list[str]
    scales: list[str]
    normalisers: list[str]
    limits: dict[str, int]
    models: list[FamilyRow]
