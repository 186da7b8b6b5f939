"""Bound what one request may ask of this room."""

from __future__ import annotations

from pydantic import Field, PositiveInt
from pydantic_settings import BaseSettings, SettingsConfigDict


class DistributionSettings(BaseSettings):
    """Hold this room's limits; each is `SERVICE_DISTRIBUTION_<NAME>` in the environment."""

    model_config = SettingsConfigDict(
        env_prefix="SERVICE_DISTRIBUTION_", frozen=True, extra="ignore"
    )

    max_numbers: PositiveInt = Field(
        16 * 2**20,
        description="Numbers in the rows of one call; more answer 413. 64 × 150,000 are 9.6 M.",
    )
    max_draws: PositiveInt = Field(
        1_000_000, description="Draws of one call, over all its rows; more answer 413."
    )
    max_samples: PositiveInt = Field(
        1_000_000, description="Samples that one density is fitted to; more answer 413."
    )
    max_points: PositiveInt = Field(
        100_000, description="Points at which one call reads a density; more answer 413."
    )
    max_texts: PositiveInt = Field(
        20_000, description="Texts that one calibration embeds; more answer 413."
    )
    max_pairs: PositiveInt = Field(
        200_000, description="Pairs of texts that one calibration compares; more are not drawn."
    )
