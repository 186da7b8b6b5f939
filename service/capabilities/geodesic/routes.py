"""Answer `/v1/geodesic`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Request, Response

from service.capabilities.geodesic.numerics.meshes import MeshOptions
from service.capabilities.geodesic.numerics.pairwise import Bridge, GraphOptions, Wanted
from service.capabilities.geodesic.pictures import draw_map
from service.capabilities.geodesic.pipeline.corpora import Given
from service.capabilities.geodesic.pipeline.corpus import Item
from service.capabilities.geodesic.pipeline.pairwise import Answer
from service.capabilities.geodesic.pipeline.room import GeodesicPipeline
from service.capabilities.geodesic.replies import (
    describe_clusters,
    describe_corpus,
    describe_found,
    describe_model,
    describe_names,
    describe_pairwise,
    describe_places,
    describe_way,
)
from service.capabilities.geodesic.reply_schemas import (
    ClustersReply,
    CorporaReply,
    CorpusReply,
    MapReply,
    PairwiseReply,
    PathReply,
    QueryReply,
)
from service.capabilities.geodesic.schemas import (
    ClustersRequest,
    CorpusItem,
    CorpusRequest,
    ItemsRequest,
    PairwiseRequest,
    PathRequest,
    QueryRequest,
)
from service.errors import EmptyInput, Fault, InvalidInput
from service.numerics.distances import Metric
from service.numerics.dtypes import Progress
from service.numerics.graphs import EdgeRule
from service.numerics.shortlists import Hubness
from service.web.call import Call, CurrentCall
from service.web.capability import CurrentLent, provide
from service.web.idempotency import GivenIdempotency
from service.web.negotiation import JSON, NPY, PNG, SSE, SVG, preferred
from service.web.npy import npy_response
from service.web.openapi import model_problems, problems
from service.web.pictures import PICTURES, picture
from service.web.routing import ServiceRoute
from service.web.streaming import reply_with_progress
from service.web.wire import json_reply, json_response, wants_npy

router = APIRouter(route_class=ServiceRoute)
Pipeline = Annotated[GeodesicPipeline, Depends(provide(GeodesicPipeline))]

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_EVENTS: dict[str, Any] = {"content": {SSE: {"schema": {"type": "string"}}}}
_MATRIX: dict[str, Any] = {"content": {NPY: _BINARY, SSE: {"schema": {"type": "string"}}}}
_PICTURE: dict[str, Any] = {"content": {PNG: _BINARY, SVG: _BINARY}}
_STORED = (401, 404, 422, 429, 503, 504)
_CORPORA = "/v1/geodesic/corpora"
_ONE = f"{_CORPORA}/{{corpus_id}}"


@router.post(
    "/v1/geodesic/pairwise",
    summary="Measure distances along the manifold",
    response_model=PairwiseReply,
    responses={200: _MATRIX, **model_problems()},
)
async def measure_pairwise(
    body: PairwiseRequest,
    request: Request,
    call: CurrentCall,
    pipeline: Pipeline,
    lent: CurrentLent,
) -> Response:
    """Return shortest paths through the graph of near neighbours, beside the direct distances.

    Small distances between sentences mean something; large ones only say "not the same". Paths of
    small steps rebuild the large ones. Where there is no path the distance is null. With
    `Accept: application/x-npy` the answer is the geodesic array alone, no path being infinity.
    """
    options = GraphOptions(
        body.k, Metric(body.metric), EdgeRule(body.graph), body.max_edge, Bridge(body.bridge),
        Hubness(body.hubness),
    )  # fmt: skip
    wanted = Wanted(body.pairs, body.paths)
    _require_one(body.model_fields_set, "texts", "vectors")

    async def work(progress: Progress) -> Response:
        if body.vectors is not None:
            answer = await pipeline.pairwise.of_vectors(
                body.vectors, options, wanted, transform=body.transform, progress=progress
            )
        else:
            answer = await pipeline.pairwise.of_texts(
                body.texts,
                options,
                wanted,
                model=body.model,
                transform=body.transform,
                deadline=call.deadline,
                progress=progress,
            )
        _note(call, answer)
        if wants_npy(request):
            return await lent.engine.compute(npy_response, answer.measured.geodesic)
        reply = await lent.engine.compute(describe_pairwise, answer, body.encoding_format)
        reply["metric"] = body.metric
        numbers = 3 * answer.measured.geodesic.size + answer.measured.labels.size
        return await json_reply(lent.engine, reply, numbers=numbers)

    return await reply_with_progress(request, call, work)


@router.post(
    _CORPORA,
    summary="Make a corpus",
    status_code=201,
    response_model=CorpusReply,
    responses={201: _EVENTS, **model_problems(409)},
)
async def create_corpus(
    *,
    body: CorpusRequest,
    request: Request,
    call: CurrentCall,
    pipeline: Pipeline,
    lent: CurrentLent,
    idempotency: GivenIdempotency,
) -> Response:
    """Embed items, join each to its near neighbours, and keep all of it under a name.

    Texts bind the corpus to their encoder. `Accept: text/event-stream` tells how far it is.
    """
    settings = pipeline.settings
    options = MeshOptions(
        k=body.k,
        metric=Metric(body.metric),
        rule=EdgeRule(body.graph),
        max_edge=body.max_edge,
        exact_rows=settings.exact_items,
        threads=settings.index_threads,
        hubness=Hubness(body.hubness),
    )

    async def work(progress: Progress) -> Response:
        corpus = await pipeline.corpora.create(
            body.name,
            await lent.engine.compute(_given, body.items),
            options,
            model=body.model,
            transform=body.transform,
            request=(
                None if idempotency is None else (idempotency.key, idempotency.request_sha256)
            ),
            deadline=call.deadline,
            progress=progress,
        )
        return json_response(describe_corpus(corpus.describe()), status=201)

    return await reply_with_progress(request, call, work)


@router.get(
    _CORPORA,
    summary="List corpora",
    response_model=CorporaReply,
    responses=problems(*_STORED),
)
async def list_corpora(pipeline: Pipeline) -> Response:
    """Return every corpus, by name."""
    found = await pipeline.corpora.describe_all()
    return json_response({"data": [describe_corpus(each) for each in found]})


@router.get(
    _ONE,
    summary="Describe a corpus",
    response_model=CorpusReply,
    responses=problems(*_STORED),
)
async def get_corpus(corpus_id: str, pipeline: Pipeline) -> Response:
    """Return how a corpus was made, its size, and how good its neighbours are."""
    return json_response(describe_corpus((await pipeline.corpora.find(corpus_id)).describe()))


@router.delete(_ONE, summary="Delete a corpus", status_code=204, responses=problems(*_STORED))
async def delete_corpus(corpus_id: str, pipeline: Pipeline) -> Response:
    """Delete a corpus; queries that run finish, later ones answer 404."""
    await pipeline.corpora.remove(corpus_id)
    return Response(status_code=204)


@router.post(
    f"{_ONE}/items",
    summary="Add or replace items",
    response_model=CorpusReply,
    responses={200: _EVENTS, **model_problems(409)},
)
async def put_items(
    corpus_id: str,
    *,
    body: ItemsRequest,
    request: Request,
    call: CurrentCall,
    pipeline: Pipeline,
    lent: CurrentLent,
) -> Response:
    """Add items, in place of those of the same ids; only near lists are computed again.

    Sending the same items once more changes nothing but the version.
    """

    async def work(progress: Progress) -> Response:
        given = await lent.engine.compute(_given, body.items)
        corpus = await pipeline.corpora.put_items(
            corpus_id, given, deadline=call.deadline, progress=progress
        )
        return json_response(describe_corpus(corpus.describe()))

    return await reply_with_progress(request, call, work)


@router.delete(
    f"{_ONE}/items/{{item_id:path}}",
    summary="Delete an item",
    response_model=CorpusReply,
    responses=problems(*_STORED, 409),
)
async def delete_item(
    corpus_id: str, item_id: str, *, request: Request, call: CurrentCall, pipeline: Pipeline
) -> Response:
    """Delete an item; those that had it as a neighbour get their next one."""

    async def work(progress: Progress) -> Response:
        corpus = await pipeline.corpora.remove_item(corpus_id, item_id, progress=progress)
        return json_response(describe_corpus(corpus.describe()))

    return await reply_with_progress(request, call, work)


@router.post(
    f"{_ONE}/query",
    summary="Find what is near along the manifold",
    response_model=QueryReply,
    responses=model_problems(409),
)
async def query_corpus(
    corpus_id: str, *, body: QueryRequest, call: CurrentCall, pipeline: Pipeline
) -> Response:
    """Return the items nearest to a text or vector by the length of the path to them.

    The query is joined to its own near items only: it makes no shortcut between two of them. With
    a `calibration` each hit says in which percentile of it the straight likeness lies.
    """
    _require_one(body.model_fields_set, "text", "vector")
    embedded = None
    if body.vector is not None:
        corpus, hits = await pipeline.corpora.query_vector(
            corpus_id, body.vector, top=body.top, max_distance=body.max_distance
        )
    else:
        corpus, hits, embedded = await pipeline.corpora.query_text(
            corpus_id,
            body.text or "",
            top=body.top,
            max_distance=body.max_distance,
            deadline=call.deadline,
        )
        call.stages.update(embedded.stages)
    calibrated = await pipeline.percentiles(corpus, hits, body.calibration)
    return json_response(describe_found(corpus, hits, calibrated) | describe_model(embedded))


@router.post(
    f"{_ONE}/path",
    summary="Explain how two items hang together",
    response_model=PathReply,
    responses=problems(*_STORED, 413, 415),
)
async def find_path(corpus_id: str, *, body: PathRequest, pipeline: Pipeline) -> Response:
    """Return the shortest path between two items, and its weakest link."""
    corpus, way = await pipeline.corpora.path(corpus_id, body.source, body.target)
    return json_response(describe_way(corpus, way))


@router.post(
    f"{_ONE}/clusters",
    summary="Cluster a corpus",
    response_model=ClustersReply,
    responses={200: _EVENTS, **problems(*_STORED, 413, 415)},
)
async def cluster_corpus(
    corpus_id: str,
    *,
    body: ClustersRequest,
    request: Request,
    call: CurrentCall,
    pipeline: Pipeline,
    lent: CurrentLent,
) -> Response:
    """Return the cluster of every item, by distance along the graph."""

    async def work(progress: Progress) -> Response:
        corpus, rows, labels = await pipeline.layouts.clusters(
            corpus_id,
            method=body.method,
            min_cluster_size=body.min_cluster_size,
            clusters=body.clusters,
            progress=progress,
        )
        found = await lent.engine.compute(describe_clusters, corpus, rows, labels)
        return json_response({"method": body.method, **found})

    return await reply_with_progress(request, call, work)


@router.get(
    f"{_ONE}/map",
    summary="Map a corpus",
    response_model=MapReply,
    responses={200: _PICTURE, **problems(*_STORED, 413)},
)
async def map_corpus(
    corpus_id: str, request: Request, call: CurrentCall, pipeline: Pipeline, lent: CurrentLent
) -> Response:
    """Return a place on a plane for every item of the largest component, or a picture of it.

    Straight lines on it are like ways along the graph (Isomap).
    """
    wanted = preferred(request, (JSON, *PICTURES))

    async def work(progress: Progress) -> Response:
        corpus, rows, layout = await pipeline.layouts.map(corpus_id, progress=progress)
        places = layout.places[rows]
        if wanted != JSON:
            names = await lent.engine.compute(describe_names, corpus, rows)
            return await picture(lent.engine, wanted, draw_map(corpus.name, places, names))
        reply = {
            "items": await lent.engine.compute(describe_places, corpus, rows, places),
            "placed": np.isfinite(places[:, 0]).sum(),
            "explained": layout.explained,
            "version": corpus.version,
        }
        return await json_reply(lent.engine, reply, numbers=places.size)

    if wanted != JSON:
        call.allow_long_work()
        return await work(_patient)
    return await reply_with_progress(request, call, work)


def _patient(stage: str, done: int, total: int) -> None:
    """Take progress where a picture is drawn: it has no stream to tell it in."""


def _given(items: Sequence[CorpusItem]) -> list[Given]:
    """Return items as the pipeline takes them.

    Raises:
        InvalidInput: one has neither text nor vector.
    """
    for place, item in enumerate(items):
        if item.text is None and item.vector is None:
            raise InvalidInput(
                f"Item {place} ({item.id[:80]!r}) has neither text nor vector; give one.",
                faults=(Fault(f"/items/{place}", "has neither text nor vector"),),
            )
    return [Given(Item(item.id, item.text, item.metadata), item.vector) for item in items]


def _require_one(fields: set[str], one: str, other: str) -> None:
    given = sorted(fields & {one, other})
    if not given:
        raise EmptyInput(f"Give one of {one} and {other}.")
    if len(given) > 1:
        raise InvalidInput(
            f"{one} and {other} were given; give exactly one of them.",
            faults=tuple(Fault(f"/{name}", "given beside the other") for name in given),
        )


def _note(call: Call, answer: Answer) -> None:
    """Put the stages into the headers of the answer."""
    if answer.embedded is not None:
        call.stages.update(answer.embedded.stages)
