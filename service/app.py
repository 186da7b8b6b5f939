"""Compose the application: the only place where the floors and the rooms meet."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypedDict

import structlog
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from service import __version__
from service.embedding.calibrations import Calibrations
from service.embedding.embedder import Embedder
from service.embedding.transforms import Transforms
from service.logs import configure_logs
from service.metrics import Metrics
from service.registry import choose_rooms
from service.runtime.decoders.lending import Decoders
from service.runtime.engine import open_engine
from service.settings import Settings
from service.stores.opening import open_cache, open_objects
from service.web import discovery, health
from service.web.auth import make_guard, read_api_keys
from service.web.call import CallMiddleware, Patience
from service.web.capability import Knock, Lent, Resources
from service.web.docs import mount_docs
from service.web.openapi import build_document, operation_id
from service.web.problems import install_problem_handlers
from service.web.tracing import open_tracing

logger = structlog.get_logger(__name__)


class State(TypedDict):
    """Name what every request finds in `request.state`."""

    resources: Resources
    knock: Knock


def create_app(settings: Settings) -> FastAPI:
    """Return the application; it opens nothing before its lifespan begins.

    Args:
        settings: the whole configuration.

    Raises:
        ValueError: a room is unknown, a room's setting is wrong, or the file of API keys cannot be
            used.
    """
    configure_logs(settings.log_level)
    rooms = choose_rooms(settings.rooms)
    rooms_settings = [room.settings() for room in rooms]
    metrics = Metrics()
    keys = read_api_keys(settings.api_keys_file) if settings.api_keys_file else ()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[State]:
        async with AsyncExitStack() as stack:
            stack.enter_context(open_tracing(settings.otlp_endpoint))
            cache = await stack.enter_async_context(open_cache(settings, metrics))
            objects = await stack.enter_async_context(open_objects(settings))
            engine = await stack.enter_async_context(open_engine(settings, metrics))
            decoders = Decoders(settings, engine, metrics)
            stack.push_async_callback(decoders.aclose)
            embedder = Embedder(engine, cache)
            transforms = Transforms(objects, engine, embedder)
            names = tuple(room.name for room in rooms)
            calibrations = Calibrations(objects, engine)
            lent = Lent(
                settings=settings,
                metrics=metrics,
                engine=engine,
                decoders=decoders,
                cache=cache,
                objects=objects,
                embedder=embedder,
                transforms=transforms,
                calibrations=calibrations,
                rooms=names,
            )
            resources: dict[type, object] = {Lent: lent}
            for room, its_settings in zip(rooms, rooms_settings, strict=True):
                pipeline = await stack.enter_async_context(room.open(lent, its_settings))
                resources[type(pipeline)] = pipeline
            logger.info("service_ready", version=__version__, rooms=names)
            yield State(resources=resources, knock=engine.batcher.knock)

    app = FastAPI(
        title="Isotrope",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        openapi_tags=[
            *({"name": room.name, "description": room.description} for room in rooms),
            {"name": "discovery", "description": "What is running here."},
            {"name": "operations", "description": "Probes and metrics."},
        ],
        generate_unique_id_function=operation_id,
        separate_input_output_schemas=False,
        telemetry={"tracing": settings.otlp_endpoint is not None},
    )
    app.state.draining = False
    for room in rooms:
        app.include_router(room.router, tags=[room.name])
    app.include_router(discovery.router)
    app.include_router(health.router)
    mount_docs(app)
    install_problem_handlers(app)
    app.add_middleware(
        CallMiddleware,
        metrics=metrics,
        patience=Patience(settings.request_deadline_ms / 1000, settings.work_deadline_ms / 1000),
        max_body_bytes=settings.max_body_bytes,
        access_log=settings.access_log,
        guard=make_guard(keys),
    )
    if settings.cors_origins:  # outermost, so that a page may read a refusal too
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=[
                *("X-Request-ID", "Server-Timing", "Retry-After", "WWW-Authenticate"),
                *("X-Model", "X-Model-SHA256", "X-Execution-Provider"),
                *("X-Prompt-Tokens", "X-Truncated-Inputs"),
                *("X-Entropy", "X-Index", "X-Seed"),
            ],
        )
    app.openapi = lambda: build_document(app)  # type: ignore[method-assign]
    return app
