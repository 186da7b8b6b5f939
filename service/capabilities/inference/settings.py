"""Bound what one request may ask of this room."""

from __future__ import annotations

from pydantic import Field, PositiveInt
from pydantic_settings import BaseSettings, SettingsConfigDict


class InferenceSettings(BaseSettings):
    """Hold this room's limits; each is `SERVICE_INFERENCE_<NAME>` in the environment."""

    model_config = SettingsConfigDict(env_prefix="SERVICE_INFERENCE_", frozen=True, extra="ignore")

    max_rows: PositiveInt = Field(2048, description="Texts in one call; more answer 413.")
