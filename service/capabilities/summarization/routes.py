"""Answer `/v1/opinions/summarize`."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from service.capabilities.summarization import set_routes
from service.capabilities.summarization.corpus import Review
from service.capabilities.summarization.room import Opinions
from service.capabilities.summarization.schemas import SummarizeRequest, SummaryReply
from service.capabilities.summarization.translation import (
    SUMMARY_ANSWER,
    as_reviews,
    as_wish,
    reply_with_summary,
)
from service.errors import Fault, InvalidInput
from service.web.call import CurrentCall
from service.web.capability import CurrentLent, Lent, provide
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
    reviews, model = await _reviews(body, lent)
    wish = as_wish(body, model=model, language=body.language, k=body.k)
    work = partial(room.given.summarize, reviews, wish)
    return await reply_with_summary(request, call, lent, wish, work)


async def _reviews(body: SummarizeRequest, lent: Lent) -> tuple[list[Review], str | None]:
    """Return the reviews of a request, or of the corpus that it names, and their encoder.

    Raises:
        InvalidInput: neither or both were given, or the corpus holds vectors alone.
        UnknownArtefact: there is no such corpus.
    """
    given = body.model_fields_set & {"reviews", "corpus"}
    if len(given) != 1:
        raise InvalidInput(
            f"{len(given)} of reviews and corpus were given; give exactly one.",
            faults=(Fault("", "must hold either reviews or corpus"),),
        )
    if body.reviews:
        return as_reviews(body.reviews), body.model
    kept = await lent.collections.read("corpus", body.corpus)
    if not kept.texts:
        raise InvalidInput(
            f"The corpus {body.corpus[:80]!r} holds vectors without texts, so there is nothing to "
            "quote.",
            faults=(Fault("/corpus", "holds no text"),),
        )
    reviews = [Review(text, name) for name, text in kept.texts.items()]
    return reviews, body.model or kept.model


router.include_router(set_routes.router)
