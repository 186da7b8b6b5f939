"""Answer the routes of stored review sets."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from service.capabilities.summarization.journal import SetRecord
from service.capabilities.summarization.room import Opinions
from service.capabilities.summarization.schemas import (
    AddReviewsRequest,
    CreateSetRequest,
    ReviewSet,
    ReviewSetList,
    SummarizeSetRequest,
    SummaryReply,
)
from service.capabilities.summarization.sets import Described
from service.capabilities.summarization.translation import (
    SUMMARY_ANSWER,
    as_reviews,
    as_wish,
    reply_with_summary,
)
from service.web.call import CurrentCall
from service.web.capability import CurrentLent, provide
from service.web.idempotency import GivenIdempotency
from service.web.openapi import model_problems, problems
from service.web.routing import ServiceRoute
from service.web.wire import json_response

router = APIRouter(route_class=ServiceRoute)
Room = Annotated[Opinions, Depends(provide(Opinions))]

_STORED = (401, 404, 422, 503, 504)
_CHANGED = (401, 404, 409, 413, 415, 422, 429, 503, 504)
_SETS = "/v1/opinions/sets"
_ONE = f"{_SETS}/{{set_id}}"


@router.post(
    _SETS,
    summary="Create a review set",
    status_code=201,
    response_model=ReviewSet,
    responses=model_problems(409),
)
async def create_review_set(
    body: CreateSetRequest,
    call: CurrentCall,
    room: Room,
    idempotency: GivenIdempotency,
) -> Response:
    """Store a set of reviews that grows; its name is its id."""
    made = await room.stored.create(
        body.name,
        as_reviews(body.reviews),
        model=body.model,
        language=body.language,
        k=body.k,
        idempotency=idempotency,
        deadline=call.deadline,
    )
    return json_response(_describe(made), status=201)


@router.get(
    _SETS, summary="List review sets", response_model=ReviewSetList, responses=problems(*_STORED)
)
async def list_review_sets(room: Room) -> Response:
    """Return all stored sets, by name."""
    return json_response({"sets": [_identify(each) for each in await room.stored.all()]})


@router.get(
    _ONE, summary="Describe a review set", response_model=ReviewSet, responses=problems(*_STORED)
)
async def get_review_set(set_id: str, room: Room) -> Response:
    """Return how far a set is."""
    return json_response(_describe(await room.stored.describe(set_id)))


@router.delete(_ONE, summary="Delete a review set", status_code=204, responses=problems(*_STORED))
async def delete_review_set(set_id: str, room: Room) -> Response:
    """Delete a set with all its reviews."""
    await room.stored.delete(set_id)
    return Response(status_code=204)


@router.post(
    f"{_ONE}/reviews",
    summary="Add reviews to a set",
    response_model=ReviewSet,
    responses=problems(*_CHANGED),
)
async def add_set_reviews(set_id: str, body: AddReviewsRequest, room: Room) -> Response:
    """Add reviews, or replace those of the same id; the next summary embeds only what is new."""
    return json_response(_describe(await room.stored.add(set_id, as_reviews(body.reviews))))


@router.delete(
    f"{_ONE}/reviews/{{review_id:path}}",
    summary="Remove a review from a set",
    status_code=204,
    responses=problems(401, 404, 409, 422, 503, 504),
)
async def remove_set_review(set_id: str, review_id: str, room: Room) -> Response:
    """Remove one review."""
    await room.stored.remove(set_id, review_id)
    return Response(status_code=204)


@router.post(
    f"{_ONE}/summarize",
    summary="Summarize a review set",
    response_model=SummaryReply,
    responses={200: SUMMARY_ANSWER, **model_problems(409)},
)
async def summarize_review_set(  # noqa: PLR0917 - the framework passes them by name
    set_id: str,
    body: SummarizeSetRequest,
    request: Request,
    call: CurrentCall,
    room: Room,
    lent: CurrentLent,
) -> Response:
    """Return what `/v1/opinions/summarize` would of the same reviews, doing only what is new."""
    record = await room.stored.find(set_id)
    wish = as_wish(body, model=record.model, language=record.language, k=record.k)
    work = partial(room.stored.summarize, record, wish)
    return await reply_with_summary(request, call, lent, wish, work)


def _identify(record: SetRecord) -> dict[str, Any]:
    return {
        "id": record.name,
        "model": record.model,
        "language": record.language,
        "k": record.k,
    }


def _describe(described: Described) -> dict[str, Any]:
    far = {"reviews": described.reviews, "revision": described.revision}
    return _identify(described.record) | far
