"""Bound what one request may ask of this room, and what runs at one time."""

from __future__ import annotations

from pydantic import Field, PositiveInt
from pydantic_settings import BaseSettings, SettingsConfigDict


class GenerationSettings(BaseSettings):
    """Hold this room's limits; each is `SERVICE_GENERATION_<NAME>` in the environment."""

    model_config = SettingsConfigDict(
        env_prefix="SERVICE_GENERATION_", frozen=True, extra="ignore", protected_namespaces=()
    )

    chat_model: str = Field(
        "smollm2-135m-instruct",
        description="Language model that answers messages where a request names none.",
    )
    workers: PositiveInt | None = Field(
        None,
        description="Threads that generate; unset means the cores that the quota and affinity "
        "leave. More than cores slows every one.",
    )
    slots: PositiveInt = Field(
        4,
        description="Sequences that one worker advances together. More raises throughput and the "
        "time between two tokens of each.",
    )
    prompt_piece: PositiveInt = Field(
        64,
        description="Tokens of a prompt computed at once, and what prefixes are reused in. Larger "
        "is a little faster for long prompts; running texts wait for it.",
    )
    cache_mb: PositiveInt = Field(
        512,
        description="MiB of keys and values of all sequences together; a job that does not fit "
        "waits, one that never could answers 413.",
    )
    max_waiting: int = Field(
        64,
        ge=0,
        description="Sequences that may wait for a slot; beyond it the answer is 429.",
    )
    default_tokens: PositiveInt = Field(
        256, description="Tokens generated where a request says nothing, if the context has room."
    )
    max_tokens: PositiveInt = Field(
        4096, description="Tokens that one request may ask for; more answer 413."
    )
    max_context_tokens: PositiveInt = Field(
        8192,
        description="Tokens of one sequence, prompt and text together, whatever its model reads; "
        "more answer 413. Addresses are reserved for so many in each slot, memory is "
        "not.",
    )
    max_choices: PositiveInt = Field(
        16, description="Texts of one request, over all prompts; more answer 413."
    )
    max_contexts: PositiveInt = Field(
        16, description="Contexts that one request merges; more answer 413."
    )
    graphs: PositiveInt = Field(
        4,
        description="Graphs that keep their slots open; the least recently used gives memory back.",
    )
