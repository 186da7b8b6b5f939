"""Answer `/v1/distribution`."""

from __future__ import annotations

import base64
from collections.abc import Collection, Mapping
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Request, Response

from service.capabilities.distribution.analysis_routes import router as analysis_router
from service.capabilities.distribution.pipeline import DistributionPipeline, Sampling
from service.capabilities.distribution.schemas import (
    DivergenceReply,
    DivergenceRequest,
    DrawsReply,
    DrawsRequest,
    MergeReply,
    MergeRequest,
    ProbabilitiesReply,
    ProbabilitiesRequest,
    described,
)
from service.errors import Fault, InvalidInput
from service.numerics.distributions.choice import (
    NOISE_MAPS,
    Distribution,
    MapName,
    ProbabilityMap,
)
from service.numerics.distributions.contexts import Pooling
from service.numerics.distributions.divergences import symmetric_kl
from service.numerics.distributions.sparse import ranked
from service.numerics.dtypes import Ids64, Logits, Progress, Vector64
from service.runtime.engine import Engine
from service.web.call import Call, CurrentCall
from service.web.capability import CurrentLent, provide
from service.web.negotiation import NPY, SSE
from service.web.openapi import problems
from service.web.routing import ServiceRoute
from service.web.rows import ArrayResponse
from service.web.streaming import reply_with_progress
from service.web.wire import WireModel, encode_rows, json_reply, wants_npy

router = APIRouter(route_class=ServiceRoute)
router.include_router(analysis_router)
Pipeline = Annotated[DistributionPipeline, Depends(provide(DistributionPipeline))]

_NPY_ANSWER: dict[str, Any] = {
    "content": {NPY: {"schema": {"type": "string", "format": "binary"}}},
}
_ANSWERS: dict[str, Any] = {
    "content": {**_NPY_ANSWER["content"], SSE: {"schema": {"type": "string"}}}
}
_PROBLEMS = problems(401, 413, 415, 422, 429, 504)
# More would not fit the header that every client reads.
_MOST_HEADER_ROWS = 512
_READ_BY_MAP: Mapping[str, Collection[str]] = {
    "scale": NOISE_MAPS,
    "match_variance": NOISE_MAPS,
    "nodes": NOISE_MAPS,
    "alpha": {MapName.ENTMAX},
    "k": {MapName.TOP_K},
    "p": {MapName.TOP_P},
    "min_p": {MapName.MIN_P},
}
_READ_BY_KIND: Mapping[str, Collection[str]] = {
    "t": {"softmax", "sigmoid", "emo"},
    "embeddings": {"emo"},
    "targets": {"emo"},
}


@router.post(
    "/v1/distribution/probabilities",
    summary="Turn logits into probabilities",
    response_model=ProbabilitiesReply,
    responses={200: _ANSWERS, **_PROBLEMS},
)
async def create_probabilities(
    body: ProbabilitiesRequest,
    request: Request,
    call: CurrentCall,
    pipeline: Pipeline,
    lent: CurrentLent,
) -> Response:
    """Return the probabilities of each row under a map: softmax, noise, or a sparse one.

    Rows come as lists (null masks an entry), base64 or `.npy`, in float32 or float64. With
    `Accept: application/x-npy` the answer is one float32 array (rows, n), and up to 512 entropies
    stand in `X-Entropy` as base64 of little-endian float64; `return=["entropy"]` gives the
    entropies as the array, in float64.
    """
    chosen = _chosen(body)

    async def work(progress: Progress) -> Response:
        found = await pipeline.probabilities(body.logits, chosen, progress=progress)
        if wants_npy(request):
            return await _probabilities_npy(lent.engine, call, body, found)
        reply: dict[str, Any] = {
            "probabilities": None,
            "indices": None,
            "entropy": found.entropies,
            "support": found.support,
            "mass_defect": found.mass_defect,
        }
        if "probabilities" in body.return_:
            shown, indices = found.probabilities, None
            if body.top is not None:
                indices, shown = await lent.engine.compute(_largest, shown, body.top)
            rows = shown if body.encoding_format == "float" else encode_rows(shown, "base64")
            reply |= {"probabilities": rows, "indices": indices}
        wanted = [*body.return_, "indices"]
        head = {"map": body.map, "divisor": chosen.divisor}
        return await json_reply(
            lent.engine, head | described(reply, wanted), numbers=found.probabilities.size
        )

    return await reply_with_progress(request, call, work)


async def _probabilities_npy(
    engine: Engine, call: Call, body: ProbabilitiesRequest, found: Distribution
) -> Response:
    if body.return_ == ["entropy"]:
        return ArrayResponse(found.entropies)
    if len(found.entropies) <= _MOST_HEADER_ROWS:
        raw = found.entropies.astype("<f8").tobytes()
        call.headers["X-Entropy"] = base64.b64encode(raw).decode("ascii")
    return await engine.compute(_float32_response, found.probabilities)


def _float32_response(rows: Logits) -> Response:
    return ArrayResponse(rows.astype("<f4", copy=False))


def _largest(rows: Logits, top: int) -> tuple[Ids64, Logits]:
    """Return indices and values (rows, top) of each row's largest entries, falling."""
    indices = np.stack([ranked(row, min(top, len(row))) for row in rows])
    return indices, np.take_along_axis(rows, indices, axis=1)


