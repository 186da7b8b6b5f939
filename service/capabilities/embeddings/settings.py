"""Bound what one request may ask of this room."""

from __future__ import annotations

from pydantic import Field, PositiveInt
from pydantic_settings import BaseSettings, SettingsConfigDict


class EmbeddingsSettings(BaseSettings):
    """Hold this room's limits; each is `SERVICE_EMBEDDINGS_<NAME>` in the environment."""

    model_config = SettingsConfigDict(env_prefix="SERVICE_EMBEDDINGS_", frozen=True, extra="ignore")

    max_inputs: PositiveInt = Field(
        2048, description="Texts in one call; more answer 413. OpenAI's own limit is 2048."
    )
    max_matrix_rows: PositiveInt = Field(
        2048,
        description="Rows of one full similarity matrix; its answer grows with the square.",
    )
