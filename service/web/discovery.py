"""Say what this service is, and which models it has."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, Field

from service import __version__
from service.errors import UnknownModel
from service.runtime.family import FamilyEntry, VariantEntry
from service.runtime.manifest import Manifest
from service.runtime.providers import ProviderReport
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


class VariantCard(BaseModel):
    """Describe one variant of a language model."""

    name: str
    formula: str = Field(description="mha, mqa, gqa, mla or mla_absorbed.")
    kv_heads: int | None
    kv_rank: int | None
    rope_dim: int | None
    cache_elements: int = Field(description="Numbers kept of a token in one layer.")
    lossy: bool = Field(description="Whether it computes another function than was trained.")
    scale: str = Field(description="What it was trained with.")
    normaliser: str = Field(description="Likewise.")
    windowed: bool = Field(description="Whether rerope and leaky_rerope are available.")
    perplexity: dict[str, str | int | float] | None = Field(
        description="As measured when it was made: text, windows, length, value."
    )


class DecoderCard(BaseModel):
    """Describe what only a language model has."""

    vocabulary: int
    chat: str | None = Field(description="Form of conversations; null where there is none.")
    layers: int
    hidden: int
    q_heads: int
    head_dim: int
    rope_base: float
    default_variant: str
    serving: bool = Field(description="Whether it has a graph for many sequences at once.")
    variants: list[VariantCard]


class ModelCard(BaseModel):
    """Describe one model."""

    id: str
    object: Literal["model"]
    created: int = Field(description="Always 0; OpenAI's clients expect the field.")
    owned_by: str = Field(description="Where the weights came from.")
    kind: str = Field(
        description="`encoder` turns a text into a vector, `tokenizer` into pieces, `decoder` "
        "continues it."
    )
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
    decoder: DecoderCard | None = Field(description="Of language models; null for others.")


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
                    "used": report.used,
                    "wished": report.wished,
                    "as_wished": report.as_wished,
                }
                for name, report in sorted(_loaded(lent).items())
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
    library = lent.engine.library
    loaded = _loaded(lent)
    installed = await lent.engine.compute(library.installed)  # reads the disk
    known = library.shipped() | installed
    return {
        name: _card(known[name], loaded.get(name), installed=name in installed)
        for name in sorted(known)
    }


def _variant_field(variant: VariantEntry, name: str) -> object:
    value = getattr(variant, name)
    if name == "windowed":
        return value is not None
    return asdict(value) if name == "perplexity" and value is not None else value


def _loaded(lent: Lent) -> dict[str, ProviderReport]:
    """Return where each loaded model runs, by id."""
    encoders = {name: encoder.provider for name, encoder in lent.engine.loaded().items()}
    decoders = {name: graph.provider for name, graph in lent.decoders.loaded().items()}
    return encoders | decoders


def _card(
    manifest: Manifest, provider: ProviderReport | None, *, installed: bool
) -> dict[str, object]:
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
        "loaded": provider is not None,
        "provider": None if provider is None else provider.used,
        "decoder": None if manifest.family is None else _decoder_card(manifest.family),
    }


def _decoder_card(family: FamilyEntry) -> dict[str, object]:
    shared = ("vocabulary", "chat", "layers", "hidden", "q_heads", "head_dim", "rope_base")
    return {
        **{name: getattr(family, name) for name in shared},
        "default_variant": family.default_variant,
        "serving": family.serving is not None,
        "variants": [
            {name: _variant_field(variant, name) for name in VariantCard.model_fields}
            for variant in family.variants.values()
        ],
    }
