"""Define what a room is to the house, and what the house lends it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar, cast

from fastapi import APIRouter, Depends, Request
from pydantic_settings import BaseSettings

from service.embedding.calibrations import Calibrations
from service.embedding.collections import TextCollections
from service.embedding.embedder import Embedder
from service.embedding.transforms import Transforms
from service.metrics import Metrics
from service.runtime.decoders.lending import Decoders
from service.runtime.engine import Engine
from service.settings import Settings
from service.stores.cache import VectorCache
from service.stores.objects import Objects

P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class Lent:
    """Hold the shared floor that rooms are opened on.

    Attributes:
        settings: of the whole service.
        metrics: instruments.
        engine: models and compute threads.
        decoders: language models.
        cache: cached embeddings.
        objects: what users make, stored.
        embedder: texts to vectors.
        transforms: whitening transforms, stored.
        calibrations: densities of scores, stored.
        rooms: names of the open capabilities.
        collections: texts that one room keeps and another may read.
    """

    settings: Settings
    metrics: Metrics
    engine: Engine
    decoders: Decoders
    cache: VectorCache
    objects: Objects
    embedder: Embedder
    transforms: Transforms
    calibrations: Calibrations
    rooms: tuple[str, ...]
    collections: TextCollections = field(default_factory=TextCollections)


@dataclass(frozen=True, slots=True)
class Capability:
    """Describe one room.

    Attributes:
        name: as in `SERVICE_ROOMS` and in the OpenAPI tags.
        description: one sentence for the document.
        router: its routes.
        settings: class of its own settings.
        open: opens it on the shared floor; yields the pipeline that its routes use.
        kernels: modules whose import compiles kernels; `isotrope kernels` does it ahead.
    """

    name: str
    description: str
    router: APIRouter
    settings: type[BaseSettings]
    open: Callable[[Lent, Any], AbstractAsyncContextManager[object]]
    kernels: tuple[str, ...] = ()


Resources = Mapping[type, object]
Knock = Callable[[], None]


def provide(kind: type[P]) -> Callable[[Request], Awaitable[P]]:
    """Return a dependency that hands out the opened resource of a type.

    The type is the key: nothing is global, and a test lends resources of its own.
    """

    async def find(request: Request) -> P:
        resources: Resources = request.state.resources
        return cast(P, resources[kind])

    return find


CurrentLent = Annotated[Lent, Depends(provide(Lent))]
