"""Answer `/v1/embeddings` and `/v1/similarity`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from service.capabilities.embeddings.pipeline import Compared, Comparison, EmbeddingsPipeline
from service.capabilities.embeddings.schemas import (
    EmbeddingsReply,
    EmbeddingsRequest,
    SimilarityReply,
    SimilarityRequest,
)
from service.embedding.embedder import Embedded, EmbeddingOptions
from service.errors import EmptyInput, Fault, InvalidInput
from service.numerics.hubness import Metric
from service.runtime.tokenizer import Truncate
from service.web.call import Call, CurrentCall
from service.web.capability import CurrentLent, provide
from service.web.negotiation import NPY
from service.web.npy import npy_response
from service.web.openapi import model_problems
from service.web.routing import ServiceRoute
from service.web.wire import encode_rows, json_reply, wants_npy

router = APIRouter(route_class=ServiceRoute)
Pipeline = Annotated[EmbeddingsPipeline, Depends(provide(EmbeddingsPipeline))]

_NPY_ANSWER: dict[str, Any] = {
    "content": {NPY: {"schema": {"type": "string", "format": "binary"}}},
}


@router.post(
    "/v1/embeddings",
    summary="Embed texts",
    response_model=EmbeddingsReply,
    responses={200: _NPY_ANSWER, **model_problems(409)},
)
async def create_embeddings(
    body: EmbeddingsRequest,
    request: Request,
    call: CurrentCall,
    pipeline: Pipeline,
    lent: CurrentLent,
) -> Response:
    """Return one vector a text, in order; OpenAI's clients work unchanged.

    A text that is longer than the model reads is cut at its end unless `truncate` says otherwise,
    and the answer says so. With `Accept: application/x-npy` the answer is one `(n, d)` float32
    array, and model and usage stand in headers.
    """
    made = await pipeline.embed(
        body.input,
        model=body.model,
        options=EmbeddingOptions(body.pooling, body.normalize, Truncate(body.truncate)),
        dimensions=body.dimensions,
        transform=body.transform,
        deadline=call.deadline,
    )
    embedded = made.embedded
    _note(call, embedded, made.transform)
    if wants_npy(request):
        return npy_response(embedded.vectors)
    rows = encode_rows(embedded.vectors, body.encoding_format)
    reply = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": row}
            for index, row in enumerate(rows)
        ],
        "model": embedded.encoder.manifest.id,
        "model_sha256": embedded.encoder.sha256,
        "transform": made.transform,
        "usage": _usage(embedded),
        "truncated": [
            {"index": index, "dropped_tokens": dropped}
            for index, dropped in enumerate(embedded.dropped_tokens)
            if dropped
        ],
    }
    return await json_reply(lent.engine, reply, numbers=embedded.vectors.size)


@router.post(
    "/v1/similarity",
    summary="Compare texts or vectors",
    response_model=SimilarityReply,
    responses={200: _NPY_ANSWER, **model_problems(409)},
)
async def create_similarity(
    body: SimilarityRequest,
    request: Request,
    call: CurrentCall,
    pipeline: Pipeline,
    lent: CurrentLent,
) -> Response:
    """Return one similarity a pair, or the full matrix of texts or vectors.

    Exactly one of `pairs`, `texts` and `vectors` must be given. `csls`, `mutual_proximity` and
    `local_scaling` take hubs down: they compare with the neighbourhood of each side, which is all
    that the request holds. With a `calibration` each score comes with its percentile among those
    of unrelated texts.
    """
    compared = await _compare(body, pipeline, call.deadline)
    calibrated = None
    if body.calibration is not None:
        calibrated = await pipeline.calibrate(
            compared, body.calibration, metric=Metric(body.metric), pooling=body.pooling
        )
    embedded = compared.embedded
    if embedded is not None:
        _note(call, embedded, compared.transform)
    if wants_npy(request):
        return npy_response(compared.scores)
    reply = {
        "scores": compared.scores,
        "percentiles": None if calibrated is None else calibrated.percentiles,
        "calibration": None if calibrated is None else calibrated.calibration,
        "metric": body.metric,
        "transform": compared.transform,
        **_encoder(compared),
        "usage": _usage(embedded),
    }
    return await json_reply(lent.engine, reply, numbers=compared.scores.size)


async def _compare(
    body: SimilarityRequest, pipeline: EmbeddingsPipeline, deadline: float
) -> Compared:
    given = body.model_fields_set & {"pairs", "texts", "vectors"}
    if not given:
        raise EmptyInput("Give one of pairs, texts and vectors.")
    if len(given) > 1:
        raise InvalidInput(
            f"{' and '.join(sorted(given))} were given; give exactly one of them.",
            faults=tuple(Fault(f"/{name}", "given beside another") for name in sorted(given)),
        )
    how = Comparison(Metric(body.metric), body.k, body.transform)
    if body.vectors is not None:
        return await pipeline.compare_vectors(
            body.vectors, model=body.model, pooling=body.pooling, how=how, deadline=deadline
        )
    options = EmbeddingOptions(body.pooling, normalize=True, truncate=Truncate(body.truncate))
    if body.pairs:
        return await pipeline.compare_pairs(
            body.pairs, model=body.model, options=options, how=how, deadline=deadline
        )
    return await pipeline.compare_texts(
        body.texts, model=body.model, options=options, how=how, deadline=deadline
    )


def _note(call: Call, embedded: Embedded, transform: str | None) -> None:
    """Put the stages and the model into the headers of the answer."""
    call.stages.update(embedded.stages)
    encoder = embedded.encoder
    call.headers.update(
        {
            "X-Model": encoder.manifest.id,
            "X-Model-SHA256": encoder.sha256,
            "X-Execution-Provider": encoder.provider.used,
            "X-Prompt-Tokens": str(sum(embedded.tokens)),
            "X-Truncated-Inputs": str(sum(map(bool, embedded.dropped_tokens))),
        }
    )
    if transform is not None:
        call.headers["X-Transform"] = transform


def _encoder(compared: Compared) -> dict[str, str | None]:
    """Return the encoder of texts, or the one that vectors were said to come from."""
    if compared.embedded is not None:
        encoder = compared.embedded.encoder
        return {"model": encoder.manifest.id, "model_sha256": encoder.sha256}
    origin = compared.origin
    return {
        "model": None if origin is None else origin.model,
        "model_sha256": None if origin is None else origin.sha256,
    }


def _usage(embedded: Embedded | None) -> dict[str, int]:
    tokens = 0 if embedded is None else sum(embedded.tokens)
    return {"prompt_tokens": tokens, "total_tokens": tokens}
