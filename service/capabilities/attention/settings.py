"""Bound what one request may ask of this room."""

from __future__ import annotations

from pydantic import Field, PositiveInt
from pydantic_settings import BaseSettings, SettingsConfigDict


class AttentionSettings(BaseSettings):
    """Hold this room's limits; each is `SERVICE_ATTENTION_<NAME>` in the environment."""

    model_config = SettingsConfigDict(env_prefix="SERVICE_ATTENTION_", frozen=True, extra="ignore")

    max_tokens: PositiveInt = Field(
        4096, description="Tokens of one layer; more answer 413. Work grows with their square."
    )
    max_scores: PositiveInt = Field(
        2**26,
        description="Scores of one layer, batch × heads × tokens²; more answer 413.",
    )
    max_shown_tokens: PositiveInt = Field(
        512,
        description="Tokens up to which weights are answered or ranks are measured; more answer "
        "413. The work of a rank grows with their cube.",
    )
    max_numbers: PositiveInt = Field(
        16 * 2**20, description="Numbers of one layer's arrays together; more answer 413."
    )
    max_latent: PositiveInt = Field(
        1024,
        description="Smaller side, tokens or numbers a token, of keys and values that a latent is "
        "made of; more answer 413.",
    )
    max_scored_tokens: PositiveInt = Field(
        8192, description="Tokens that one request scores, over all its texts; more answer 413."
    )
    max_compared_tokens: PositiveInt = Field(
        1024,
        description="Tokens of a text that variants are compared on; more answer 413. The first "
        "variant's distributions are held: 4 bytes for each token and entry of the vocabulary.",
    )
