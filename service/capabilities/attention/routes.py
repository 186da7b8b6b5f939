"""Answer `/v1/attention` about layers."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Request, Response

from service.capabilities.attention.asking import read_deployment, read_layer, tap_layer
from service.capabilities.attention.model_routes import router as model_router
from service.capabilities.attention.option_schemas import rope_scheme, scale_scheme
from service.capabilities.attention.pictures import cache_picture, layer_picture
from service.capabilities.attention.pipeline.layers import LayerAnswer
from service.capabilities.attention.pipeline.probing import ProbeJob
from service.capabilities.attention.pipeline.room import AttentionRoom
from service.capabilities.attention.pipeline.variants import DESCRIPTIONS, count_caches
from service.capabilities.attention.replies import (
    describe_cache,
    describe_family,
    describe_layer,
    describe_probe,
)
from service.capabilities.attention.reply_schemas import (
    CacheSizeReply,
    LayerReply,
    ProbeReply,
    VariantsReply,
)
from service.capabilities.attention.schemas import CacheSizeRequest, LayerRequest, ProbeRequest
from service.numerics.attention.positions import RopeName
from service.numerics.attention.reference import Normaliser
from service.numerics.attention.scales import ScaleName
from service.numerics.dtypes import Progress
from service.runtime.engine import Engine
from service.web.call import CurrentCall
from service.web.capability import CurrentLent, provide
from service.web.negotiation import JSON, NPY, PNG, SSE, SVG, preferred
from service.web.openapi import problems
from service.web.pictures import PICTURES, picture
from service.web.routing import ServiceRoute
from service.web.rows import ArrayResponse
from service.web.streaming import reply_with_progress
from service.web.wire import json_reply, json_response

router = APIRouter(route_class=ServiceRoute)
router.include_router(model_router)
Room = Annotated[AttentionRoom, Depends(provide(AttentionRoom))]

_BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
_DRAWN: dict[str, Any] = {PNG: _BINARY, SVG: {"schema": {"type": "string"}}}
_LAYER_ANSWER = {"content": {**_DRAWN, NPY: _BINARY, SSE: {"schema": {"type": "string"}}}}
_PROBLEMS = problems(401, 413, 415, 422, 429, 504)
_LAYER_PROBLEMS = problems(401, 404, 409, 413, 415, 422, 429, 503, 504)


@router.get(
    "/v1/attention/variants",
    summary="List attention variants",
    response_model=VariantsReply,
    responses=problems(401),
)
async def list_variants(room: Room, lent: CurrentLent) -> Response:
    """Return what each variant computes and keeps, and what can be combined with it."""
    limits = room.settings.model_dump()
    body = {
        "variants": [
            {
                "variant": variant.value,
                "formula": told.formula,
                "cache": told.cache,
                "lossy": told.lossy,
                "source": told.source,
            }
            for variant, told in DESCRIPTIONS.items()
        ],
        "rope": [name.value for name in RopeName],
        "scales": [name.value for name in ScaleName if name is not ScaleName.VALUE],
        "normalisers": [name.value for name in Normaliser],
        "limits": limits,
        "models": [
            describe_family(name, manifest.max_tokens, manifest.family)
            for name, manifest in lent.engine.library.installed().items()
            if manifest.family is not None
        ],
    }
    return json_response(body)


@router.post(
    "/v1/attention/cache-size",
    summary="Count what variants keep of each token",
    response_model=CacheSizeReply,
    responses={200: {"content": _DRAWN}, **_PROBLEMS},
)
async def count_cache(body: CacheSizeRequest, request: Request, lent: CurrentLent) -> Response:
    """Return elements and bytes of the cache of each variant that the sizes describe.

    With `Accept: image/png` or `image/svg+xml` the answer is a bar chart of the bytes.
    """
    counts = count_caches(read_deployment(body))
    wanted = preferred(request, (JSON, *PICTURES))
    if wanted in PICTURES:
        title = f"{body.sequences} × {body.tokens} tokens, {body.layers} layers, {body.dtype}"
        drawn = cache_picture(counts, title)
        return await picture(lent.engine, wanted, drawn, height=1.2 + 0.6 * len(counts))
    return json_response(
        {
            "dtype": body.dtype,
            "layers": body.layers,
            "tokens": body.tokens,
            "sequences": body.sequences,
            "variants": [describe_cache(count) for count in counts],
        }
    )


@router.post(
    "/v1/attention/layer",
    summary="Run one attention layer under a variant",
    response_model=LayerReply,
    responses={200: _LAYER_ANSWER, **_LAYER_PROBLEMS},
)
async def run_layer(
    body: LayerRequest, request: Request, call: CurrentCall, room: Room, lent: CurrentLent
) -> Response:
    """Return what attention gives for queries, keys and values, or hidden states and weights.

    Arrays come as lists, or as base64 of float32 or float64. With noise, everything is of the
    noisy scores, and `noise_sensitivity` compares them with the clean ones. With
    `Accept: image/png` or `image/svg+xml` the answer is the map of each head of the first item of
    the batch, with the entropies; with `application/x-npy` it is the output as float32.
    """
    offered = preferred(request, (JSON, NPY, *PICTURES))
    drawn = offered in PICTURES
    more = ("probabilities", "entropy") if drawn else ("output",) if offered == NPY else ()
    given = body.hidden if body.q is None else body.q
    batched = given is not None and given.ndim == (4 if body.q is not None else 3)

    async def work(progress: Progress) -> Response:
        tapped = await tap_layer(body, room.taps, deadline=call.deadline)
        job = read_layer(body, tapped, more=more)
        answer = await room.layers.run(job, progress=progress)
        if drawn:
            return await _picture(lent.engine, offered, answer, body.variant)
        if offered == NPY:
            output = answer.found["output"]
            return ArrayResponse(output if batched else output[0])
        reply = describe_layer(
            job, answer, tapped, batched=batched, encoding_format=body.encoding_format
        )
        numbers = sum(int(array.size) for array in answer.found.values())
        return await json_reply(lent.engine, reply, numbers=numbers)

    return await reply_with_progress(request, call, work)


async def _picture(engine: Engine, kind: str, answer: LayerAnswer, variant: str) -> Response:
    weights, entropy = answer.found["probabilities"][0], answer.found["entropy"][0]
    title = f"{variant}: {len(weights)} heads, {weights.shape[-1]} tokens (√weights)"
    draw, height = layer_picture(weights, entropy, title)
    return await picture(engine, kind, draw, height=height)


@router.post(
    "/v1/attention/probe",
    summary="Probe positions and rank",
    response_model=ProbeReply,
    responses=_PROBLEMS,
)
async def probe_attention(body: ProbeRequest, room: Room, lent: CurrentLent) -> Response:
    """Return whether attention can tell equal tokens apart, and the rank of its weights.

    Softmax with relative positions gives equal tokens equal outputs (variance 0 up to rounding);
    rows of length 1, or a different first token, do not. Causal weights have a determinant above 0;
    a small `scale`, 0.01 say, shows bidirectional ones lose their rank.
    """
    job = ProbeJob(
        tokens=body.tokens,
        heads=body.heads,
        head_dim=body.head_dim,
        rope=rope_scheme(body.rope),
        scale=scale_scheme(body.scale),
        seed=body.seed,
    )
    answer = await room.probing.run(job)
    return await json_reply(
        lent.engine, describe_probe(job, answer), numbers=3 * np.size(body.heads)
    )
