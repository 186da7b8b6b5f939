"""Answer `/v1/attention/generate` and `/v1/attention/nbce`."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Request, Response

from service.capabilities.generation.openai_routes import router as openai_router
from service.capabilities.generation.options import (
    GivenSampling,
    require_no_contradiction,
    sampling_of,
)
from service.capabilities.generation.pipeline.events import Finish, Token
from service.capabilities.generation.pipeline.generation import Generation
from service.capabilities.generation.pipeline.merging import Merging
from service.capabilities.generation.pipeline.prompts import Prompt, Source
from service.capabilities.generation.pipeline.room import Ask, GenerationRoom, PromptEnd
from service.capabilities.generation.replies import (
    describe_origin,
    describe_token,
    describe_usage,
    joined,
)
from service.capabilities.generation.schemas import (
    ChatMessage,
    GenerateReply,
    GenerateRequest,
    NbceReply,
    NbceRequest,
)
from service.errors import Fault, InvalidInput
from service.numerics.distributions.contexts import Pooling
from service.runtime.decoders.chat import Message
from service.web.call import Call, CurrentCall
from service.web.capability import provide
from service.web.events import EVENTS, EventStream, event_frame, problem_of
from service.web.negotiation import JSON, SSE, preferred
from service.web.openapi import model_problems
from service.web.readings import reading_choice
from service.web.routing import ServiceRoute
from service.web.wire import json_response

router = APIRouter(route_class=ServiceRoute)
router.include_router(openai_router)
CurrentRoom = Annotated[GenerationRoom, Depends(provide(GenerationRoom))]


@router.post(
    "/v1/attention/generate",
    summary="Continue a text or a conversation",
    response_model=GenerateReply,
    responses={200: EVENTS, **model_problems(409)},
)
async def generate_text(
    body: GenerateRequest, request: Request, call: CurrentCall, room: CurrentRoom
) -> Response:
    """Return a generated text with the likelihood of each of its tokens.

    The same request with the same seed gives the same tokens, whatever runs beside it. With
    `Accept: text/event-stream` the events are `token`, one each, then `usage` and `done`, or
    `error`. Who closes the connection stops the work.
    """
    given = GivenSampling(
        temperature=body.temperature,
        top_k=body.top_k,
        top_p=body.top_p,
        min_p=body.min_p,
        probability_map=body.probability_map,
        presence_penalty=body.presence_penalty,
        frequency_penalty=body.frequency_penalty,
        logit_bias=body.logit_bias,
        top_log_probs=body.top_log_probs,
    )
    require_no_contradiction(given)
    call.allow_long_work()
    prompt = _prompt(body)
    if body.heal_prefix and prompt.pointer == "/messages":
        raise InvalidInput(
            "heal_prefix opens the end of a text again, and the end of messages is the template's. "
            "Leave it out, or send text.",
            faults=(Fault("/heal_prefix", "stands beside messages"),),
        )
    end = PromptEnd.HEALED if body.heal_prefix else PromptEnd.AS_IT_IS
    ask = replace(_ask(body, [prompt], given, call, room), prompt_end=end)
    generation = await room.begin(ask)
    return await _answer(generation, request, call, with_top=body.top_log_probs)


@router.post(
    "/v1/attention/nbce",
    summary="Answer over contexts that are read apart",
    response_model=NbceReply,
    responses={200: EVENTS, **model_problems(409)},
)
async def generate_over_contexts(
    body: NbceRequest, request: Request, call: CurrentCall, room: CurrentRoom
) -> Response:
    """Return a text over several contexts, merged token by token as if they were independent.

    Each context is read with the question, and the question alone: together they may be longer
    than the model reads. Every token says which context it came from. Events as in `generate`.
    """
    given = GivenSampling(temperature=body.temperature, top_log_probs=body.top_log_probs)
    call.allow_long_work()
    rows = [(context + body.separator, f"/contexts/{i}") for i, context in enumerate(body.contexts)]
    prompts = [
        Prompt(_row(body, before + body.question), pointer)
        for before, pointer in [*rows, ("", "/question")]
    ]
    merging = Merging(body.beta, body.eta, body.top_p, Pooling(body.pooling))
    generation = await room.begin_merged(_ask(body, prompts, given, call, room), merging)
    return await _answer(generation, request, call, with_top=body.top_log_probs)


def _row(body: NbceRequest, text: str) -> Source:
    return text if body.form == "text" else [Message("user", text)]


def _ask(
    body: GenerateRequest | NbceRequest,
    prompts: list[Prompt],
    given: GivenSampling,
    call: Call,
    room: GenerationRoom,
) -> Ask:
    chats = not isinstance(prompts[-1].source, str) and isinstance(prompts[-1].source[0], Message)
    return Ask(
        prompts=prompts,
        model=body.model or (room.settings.chat_model if chats else None),
        variant=body.variant,
        choice=reading_choice(body.rope, body.scale, body.beyond_context),
        sampling=sampling_of(given),
        asked=body.max_tokens,
        stops=tuple(body.stop),
        seed=body.seed,
        deadline=call.deadline,
    )


def _prompt(body: GenerateRequest) -> Prompt:
    """Return what is continued.

    Raises:
        InvalidInput: not exactly one of text, messages and ids was given.
    """
    given = [name for name in ("text", "messages", "ids") if getattr(body, name) is not None]
    if len(given) != 1:
        raise InvalidInput(
            f"Exactly one of text, messages and ids is needed; {' and '.join(given) or 'none'} "
            "came.",
            faults=tuple(Fault(f"/{name}", "is one of several") for name in given),
        )
    if body.messages is not None:
        return Prompt(_messages(body.messages), "/messages")
    if body.ids is not None:
        return Prompt(body.ids, "/ids")
    assert body.text is not None  # the only one left
    return Prompt(body.text, "/text")


def _messages(given: list[ChatMessage]) -> list[Message]:
    return [Message(each.role, each.content) for each in given]


async def _answer(
    generation: Generation, request: Request, call: Call, *, with_top: int
) -> Response:
    if preferred(request, (JSON, SSE)) == SSE:
        frames = _frames(generation, call, with_top=with_top)
        return EventStream(frames, close=generation.close)
    tokens: list[Token] = []
    reason = ""
    try:
        async with aclosing(generation.events()) as events:
            async for event in events:
                if isinstance(event, Finish):
                    reason = event.reason.value
                    continue
                if not tokens:
                    call.stages["first_token"] = time.monotonic() - call.started
                tokens.append(event)
    finally:
        generation.close()
    return json_response(
        {
            **describe_origin(generation.origin),
            "text": joined(tokens),
            "finish_reason": reason,
            "usage": describe_usage(generation),
            "tokens": [describe_token(token, with_top=with_top) for token in tokens],
        }
    )


async def _frames(generation: Generation, call: Call, *, with_top: int) -> AsyncIterator[bytes]:
    reason = ""
    try:
        async with aclosing(generation.events()) as events:
            async for event in events:
                if isinstance(event, Finish):
                    reason = event.reason.value
                    continue
                yield _frame("token", describe_token(event, with_top=with_top))
    except Exception as error:  # noqa: BLE001 - the status is sent; the problem is the last event
        yield event_frame(problem_of(error, call.request_id), name="error")
        return
    yield _frame("usage", describe_usage(generation))
    yield _frame("done", {"finish_reason": reason, **describe_origin(generation.origin)})


def _frame(name: str, body: dict[str, Any]) -> bytes:
    return event_frame(orjson.dumps(body), name=name)
