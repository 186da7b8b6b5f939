"""Answer `/v1/whitening/transforms` and `/v1/analysis/geometry`."""

from __future__ import annotations

from typing import Annotated, Any, cast

from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.responses import StreamingResponse

from service.capabilities.whitening.gathering import Given, RowPairs, TextPairs
from service.capabilities.whitening.pictures import occurrences_picture, spectrum_picture
from service.capabilities.whitening.pipeline import GridWanted, WhiteningPipeline
from service.capabilities.whitening.replies import (
    describe_geometry,
    describe_in_detail,
    describe_origin,
    describe_transform,
    describe_tuning,
    lengths,
    npy_pieces,
    stream_pieces,
)
from service.capabilities.whitening.reply_schemas import (
    ApplyReply,
    GeometryReply,
    TransformDetail,
    TransformList,
    TuneReply,
)
from service.capabilities.whitening.schemas import (
    ApplyRequest,
    FitRequest,
    GeometryRequest,
    Source,
    TuneRequest,
    UpdateRequest,
)
from service.embedding.transform import Transform
from service.errors import Fault, InvalidInput
from service.numerics.dtypes import Progress
from service.numerics.whitening import Shrinkage
from service.runtime.tokenizer import Truncate
from service.web.call import CurrentCall
from service.web.capability import CurrentLent, provide
from service.web.idempotency import GivenIdempotency
from service.web.negotiation import JSON, NPY, PNG, SSE, SVG, preferred
from service.web.openapi import model_problems, problems
from service.web.pictures import PICTURES, picture
from service.web.routing import ServiceRoute
from service.web.streaming import reply_with_progress
from service.web.wire import encode_rows, json_reply, json_response, wants_npy

router = APIRouter(route_class=ServiceRoute)
Pipeline = Annotated[WhiteningPipeline, Depends(provide(WhiteningPipeline))]

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_NPY_ANSWER: dict[str, Any] = {"content": {NPY: _BINARY}}
_EVENTS: dict[str, Any] = {"content": {SSE: {"schema": {"type": "string"}}}}
_PICTURE: dict[str, Any] = {"content": {PNG: _BINARY, SVG: _BINARY}}
_ONNX = "application/octet-stream"
_STORED = (401, 404, 422, 503, 504)
_TRANSFORMS = "/v1/whitening/transforms"
_ONE = f"{_TRANSFORMS}/{{transform_id}}"


@router.post(
    _TRANSFORMS,
    summary="Fit a transform",
    status_code=201,
    response_model=TransformDetail,
    responses={201: _EVENTS, **model_problems(409)},
)
async def fit_transform(
    body: FitRequest,
    request: Request,
    call: CurrentCall,
    pipeline: Pipeline,
    idempotency: GivenIdempotency,
) -> Response:
    """Fit a whitening on texts or vectors and keep it as a new version.

    y = (x − βμ) U Λ^(−γ/2), first k columns, length 1; the axes are those of the second moment
    about βμ. β = γ = 0 is a rotation, and reduces without stretching; β = γ = 1 is BERT-whitening,
    which helps encoders that were never tuned for similarity and hurts those that were. Fit on the
    vectors as pooled, not normalised. `Accept: text/event-stream` tells how far it is.
    """

    async def work(progress: Progress) -> Response:
        transform = await pipeline.fit(
            body.name,
            _given(body, pooling=body.pooling),
            beta=body.beta,
            gamma=body.gamma,
            dimensions=body.dimensions,
            shrinkage=Shrinkage(body.shrinkage),
            idempotency=idempotency,
            deadline=call.deadline,
            progress=progress,
        )
        return _created(transform)

    return await reply_with_progress(request, call, work)


@router.get(
    _TRANSFORMS,
    summary="List transforms",
    response_model=TransformList,
    responses=problems(*_STORED),
)
async def list_transforms(
    pipeline: Pipeline,
    name: Annotated[str | None, Query(description="Every version of this name.")] = None,
) -> Response:
    """Return the latest version of every transform, or every version of one."""
    found = await pipeline.transforms.list(name)
    return json_response({"transforms": [describe_transform(transform) for transform in found]})


