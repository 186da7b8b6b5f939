"""Answer probes and scrapers."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, Field

from service.errors import Draining, ModelNotReady, ServiceError
from service.web.capability import CurrentLent
from service.web.openapi import problems
from service.web.wire import json_response

router = APIRouter(tags=["operations"])


class Live(BaseModel):
    """Say that the process answers."""

    status: Literal["alive"]


class Ready(BaseModel):
    """Say whether requests should be sent here."""

    status: Literal["ready", "degraded"] = Field(
        description="`degraded`: it answers, and not as wished; see the other fields."
    )
    provider: str = Field(description="Execution provider that the default model runs on.")
    provider_wished: str = Field(description="Execution provider that was asked for first.")
    redis: Literal["off", "connected", "bypassed"] = Field(
        description="The shared cache tier; `bypassed` costs hits, never requests."
    )


class Started(BaseModel):
    """Say that the models of the start are loaded and warm."""

    status: Literal["started"]
    models: list[str] = Field(description="Loaded models.")


@router.get("/livez", summary="Is the process alive?", response_model=Live)
async def livez() -> Response:
    """Answer as long as the event loop turns. It looks at nothing else."""
    return json_response({"status": "alive"})


@router.get(
    "/readyz",
    summary="Should requests be sent here?",
    response_model=Ready,
    responses=problems(503),
)
async def readyz(request: Request, lent: CurrentLent) -> Response:
    """Answer 200 when a real inference worked within the last seconds, else run one now.

    During shutdown it answers 503, so that a balancer looks away before the port closes.
    """
    if request.app.state.draining:
        raise Draining("The service is stopping. Send requests to another replica.")
    try:
        await lent.engine.prove()
    except ServiceError as error:
        raise ModelNotReady(f"A probe inference failed: {error.detail}") from error
    provider = (await lent.engine.encoder(None)).provider
    shared = lent.cache.state().shared
    redis = "off" if shared is None else ("connected" if shared.breaker == "closed" else "bypassed")
    return json_response(
        {
            "status": "ready" if provider.as_wished else "degraded",
            "provider": provider.used,
            "provider_wished": provider.wished,
            "redis": redis,
        }
    )


@router.get("/startupz", summary="Did the start finish?", response_model=Started)
async def startupz(lent: CurrentLent) -> Response:
    """Answer once the models of the start are loaded and warm; before, the port is closed."""
    return json_response({"status": "started", "models": sorted(lent.engine.loaded())})


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(lent: CurrentLent) -> Response:
    """Return every instrument in Prometheus' text format; scale on `isotrope_queued_tokens`."""
    return Response(generate_latest(lent.metrics.registry), media_type=CONTENT_TYPE_LATEST)
