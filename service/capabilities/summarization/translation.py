"""Translate between the wire and the room, for requests with reviews and for stored sets alike."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from fastapi import Request, Response

from service.capabilities.summarization.corpus import Review
from service.capabilities.summarization.numerics.manifold import Distance
from service.capabilities.summarization.options import Options, Strategy, Unit
from service.capabilities.summarization.page import CONTENT_SECURITY_POLICY, render
from service.capabilities.summarization.pipeline import Answered, Wish
from service.capabilities.summarization.schemas import Choices, GivenReview
from service.capabilities.summarization.shaping import shape
from service.numerics.dtypes import Progress
from service.web.call import Call
from service.web.capability import Lent
from service.web.negotiation import HTML, JSON, SSE, preferred
from service.web.streaming import reply_with_progress
from service.web.wire import json_reply

SUMMARY_ANSWER: dict[str, Any] = {
    "content": {
        HTML: {"schema": {"type": "string"}},
        SSE: {"schema": {"type": "string"}},
    },
}


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
    """Return what the choices of a request mean."""
    ((unit, amount),) = choices.budget.model_dump(exclude_unset=True).items()
    options = Options(
        strategy=Strategy(choices.strategy),
        distance=Distance(choices.distance),
        unit=Unit(unit),
        budget=amount,
        redundancy=choices.redundancy,
        min_support=choices.min_support,
        min_words=choices.min_sentence_words,
        max_words=choices.max_sentence_words,
        min_opinion=choices.min_opinion,
        radius=choices.radius,
    )
    return Wish(options, dict(choices.aspects), choices.split_sentiment, model, language, k)
