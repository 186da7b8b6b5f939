"""Answer `/v1/completions` and `/v1/chat/completions`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Annotated

import orjson
from fastapi import APIRouter, Depends, Response

from service.capabilities.generation.openai_replies import (
    Chat,
    Completions,
    Form,
    head,
    whole_answer,
)
from service.capabilities.generation.openai_schemas import (
    ChatReply,
    ChatRequest,
    CompletionReply,
    CompletionRequest,
    OpenAIMessage,
)
from service.capabilities.generation.options import GivenSampling, sampling_of
from service.capabilities.generation.pipeline.events import Finish, Token
from service.capabilities.generation.pipeline.generation import Generation
from service.capabilities.generation.pipeline.prompts import Prompt
from service.capabilities.generation.pipeline.room import Ask, GenerationRoom, PromptEnd
from service.capabilities.generation.replies import describe_usage
from service.errors import Fault, InvalidInput
from service.runtime.decoders.chat import Message
from service.web.call import Call, CurrentCall
from service.web.capability import provide
from service.web.events import EVENTS, EventStream, event_frame, problem_of
from service.web.openapi import model_problems
from service.web.readings import reading_choice
from service.web.routing import ServiceRoute
from service.web.wire import json_response

router = APIRouter(route_class=ServiceRoute)
CurrentRoom = Annotated[GenerationRoom, Depends(provide(GenerationRoom))]
# OpenAI allows 0, which leaves the likeliest token; so does any share this small.
_LEAST_SHARE = 1e-9


@router.post(
    "/v1/completions",
    summary="Continue texts, as OpenAI's clients ask for it",
    response_model=CompletionReply,
    responses={200: EVENTS, **model_problems(409)},
)
async def create_completion(
    body: CompletionRequest, call: CurrentCall, room: CurrentRoom
) -> Response:
    """Return `n` texts for each prompt, or chunks of them as they come where `stream` is true."""
    if body.echo and body.logprobs is not None:
        raise InvalidInput(
            "logprobs cannot be given for a prompt that is echoed; leave echo out, or score the "
            "prompt with /v1/attention/score.",
            faults=(Fault("/echo", "stands beside logprobs"),),
        )
    prompts = _prompts(body)
    ask = _ask(body, prompts, body.max_tokens, call, top=body.logprobs, model=body.model)
    if body.heal_prefix:
        ask = replace(ask, prompt_end=PromptEnd.HEALED)
    generation = await room.begin(ask)
    before = [""] * (len(prompts) * ask.choices)
    if body.echo:
        spell = generation.origin.decoder.tokenizer.decode
        texts = [p.source if isinstance(p.source, str) else spell(ids)
                 for p, ids in zip(prompts, generation.origin.prompts, strict=True)]  # fmt: skip
        before = [text for text in texts for _ in range(ask.choices)]
    return await _answer(Completions(body.logprobs), generation, body, call, before)


@router.post(
    "/v1/chat/completions",
    summary="Continue a conversation, as OpenAI's clients ask for it",
    response_model=ChatReply,
    responses={200: EVENTS, **model_problems(409)},
)
async def create_chat_completion(
    body: ChatRequest, call: CurrentCall, room: CurrentRoom
) -> Response:
    """Return `n` next turns, or chunks of them as they come where `stream` is true.

    What stands in a message is text: the marks of the template in it never become marks.
    """
    if body.max_tokens is not None and body.max_completion_tokens is not None:
        raise InvalidInput(
            "max_tokens and max_completion_tokens say the same; send one of them.",
            faults=(Fault("/max_tokens", "stands beside max_completion_tokens"),),
        )
    if body.top_logprobs is not None and not body.logprobs:
        raise InvalidInput(
            "top_logprobs is read where logprobs is true; send both, or neither.",
            faults=(Fault("/top_logprobs", "stands without logprobs"),),
        )
    top = (body.top_logprobs or 0) if body.logprobs else None
    prompt = Prompt([_message(each) for each in body.messages], "/messages")
    asked = body.max_completion_tokens or body.max_tokens
    model = body.model or room.settings.chat_model
    ask = _ask(body, [prompt], asked, call, top=top, model=model)
    generation = await room.begin(ask)
    return await _answer(Chat(top), generation, body, call, [""] * ask.choices)


def _prompts(body: CompletionRequest) -> list[Prompt]:
    """Return every prompt with its place; a list of numbers is one prompt."""
    given = body.prompt
    if isinstance(given, str):
        return [Prompt(given, "/prompt")]
    ids = [each for each in given if isinstance(each, int)]
    if ids:
        return [Prompt(ids, "/prompt")]
    several = [each for each in given if not isinstance(each, int)]
    return [Prompt(each, f"/prompt/{place}") for place, each in enumerate(several)]


def _message(given: OpenAIMessage) -> Message:
    role = "system" if given.role == "developer" else given.role
    if isinstance(given.content, str):
        return Message(role, given.content)
    return Message(role, "".join(part.text for part in given.content))


def _ask(
    body: CompletionRequest | ChatRequest,
    prompts: Sequence[Prompt],
    asked: int | None,
    call: Call,
    *,
    top: int | None,
    model: str | None,
) -> Ask:
    if body.stream_options is not None and not body.stream:
        raise InvalidInput(
            "stream_options is read where stream is true; send both, or neither.",
            faults=(Fault("/stream_options", "stands without stream"),),
        )
    call.allow_long_work()
    given = GivenSampling(
        temperature=1.0 if body.temperature is None else body.temperature,
        top_k=body.top_k,
        top_p=None if body.top_p is None else max(_LEAST_SHARE, body.top_p),
        min_p=body.min_p,
        probability_map=body.probability_map,
        presence_penalty=body.presence_penalty or 0.0,
        frequency_penalty=body.frequency_penalty or 0.0,
        logit_bias=body.logit_bias or {},
        top_log_probs=top or 0,
    )
    return Ask(
        prompts=prompts,
        choices=body.n or 1,
        model=model,
        variant=body.variant,
        choice=reading_choice(body.rope, body.scale, body.beyond_context),
        sampling=sampling_of(given),
        asked=asked,
        stops=tuple(body.stop or ()),
        seed=body.seed,
        deadline=call.deadline,
    )


async def _answer(
    form: Form,
    generation: Generation,
    body: CompletionRequest | ChatRequest,
    call: Call,
    before: Sequence[str],
) -> Response:
    if body.stream:
        counted = body.stream_options is not None and body.stream_options.include_usage
        frames = _frames(form, generation, call, before, counted=counted)
        return EventStream(frames, close=generation.close)
    tokens: list[list[Token]] = [[] for _ in before]
    reasons = [""] * len(before)
    try:
        async with aclosing(generation.events()) as events:
            async for event in events:
                if isinstance(event, Finish):
                    reasons[event.choice] = event.reason.value
                else:
                    tokens[event.choice].append(event)
    finally:
        generation.close()
    texts = list(zip(tokens, reasons, strict=True))
    return json_response(whole_answer(form, generation, texts, before=before))


async def _frames(
    form: Form, generation: Generation, call: Call, before: Sequence[str], *, counted: bool
) -> AsyncIterator[bytes]:
    """Yield the chunks of every text, the count of tokens where it is asked for, and the end."""
    start = head(form, generation.origin, chunk=True) | ({"usage": None} if counted else {})
    begun: set[int] = set()
    try:
        async with aclosing(generation.events()) as events:
            async for event in events:
                index = event.choice
                if index not in begun:
                    begun.add(index)
                    opening = form.opening(index, before[index])
                    yield _frame({**start, "choices": [opening]})
                if isinstance(event, Finish):
                    piece = form.piece(index, [], reason=event.reason.value)
                else:
                    piece = form.piece(index, [event], reason=None)
                yield _frame({**start, "choices": [piece]})
    except Exception as error:  # noqa: BLE001 - the status is sent; the problem is the last event
        problem = orjson.loads(problem_of(error, call.request_id))
        yield _frame({"error": {"message": problem["detail"], **problem}})
        return
    if counted:
        yield _frame({**start, "choices": [], "usage": describe_usage(generation)})
    yield event_frame(b"[DONE]")


def _frame(body: dict[str, object]) -> bytes:
    return event_frame(orjson.dumps(body))
