"""Read the environment once, into one frozen value; nothing else in the service reads it."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


class ProviderPolicy(StrEnum):
    """Say what to do when the wished execution provider is not what a session really uses."""

    STRICT = "strict"
    PREFER = "prefer"
    CPU = "cpu"


def default_models_dir() -> Path:
    """Return `$XDG_CACHE_HOME/isotrope/models`, or the same under `~/.cache`."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "isotrope" / "models"


def default_data_location() -> str:
    """Return `$XDG_DATA_HOME/isotrope`, or the same under `~/.local/share`."""
    data = os.environ.get("XDG_DATA_HOME")
    return str((Path(data) if data else Path.home() / ".local" / "share") / "isotrope")


CommaList = Annotated[tuple[str, ...], NoDecode]


class Settings(BaseSettings):
    """Hold every setting that is not one room's own; each is `SERVICE_<NAME>` in the environment.

    A list is written with commas: `SERVICE_ROOMS=embeddings,whitening`.
    """

    model_config = SettingsConfigDict(
        env_prefix="SERVICE_", frozen=True, extra="ignore", str_strip_whitespace=True
    )

    host: str = Field(
        "127.0.0.1",
        description="Address to listen on. `0.0.0.0` opens the service to the network: set API keys first.",
    )
    port: int = Field(
        8000, ge=0, le=65535, description="Port to listen on; 0 lets the system choose one."
    )
    rooms: CommaList = Field(
        (),
        description="Capabilities to open, by name; empty opens all. A room that is left out answers 404 and opens nothing; its code is loaded all the same.",
    )

    models_dir: Path = Field(
        default_factory=default_models_dir,
        description="Folder of built models. If it is wrong, start-up names the missing model and the command that builds it.",
    )
    default_model: str = Field(
        "all-MiniLM-L6-v2", description="Encoder that answers where a request names none."
    )
    preload_models: CommaList | None = Field(
        None,
        description="Models loaded and warmed before the service is ready; unset means the default model. Others load on first use, which that request waits for.",
    )
    default_decoder: str = Field(
        "isotrope-bytes", description="Language model that answers where a request names none."
    )
    decoder_memory_mb: PositiveInt = Field(
        1024,
        description="MiB of loaded graphs of language models, counted as the bytes of weights that each reads; the least recently used go first. Too small and variants that are compared are loaded again each time; one graph is kept whatever its size.",
    )
    providers: CommaList = Field(
        ("cpu",),
        description="Execution providers wished for, best first: `cuda,cpu`. A wish that cannot be met is handled by the policy.",
    )
    provider_policy: ProviderPolicy = Field(
        ProviderPolicy.PREFER,
        description="`strict` refuses to start without the first wish, `prefer` runs on what is there and says so everywhere, `cpu` ignores the wish.",
    )

    executors: PositiveInt | None = Field(
        None,
        description="Model runs at one time; unset means the cores that the quota and affinity leave. More than cores slows every run.",
    )
    threads_per_run: PositiveInt = Field(
        1,
        description="Threads inside one model run. More than 1 times the executors oversubscribes the cores.",
    )
    max_batch_tokens: PositiveInt = Field(
        256,
        description="Padded tokens in one model run. Larger wastes padding and cache on a CPU; a GPU wants thousands.",
    )
    run_overhead_tokens: int = Field(
        8,
        ge=0,
        description="What one model run costs besides its tokens, in tokens: texts of unlike length share a run only where padding is cheaper than another run. A GPU wants hundreds.",
    )
    max_queued_tokens: PositiveInt = Field(
        65_536,
        description="Tokens that may wait for a model; beyond it the answer is 429. Too large and clients wait out their deadline.",
    )
    request_deadline_ms: PositiveInt = Field(
        30_000,
        description="Longest time one request may take; `X-Request-Timeout-Ms` can only shorten it. Beyond it the answer is 504.",
    )
    work_deadline_ms: PositiveInt = Field(
        600_000,
        description="The same for operations that report progress, streamed or not: fits, builds, summaries. Too short and large ones never finish.",
    )
    max_waiting_jobs: PositiveInt = Field(
        256,
        description="Pieces of arithmetic that may wait for a compute thread; beyond it the answer is 429.",
    )
    max_body_bytes: PositiveInt = Field(
        96 * 2**20,
        description="Largest request body; beyond it the answer is 413 before the body is read. Each request in flight may hold this much.",
    )

    cache_memory_bytes: int = Field(
        64 * 2**20,
        ge=0,
        description="Bytes of embeddings kept in the process, about 2 kB a text; 0 turns this tier off. Redis is the large tier.",
    )
    redis_url: SecretStr | None = Field(
        None,
        description="`redis://` or `rediss://` address of the shared cache tier; unset turns it off. A server that is not there costs nothing but the hits; an address that cannot be understood refuses to start.",
    )
    redis_timeout_ms: PositiveInt = Field(
        50,
        description="Time Redis may add to one request; after it, what it holds counts as a miss.",
    )
    cache_ttl_seconds: PositiveInt = Field(
        7 * 24 * 3600,
        description="Life of a value in Redis, spread by ten per cent so that values do not expire together.",
    )

    data_location: str = Field(
        default_factory=default_data_location,
        min_length=1,
        description="Where what users make is kept: a folder, or `s3://bucket/prefix` with the usual AWS_* variables. One that cannot be written costs a 503 for what creates something, and nothing else; an address that cannot be understood refuses to start.",
    )

    api_keys_file: Path | None = Field(
        None,
        description="File of API keys, one a line; unset leaves the service open. A missing or empty file refuses to start.",
    )
    cors_origins: CommaList = Field(
        (),
        description="Origins whose pages may call the service from a browser; empty allows none.",
    )
    drain_seconds: float = Field(
        1.0,
        ge=0,
        description="Time between SIGTERM and the closing of the port, in which readiness says 503 so that a balancer looks away.",
    )
    log_level: str = Field("info", description="debug, info, warning or error.")
    access_log: bool = Field(True, description="Whether each request writes one log line.")
    otlp_endpoint: str | None = Field(
        None,
        description="OTLP/HTTP collector for traces, `http://host:4318`; needs the extra `isotrope[otlp]`. Unset sends nothing.",
    )
    readiness_seconds: PositiveFloat = Field(
        5.0, description="How old the last real inference may be before `/readyz` runs a new one."
    )

    @field_validator("rooms", "preload_models", "providers", "cors_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value