def _chosen(body: ProbabilitiesRequest) -> ProbabilityMap:
    """Return the map with its parameters.

    Raises:
        InvalidInput: a parameter was given that the map does not read.
    """
    name = MapName(body.map)
    _require_read(body, "map", name, _READ_BY_MAP)
    return ProbabilityMap(
        name=name,
        temperature=body.temperature,
        scale=body.scale,
        match_variance=body.match_variance,
        nodes=body.nodes,
        alpha=body.alpha,
        k=body.k,
        p=body.p,
        min_p=body.min_p,
    )


def _require_read(
    body: WireModel, choice: str, name: str, readers: Mapping[str, Collection[str]]
) -> None:
    """Check that what was given is read by what was chosen: an option that does nothing misleads.

    Raises:
        InvalidInput: it is not.
    """
    for field in sorted(body.model_fields_set & set(readers)):
        if name not in readers[field]:
            raise InvalidInput(
                f"The {choice} {str(name)!r} does not read {field}, which belongs to "
                f"{', '.join(sorted(readers[field]))}. Leave it out, or choose another.",
                faults=(Fault(f"/{field}", f"is not read by {str(name)!r}"),),
            )


@router.post(
    "/v1/distribution/sample",
    summary="Draw from logits",
    response_model=DrawsReply,
    responses={200: _ANSWERS, **_PROBLEMS},
)
async def create_sample(
    body: DrawsRequest,
    request: Request,
    call: CurrentCall,
    pipeline: Pipeline,
    lent: CurrentLent,
) -> Response:
    """Return exact draws argmax(x + noise) from each row, with or without replacement.

    The same seed gives the same draws; a row's draws depend on its place and not on its
    neighbours. With `Accept: application/x-npy` the answer is the int64 array (rows, draws), and
    the seed stands in `X-Seed`.
    """
    how = Sampling(
        noise=body.noise,
        divisor=body.temperature * body.scale,
        draws=body.draws,
        replace=not body.without_replacement,
        seed=body.seed,
    )

    async def work(progress: Progress) -> Response:
        found = await pipeline.sample(body.logits, how, progress=progress)
        if wants_npy(request):
            call.headers["X-Seed"] = str(body.seed)
            return ArrayResponse(found.indices)
        given = {"indices": found.indices, "perturbed": found.perturbed}
        reply = {"noise": body.noise, "seed": body.seed, **described(given, list(body.return_))}
        return await json_reply(lent.engine, reply, numbers=2 * found.indices.size)

    return await reply_with_progress(request, call, work)


@router.post(
    "/v1/distribution/merge-contexts",
    summary="Merge the distributions of several contexts",
    response_model=MergeReply,
    responses={200: _NPY_ANSWER, **_PROBLEMS},
)
async def merge_contexts(
    body: MergeRequest,
    request: Request,
    call: CurrentCall,
    pipeline: Pipeline,
    lent: CurrentLent,
) -> Response:
    """Return the next token's distribution given all contexts, as if they were independent.

    Good for passages that were retrieved on their own; wrong where contexts continue each other.
    With `Accept: application/x-npy` the answer is the float64 array of log probabilities, and the
    index stands in `X-Index`.
    """
    merged = await pipeline.merge(
        body.conditional,
        body.unconditional,
        beta=body.beta,
        eta=body.eta,
        mass=body.top_p,
        pooling=Pooling(body.pooling),
        previous=body.previous_index,
    )
    if wants_npy(request):
        call.headers["X-Index"] = "" if merged.chosen is None else str(merged.chosen)
        return ArrayResponse(merged.log_probabilities)
    shown: Vector64 = merged.log_probabilities
    indices = None
    if body.top is not None:
        indices = ranked(shown, min(body.top, len(shown)))
        shown = shown[indices]
    coded = encode_rows(shown[np.newaxis].astype(np.float32), body.encoding_format)[0]
    reply = {
        "index": merged.chosen,
        "entropies": merged.entropies,
        "log_probabilities": shown if body.encoding_format == "float" else coded,
        "indices": indices,
    }
    return await json_reply(lent.engine, reply, numbers=shown.size)


@router.post(
    "/v1/distribution/divergence",
    summary="Compare rows of scores",
    response_model=DivergenceReply,
    responses=_PROBLEMS,
)
async def create_divergence(
    body: DivergenceRequest, pipeline: Pipeline, lent: CurrentLent
) -> Response:
    """Return one divergence a row, or the labels that multi-label scores say."""
    _require_read(body, "kind", body.kind, _READ_BY_KIND)
    given: dict[str, object] = {"value": None, "terms": None}
    more: dict[str, object] = {"bound": None, "probabilities": None, "labels": None}
    if body.kind == "multi_label":
        probabilities = await pipeline.multi_label(body.s)
        more["probabilities"] = probabilities
        more["labels"] = [np.flatnonzero(row > 0) for row in body.s]
    elif body.kind == "emo":
        given["value"] = await pipeline.transport(
            body.s, body.t, targets=body.targets, embeddings=body.embeddings
        )
        more["bound"] = "exact" if body.targets else "upper"
    else:
        terms = await pipeline.symmetric_kl(body.s, body.t, link=body.kind)
        given |= {"value": symmetric_kl(terms), "terms": terms}
    reply = {"kind": body.kind, **described(given, list(body.return_)), **more}
    return await json_reply(lent.engine, reply, numbers=body.s.size)
