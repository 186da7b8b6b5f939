"""Bound what one request may ask of this room."""

from __future__ import annotations

from pydantic import Field, PositiveInt
from pydantic_settings import BaseSettings, SettingsConfigDict


class TokenizationSettings(BaseSettings):
    """Hold this room's limits; each is `SERVICE_TOKENIZATION_<NAME>` in the environment."""

    model_config = SettingsConfigDict(
        env_prefix="SERVICE_TOKENIZATION_", frozen=True, extra="ignore"
    )

    default_tokenizer: str = Field(
        "isotrope-unigram-32k", description="Tokenizer that answers where a request names none."
    )
    max_texts: PositiveInt = Field(256, description="Texts in one call; more answer 413.")
    max_text_bytes: PositiveInt = Field(1 << 20, description="Bytes of one text in UTF-8.")
    max_request_bytes: PositiveInt = Field(4 << 20, description="Bytes of all texts of a call.")
    max_sampled_bytes: PositiveInt = Field(
        64 << 20, description="Bytes of all texts times the samples of each."
    )
    max_nbest: PositiveInt = Field(
        512, description="Paths in one n-best list, or in one sample without replacement."
    )
    max_ranked_bytes: PositiveInt = Field(
        4 << 20,
        description="Bytes of one text times the paths ranked, or drawn without replacement: "
        "nothing is pruned, so memory grows with both.",
    )
    max_analyzed_bytes: PositiveInt = Field(
        64 << 10, description="Bytes of a text whose marginals are listed."
    )
    max_drawn_bytes: PositiveInt = Field(200, description="Bytes of a text in a picture.")
    max_upload_bytes: PositiveInt = Field(32 << 20, description="Bytes of a tokenizer file.")
    open_tokenizers: PositiveInt = Field(
        8, description="Tokenizers kept in memory, the least used is dropped; 5 to 300 MB each."
    )