@router.get(
    _ONE,
    summary="Describe a transform",
    response_model=TransformDetail,
    responses={200: _PICTURE, **problems(*_STORED)},
)
async def get_transform(
    transform_id: str, request: Request, pipeline: Pipeline, lent: CurrentLent
) -> Response:
    """Return one version, or the latest of a name; as PNG or SVG its spectrum, before and after."""
    transform = await pipeline.transforms.find(transform_id)
    wanted = preferred(request, (JSON, *PICTURES))
    if wanted != JSON:
        return await picture(lent.engine, wanted, spectrum_picture(transform))
    return json_response(describe_in_detail(transform))


@router.delete(_ONE, summary="Delete a transform", status_code=204, responses=problems(*_STORED))
async def delete_transform(transform_id: str, pipeline: Pipeline) -> Response:
    """Delete one version, or the latest of a name; its number is never given again."""
    await pipeline.transforms.delete(transform_id)
    return Response(status_code=204)


@router.post(
    f"{_ONE}/update",
    summary="Add texts or vectors to a transform",
    status_code=201,
    response_model=TransformDetail,
    responses={201: _EVENTS, **model_problems(409)},
)
async def update_transform(
    transform_id: str,
    *,
    body: UpdateRequest,
    request: Request,
    call: CurrentCall,
    pipeline: Pipeline,
    idempotency: GivenIdempotency,
) -> Response:
    """Return a new version from the merged statistics, as if all had come in one fit."""

    async def work(progress: Progress) -> Response:
        transform = await pipeline.update(
            transform_id,
            _given(body),
            idempotency=idempotency,
            deadline=call.deadline,
            progress=progress,
        )
        return _created(transform)

    return await reply_with_progress(request, call, work)


@router.post(
    f"{_ONE}/apply",
    summary="Transform texts or vectors",
    response_model=ApplyReply,
    responses={200: _NPY_ANSWER, **model_problems(409)},
)
async def apply_transform(
    transform_id: str,
    *,
    body: ApplyRequest,
    request: Request,
    call: CurrentCall,
    pipeline: Pipeline,
    lent: CurrentLent,
) -> Response:
    """Return one transformed vector a text or vector, in order.

    Vectors are taken as the encoder's pooling gave them, not normalised; `.npy` comes in and goes
    out where the request says so.
    """
    applied = await pipeline.apply(
        transform_id,
        _given(body),
        dimensions=body.dimensions,
        normalize=body.normalize,
        deadline=call.deadline,
    )
    call.headers["X-Transform"] = applied.transform.id
    if applied.embedded is not None:
        call.stages.update(applied.embedded.stages)
        dropped = sum(map(bool, applied.embedded.dropped_tokens))
        call.headers["X-Truncated-Inputs"] = str(dropped)
    if wants_npy(request):
        pieces = npy_pieces(applied.vectors)
        return StreamingResponse(stream_pieces(pieces), media_type=NPY, headers=lengths(pieces))
    reply = {
        "vectors": encode_rows(applied.vectors, body.encoding_format),
        "transform": applied.transform.id,
        "dimensions": applied.vectors.shape[1],
        **describe_origin(applied.transform.origin),
    }
    return await json_reply(lent.engine, reply, numbers=applied.vectors.size)


@router.post(
    f"{_ONE}/tune",
    summary="Choose β, γ and dimensions on labelled pairs",
    response_model=TuneReply,
    responses={200: _EVENTS, **model_problems(409)},
)
async def tune_transform(
    transform_id: str,
    *,
    body: TuneRequest,
    request: Request,
    call: CurrentCall,
    pipeline: Pipeline,
    lent: CurrentLent,
    idempotency: GivenIdempotency,
) -> Response:
    """Search a grid by rank correlation, and say what is gained on pairs that were not searched.

    Pairs are dealt into folds; each fold is ranked by the setting that the other folds chose. The
    verdict is `gain` where 95 % of the resampled gains over the raw vectors are above 0; then `id`
    is a new version with the best setting. Otherwise `id` is the transform as it was.
    """
    grid = GridWanted(body.grid.beta, body.grid.gamma, body.grid.dimensions)
    seed = body.seed
    if idempotency is not None and "seed" not in body.model_fields_set:
        seed = int(idempotency.request_sha256[:15], 16)  # drawn anew it would give another answer

    async def work(progress: Progress) -> Response:
        tuned, transform = await pipeline.tune(
            transform_id,
            _pairs(body),
            grid,
            folds=body.folds,
            seed=seed,
            idempotency=idempotency,
            deadline=call.deadline,
            progress=progress,
        )
        reply = describe_tuning(tuned) | {
            "id": transform.id,
            "pairs": len(body.pairs),
            "folds": body.folds,
            "seed": seed,
        }
        return await json_reply(lent.engine, reply, numbers=4 * len(tuned.cells))

    return await reply_with_progress(request, call, work)


