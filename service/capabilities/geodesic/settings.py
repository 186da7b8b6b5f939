"""Bound what one request may ask of this room, and what a process keeps."""

from __future__ import annotations

from pydantic import Field, PositiveInt
from pydantic_settings import BaseSettings, SettingsConfigDict


class GeodesicSettings(BaseSettings):
    """Hold this room's limits; each is `SERVICE_GEODESIC_<NAME>` in the environment."""

    model_config = SettingsConfigDict(env_prefix="SERVICE_GEODESIC_", frozen=True, extra="ignore")

    max_pairwise_items: PositiveInt = Field(
        5000, description="Items of one pairwise call; its memory grows with their square."
    )
    max_path_items: PositiveInt = Field(
        200, description="Items of one pairwise call that lists the paths of all pairs."
    )
    max_items_per_call: PositiveInt = Field(
        100_000, description="Items that one call adds to a corpus; more answer 413."
    )
    max_corpus_items: PositiveInt = Field(
        1_000_000, description="Items of one corpus; a million takes about 4 GB of memory."
    )
    max_cluster_items: PositiveInt = Field(
        5000, description="Items of a corpus that is clustered; memory grows with their square."
    )
    max_map_items: PositiveInt = Field(
        100_000, description="Items of a corpus that is mapped; an answer names each of them."
    )
    exact_items: PositiveInt = Field(
        20_000,
        description="Up to so many items neighbours are exact; beyond, an index proposes them and "
        "the corpus says how many it finds. Larger is slower with the square.",
    )
    index_threads: PositiveInt = Field(
        1,
        description="Threads that build an index. More than 1 is faster; two builds then differ.",
    )
    open_corpora: PositiveInt = Field(
        16, description="Corpora kept in memory; the one not used for longest is read again later."
    )
    refresh_ms: int = Field(
        500,
        ge=0,
        description="How old a process's view of a corpus may be before it looks for what others "
        "wrote. Its own changes it sees at once.",
    )
