"""Say what this service is, and which models it has."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, Field

from service import __version__
from service.errors import UnknownModel
from service.runtime.engine import Encoder
from service.runtime.manifest import Manifest
from service.web.capability import CurrentLent, Lent
from service.web.openapi import problems
from service.web.problems import shown
from service.web.wire import json_response

router = APIRouter(tags=["discovery"])


class Threads(BaseModel):
    """Say how many cores there are and how they are used."""

    affinity: int = Field(description="Cores that this process may be placed on.")
    quota: float | None = Field(description="Cores' worth of time granted; null for no bound.")
    executors: int = Field(description="Model runs at one time.")
    threads_per_run: int = Field(description="Threads inside one run.")
    spinning: bool = Field(description="Whether idle threads burn their core while they wait.")


class Limits(BaseModel):
    """Say where a request becomes too large."""

    max_body_bytes: int
    max_batch_tokens: int
    max_queued_tokens: int
    request_deadline_ms: int
    work_deadline_ms: int


class MemoryTierState(BaseModel):
    """Describe the cache in the process."""

    entries: int
    bytes: int
    limit_bytes: int


class RedisTierState(BaseModel):
    """Describe the shared cache."""

    address: str
    breaker: str
    queued_writes: int
    queued_bytes: int


class CacheTiers(BaseModel):
    """Describe both tiers; `redis` is null where it is off."""

    memory: MemoryTierState
    redis: RedisTierState | None


class Storage(BaseModel):
    """Say where what users make is kept, and whether that works."""

    kind: Literal["folder", "bucket", "memory"]
    location: str
    state: Literal["usable", "unusable", "untried"]
    problem: str | None = Field(description="What is wrong, where something is.")


class Provider(BaseModel):
    """Set the execution provider in use beside the wish."""

    model: str
    used: str
    wished: str
    as_wished: bool


class Info(BaseModel):
    """Describe the running service."""

    name: Literal["isotrope"]
    version: str
    rooms: list[str] = Field(description="Capabilities that are open.")
    default_model: str
    providers: list[Provider] = Field(description="One for each loaded model.")
    threads: Threads
    limits: Limits
    cache: CacheTiers
    storage: Storage


class ModelCard(BaseModel):
    """Describe one model."""

    id: str
    object: Literal["model"]
    created: int = Field(description="Always 0; OpenAI's clients expect the field.")
    owned_by: str = Field(description="Where the weights came from.")
    kind: str = Field(description="`encoder` turns a text into a vector.")
    description: str
    languages: list[str]
    licence: str
    sha256: str = Field(description="Digest over graph and tokenizer together.")
    dimensions: int
    max_tokens: int = Field(description="Tokens that the model reads, special ones included.")
    pooling: str = Field(description="Default pooling.")
    poolings: list[str]
    prefix: str = Field(description="Put before every text by the service.")
    installed: bool = Field(description="Whether its files are here.")
    loaded: bool = Field(description="Whether it answers at once; otherwise on first use.")
    provider: str | None = Field(description="Where it runs, once loaded.")


class ModelList(BaseModel):
    """List the models of this service."""

    object: Literal["list"]
    data: list[ModelCard]


@router.get("/v1/info", summary="What is running here?", response_model=Info)
async def get_info(lent: CurrentLent) -> Response:
    """Return version, providers really in use, threads, limits, and how cache and storage are."""
    settings, engine = lent.settings, lent.engine
    state = lent.cache.state()
    return json_response(
        {
            "name": "isotrope",
            "version": __version__,
            "rooms": list(lent.rooms),
            "default_model": settings.default_model,
            "providers": [
                {
                    "model": name,
                    "used": encoder.provider.used,
                    "wished": encoder.provider.wished,
                    "as_wished": encoder.provider.as_wished,
                }
                for name, encoder in sorted(engine.loaded().items())
            ],
            "threads": {
                "affinity": engine.cores.affinity,
                "quota": engine.cores.quota,
                "executors": engine.executors,
                "threads_per_run": settings.threads_per_run,
                "spinning": False,
            },
            "limits": {name: getattr(settings, name) for name in Limits.model_fields},
            "cache": {
                "memory": {
                    "entries": state.memory_entries,
                    "bytes": state.memory_bytes,
                    "limit_bytes": state.memory_limit_bytes,
                },
                "redis": None if state.shared is None else asdict(state.shared),
            },
            "storage": asdict(lent.objects.state()),
        }
    )


@router.get("/v1/models", summary="Which models are there?", response_model=ModelList)
async def list_models(lent: CurrentLent) -> Response:
    """Return every model that is installed or can be built, loaded or not."""
    return json_response({"object": "list", "data": list((await _cards(lent)).values())})


@router.get(
    "/v1/models/{model_id}",
    summary="What is this model?",
    response_model=ModelCard,
    responses=problems(404),
)
async def get_model(
    model_id: Annotated[str, Path(description="As in the list of models.")], lent: CurrentLent
) -> Response:
    """Return one model's card."""
    cards = await _cards(lent)
    if model_id not in cards:
        raise UnknownModel(f"There is no model {shown(model_id)}. Known are: {', '.join(cards)}.")
    return json_response(cards[model_id])


async def _cards(lent: Lent) -> dict[str, dict[str, object]]:
    """Return a card for each model, by id."""
    library, loaded = lent.engine.library, lent.engine.loaded()
    installed = await lent.engine.compute(library.installed)  # reads the disk
    known = library.shipped() | installed
    return {
        name: _card(known[name], loaded.get(name), installed=name in installed)
        for name in sorted(known)
    }


def _card(manifest: Manifest, encoder: Encoder | None, *, installed: bool) -> dict[str, object]:
    source = manifest.source
    return {
        "id": manifest.id,
        "object": "model",
        "created": 0,
        "owned_by": str(source.get("package", source.get("name", "user"))),
        "kind": manifest.kind,
        "description": manifest.description,
        "languages": list(manifest.languages),
        "licence": manifest.licence,
        "sha256": manifest.sha256,
        "dimensions": manifest.dimensions,
        "max_tokens": manifest.max_tokens,
        "pooling": manifest.pooling,
        "poolings": list(manifest.poolings),
        "prefix": manifest.prefix,
        "installed": installed,
        "loaded": encoder is not None,
        "provider": None if encoder is None else encoder.provider.used,
    }