@router.get(
    f"{_ONE}/onnx",
    summary="Take the encoder away with the transform in it",
    response_class=StreamingResponse,
    responses={200: {"content": {_ONNX: _BINARY}}, **model_problems(409)},
)
async def export_transform(transform_id: str, call: CurrentCall, pipeline: Pipeline) -> Response:
    """Return an ONNX graph: token ids in, whitened sentence vectors of length 1 out.

    Inputs are the encoder's, `input_ids` and `attention_mask`; the output is
    `sentence_embedding`. onnxruntime alone runs it; the tokenizer is the encoder's. Texts are to
    begin with the metadata's `isotrope.prefix` (`query: ` for e5, empty for others) and to be cut
    at `isotrope.max_tokens`, as they were in the fit.
    """
    transform, pieces = await pipeline.export(transform_id, deadline=call.deadline)
    headers = {
        **lengths(pieces),
        "Content-Disposition": f'attachment; filename="{transform.id}.onnx"',
        "ETag": f'"{transform.version.sha256}"',
    }
    return StreamingResponse(stream_pieces(pieces), media_type=_ONNX, headers=headers)


@router.post(
    "/v1/analysis/geometry",
    summary="Describe how vectors lie in their space",
    response_model=GeometryReply,
    responses={
        200: {"content": {**_EVENTS["content"], **_PICTURE["content"]}},
        **model_problems(409),
    },
)
async def analyze_geometry(
    body: GeometryRequest,
    request: Request,
    call: CurrentCall,
    pipeline: Pipeline,
    lent: CurrentLent,
) -> Response:
    """Return isotropy and hubness: which vectors are in everybody's list of neighbours.

    Diagnostics, not measures of quality: whitening improves all of them even where it makes search
    worse. As PNG or SVG: how many vectors are in how many lists.
    """
    offered = (JSON, SSE, *PICTURES)
    wanted = preferred(request, offered)

    async def work(progress: Progress) -> Response:
        found = await pipeline.surveyor.describe(
            _given(body, pooling=body.pooling),
            transform_id=body.transform,
            k=body.k,
            reductions=body.reductions,
            seed=body.seed,
            deadline=call.deadline,
            progress=progress,
        )
        if wanted in PICTURES:
            return await picture(lent.engine, wanted, occurrences_picture(found))
        return json_response(describe_geometry(found) | {"seed": body.seed})

    return await reply_with_progress(request, call, work, offered=offered)


def _given(body: Source, *, pooling: str | None = None) -> Given:
    return Given(body.texts, body.vectors, body.model, pooling, Truncate(body.truncate))


def _pairs(body: TuneRequest) -> TextPairs | RowPairs:
    wanted = str if body.vectors is None else int
    for number, pair in enumerate(body.pairs):
        for side, value in (("a", pair.a), ("b", pair.b)):
            if not isinstance(value, wanted):
                raise InvalidInput(
                    f"Pair {number} has {value!r:.40} on side {side}; pairs of texts need no "
                    "vectors, and pairs of row numbers need them.",
                    faults=(Fault(f"/pairs/{number}/{side}", "is of the other kind"),),
                )
    first = [pair.a for pair in body.pairs]
    second = [pair.b for pair in body.pairs]
    scores = [pair.score for pair in body.pairs]
    if body.vectors is None:
        return TextPairs(cast(list[str], first), cast(list[str], second), scores)
    return RowPairs(body.vectors, cast(list[int], first), cast(list[int], second), scores)


def _created(transform: Transform) -> Response:
    response = json_response(describe_in_detail(transform), 201)
    response.headers["Location"] = f"{_TRANSFORMS}/{transform.id}"
    return response
