"""Answer `/v1/opinions/summarize` and the routes of stored sets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from service.capabilities.summarization.corpus import Review
from service.capabilities.summarization.numerics.manifold import Distance
from service.capabilities.summarization.options import Options, Strategy, Unit
from service.capabilities.summarization.page import CONTENT_SECURITY_POLICY, render
from service.capabilities.summarization.pipeline import Answered, SummarizationPipeline, Wish
from service.capabilities.summarization.schemas import (
    Choices,
    GivenReview,
    SummarizeRequest,
    SummaryReply,
)
from service.capabilities.summarization.shaping import shape
from service.errors import Fault, InvalidInput
from service.numerics.dtypes import Progress
from service.web.call import Call, CurrentCall
from service.web.capability import CurrentLent, Lent, provide
from service.web.negotiation import HTML, JSON, SSE, preferred
from service.web.openapi import model_problems
from service.web.routing import ServiceRoute
from service.web.streaming import reply_with_progress
from service.web.wire import json_reply

router = APIRouter(route_class=ServiceRoute)
Pipeline = Annotated[SummarizationPipeline, Depends(provide(SummarizationPipeline))]

SUMMARY_ANSWER: dict[str, Any] = {
    "content": {
        HTML: {"schema": {"type": "string"}},
        SSE: {"schema": {"type": "string"}},
    },
}


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
    pipeline: Pipeline,
    lent: CurrentLent,
) -> Response:
    """Return whole sentences out of the reviews, each with who supports it.

    No text is made up: `review[start:end]` is the sentence, to the character. With
    `Accept: text/event-stream` progress is streamed, with `Accept: text/html` the answer is a page.
    """
    reviews = as_reviews(body.reviews)
    wish = as_wish(body, model=body.model, language=body.language, k=body.k)
    work = partial(pipeline.summarize, reviews, wish)
    return await reply_with_summary(request, call, lent, wish, work)


async def reply_with_summary(
    request: Request,
    call: Call,
    lent: Lent,
    wish: Wish,
    work: Callable[..., Awaitable[Answered]],
) -> Response:
    """Return a summary in the form that the request likes best."""

    async def finish(progress: Progress) -> Response:
        answered = await work(deadline=call.deadline, progress=progress)
        call.stages.update(answered.stages)
        call.headers["X-Model"] = answered.encoder.manifest.id
        call.headers["X-Model-SHA256"] = answered.encoder.sha256
        reply = await lent.engine.compute(shape, answered, wish)
        if preferred(request, (JSON, SSE, HTML)) == HTML:
            return Response(
                render(reply),
                media_type=HTML,
                headers={
                    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
                    "X-Content-Type-Options": "nosniff",
                },
            )
        return await json_reply(lent.engine, reply, numbers=0)

    return await reply_with_progress(request, call, finish)


def as_reviews(given: Sequence[str | GivenReview]) -> list[Review]:
    """Return reviews with an id each; the id of a plain text is its place."""
    return [
        Review(each, str(place))
        if isinstance(each, str)
        else Review(each.text, each.id, each.rating)
        for place, each in enumerate(given)
    ]


def as_wish(choices: Choices, *, model: str | None, language: str | None, k: int) -> Wish:
    """Return what the choices of a request mean.

    Raises:
        InvalidInput: the budget has no unit, or several.
    """
    given = {unit: getattr(choices.budget, unit) for unit in Unit}
    amounts = {unit: amount for unit, amount in given.items() if amount is not None}
    if len(amounts) != 1:
        raise InvalidInput(
            f"The budget names {len(amounts)} of words, sentences and tokens; name exactly one.",
            faults=(Fault("/budget", "must hold exactly one of words, sentences and tokens"),),
        )
    ((unit, amount),) = amounts.items()
    options = Options(
        strategy=Strategy(choices.strategy),
        distance=Distance(choices.distance),
        unit=unit,
        budget=amount,
        redundancy=choices.redundancy,
        min_support=choices.min_support,
        min_words=choices.min_sentence_words,
        max_words=choices.max_sentence_words,
        min_opinion=choices.min_opinion,
        radius=choices.radius,
    )
    return Wish(options, dict(choices.aspects), choices.split_sentiment, model, language, k)
