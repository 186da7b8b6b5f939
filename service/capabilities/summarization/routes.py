"""Answer `/v1/opinions/summarize`."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from service.capabilities.summarization import set_routes
from service.capabilities.summarization.room import Opinions
from service.capabilities.summarization.schemas import SummarizeRequest, SummaryReply
from service.capabilities.summarization.translation import (
    SUMMARY_ANSWER,
    as_reviews,
    as_wish,
    reply_with_summary,
)
from service.web.call import CurrentCall
from service.web.capability import CurrentLent, provide
from service.web.openapi import model_problems
from service.web.routing import ServiceRoute

router = APIRouter(route_class=ServiceRoute)
Room = Annotated[Opinions, Depends(provide(Opinions))]


@router.post(
    "/v1/opinions/summarize",
    summary="Summarize reviews",
    response_model=SummaryReply,
    responses={200: SUMMARY_ANSWER, **model_problems()},
)
async def summarize_opinions(
    body: SummarizeRequest,
    request: Request,
    call: CurrentCall,
    room: Room,
    lent: CurrentLent,
) -> Response:
    """Return whole sentences out of the reviews, each with who supports it.

    No text is made up: `review[start:end]` is the sentence, to the character. With
    `Accept: text/event-stream` progress is streamed, with `Accept: text/html` the answer is a page.
    """
    reviews = as_reviews(body.reviews)
    wish = as_wish(body, model=body.model, language=body.language, k=body.k)
    work = partial(room.given.summarize, reviews, wish)
    return await reply_with_summary(request, call, lent, wish, work)


router.include_router(set_routes.router)
