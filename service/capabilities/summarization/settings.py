"""Bound what one request may ask of this room."""

from __future__ import annotations

from pydantic import Field, PositiveInt
from pydantic_settings import BaseSettings, SettingsConfigDict


class SummarizationSettings(BaseSettings):
    """Hold this room's limits; each is `SERVICE_SUMMARIZATION_<NAME>` in the environment."""

    model_config = SettingsConfigDict(
        env_prefix="SERVICE_SUMMARIZATION_", frozen=True, extra="ignore"
    )

    max_reviews: PositiveInt = Field(
        5_000, description="Reviews in one call; more answer 413. A stored set holds as many."
    )
    max_sentences: PositiveInt = Field(
        20_000, description="Sentences of one call or one stored set; more answer 413."
    )
    max_aspects: PositiveInt = Field(
        32, description="Aspects in one call; each is one more summary, so more answer 413."
    )
    kept_bytes: int = Field(
        128 * 2**20,
        ge=0,
        description="Memory for reviews that were read lately, about 4 kB a sentence: asked again, "
        "they answer without encoder, splitter or neighbour search. 0 keeps none.",
    )
