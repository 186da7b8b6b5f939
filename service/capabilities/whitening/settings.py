"""Bound what one request may ask of this room."""

from __future__ import annotations

from pydantic import Field, PositiveInt
from pydantic_settings import BaseSettings, SettingsConfigDict


class WhiteningSettings(BaseSettings):
    """Hold this room's limits; each is `SERVICE_WHITENING_<NAME>` in the environment."""

    model_config = SettingsConfigDict(env_prefix="SERVICE_WHITENING_", frozen=True, extra="ignore")

    max_samples: PositiveInt = Field(
        200_000,
        description="Texts or vectors in one call; more answer 413. `update` adds any number.",
    )
    max_vector_bytes: PositiveInt = Field(
        64 * 2**20,
        description="Bytes of the float32 vectors in one call; more answer 413.",
    )
    max_dimensions: PositiveInt = Field(
        4096,
        description="Longest vector; a fit holds several matrices of its square in float64.",
    )
    max_apply_texts: PositiveInt = Field(
        2048, description="Texts in one `apply`; more answer 413. Vectors have the limits above."
    )
    max_pairs: PositiveInt = Field(10_000, description="Labelled pairs in one `tune`.")
    max_cells: PositiveInt = Field(500, description="Settings in the grid of one `tune`.")
    max_hubness_samples: PositiveInt = Field(
        20_000,
        description="Vectors whose neighbours are compared; of more, so many are drawn.",
    )
