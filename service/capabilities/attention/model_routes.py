"""Answer `/v1/attention/score` and `/v1/attention/compare`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from service.capabilities.attention.model_pictures import draw_comparison
from service.capabilities.attention.model_schemas import (
    CompareReply,
    CompareRequest,
    ScoreReply,
    ScoreRequest,
)
from service.capabilities.attention.pipeline.comparing import Candidate, Compared, Comparison
from service.capabilities.attention.pipeline.room import AttentionRoom
from service.capabilities.attention.pipeline.scoring import Scored, ScoredText
from service.errors import Fault, InvalidInput
from service.numerics.dtypes import Progress, Vector64
from service.web.call import CurrentCall
from service.web.capability import CurrentLent, provide
from service.web.negotiation import JSON, PNG, SSE, SVG, preferred
from service.web.openapi import model_problems
from service.web.pictures import PICTURES, picture
from service.web.readings import describe_reading, reading_choice
from service.web.routing import ServiceRoute
from service.web.streaming import reply_with_progress
from service.web.wire import json_reply

if TYPE_CHECKING:
    from matplotlib.figure import Figure

router = APIRouter(route_class=ServiceRoute)
Room = Annotated[AttentionRoom, Depends(provide(AttentionRoom))]

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_TEXT = {"schema": {"type": "string"}}
_EVENTS: dict[str, Any] = {"content": {SSE: _TEXT}}
_SHOWN: dict[str, Any] = {"content": {SSE: _TEXT, PNG: _BINARY, SVG: _BINARY}}


@router.post(
    "/v1/attention/score",
    summary="Score texts with a language model",
    response_model=ScoreReply,
    responses={200: _EVENTS, **model_problems(409)},
)
async def score_texts(
    body: ScoreRequest, request: Request, call: CurrentCall, room: Room, lent: CurrentLent
) -> Response:
    """Return the negative log-likelihood of every token, perplexity, and bits a byte.

    Any variant of the model, under any position scheme and scale. A text that is longer than the
    scheme reaches is refused, unless `beyond_context` is `run`.
    """
    sources, pointers = _sources(body)
    choice = reading_choice(body.rope, body.scale, body.beyond_context)

    async def work(progress: Progress) -> Response:
        scored = await room.models.scoring.score(
            sources,
            pointers,
            model=body.model,
            variant=body.variant,
            choice=choice,
            deadline=call.deadline,
            progress=progress,
        )
        numbers = 4 * sum(len(each.nll) for each in scored.texts)
        return await json_reply(lent.engine, _describe_scored(scored, body), numbers=numbers)

    return await reply_with_progress(request, call, work)


@router.post(
    "/v1/attention/compare",
    summary="Compare variants of attention on one text",
    response_model=CompareReply,
    responses={200: _SHOWN, **model_problems(409)},
)
async def compare_variants(
    body: CompareRequest, request: Request, call: CurrentCall, room: Room, lent: CurrentLent
) -> Response:
    """Return what each variant costs and keeps: perplexity, KL to the first, cache bytes, entropy.

    As PNG or SVG the answer is a picture: entropy by layer, and the cache of each variant.
    """
    candidates = _candidates(body)

    async def work(progress: Progress) -> Response:
        found = await room.models.comparing.compare(
            body.text,
            candidates,
            model=body.model,
            deadline=call.deadline,
            progress=progress,
        )
        wanted = preferred(request, (JSON, *PICTURES, SSE))
        if wanted in PICTURES:
            return await picture(lent.engine, wanted, _drawing(found), width=10.0)
        numbers = 2 * len(found.text.ids) * len(found.variants)
        return await json_reply(lent.engine, _describe_comparison(found, body), numbers=numbers)

    return await reply_with_progress(request, call, work, offered=(JSON, *PICTURES, SSE))


def _sources(body: ScoreRequest) -> tuple[list[str | Sequence[int]], list[str]]:
    """Return the texts, and where they stand in the request.

    Raises:
        InvalidInput: not exactly one of text, texts and ids was given.
    """
    given = [name for name in ("text", "texts", "ids") if getattr(body, name) is not None]
    if len(given) != 1:
        raise InvalidInput(
            f"Exactly one of text, texts and ids is needed; {' and '.join(given) or 'none'} came.",
            faults=tuple(Fault(f"/{name}", "is one of several") for name in given),
        )
    if body.texts is not None:
        return list(body.texts), [f"/texts/{place}" for place in range(len(body.texts))]
    if body.ids is not None:
        return [body.ids], ["/ids"]
    assert body.text is not None  # the only one left
    return [body.text], ["/text"]


def _candidates(body: CompareRequest) -> list[Candidate]:
    found = []
    for place, each in enumerate(body.variants):
        pointer = f"/variants/{place}"
        choice = reading_choice(each.rope, each.scale, body.beyond_context, pointer=pointer)
        found.append(Candidate(each.variant, choice, pointer))
    return found


def _describe_scored(scored: Scored, body: ScoreRequest) -> dict[str, object]:
    decoder = scored.decoder
    return {
        "model": decoder.manifest.id,
        "model_sha256": decoder.sha256,
        "variant": decoder.variant.name,
        "lossy": decoder.variant.lossy,
        "count": sum(len(each.text.given) for each in scored.texts),
        "predicted": sum(len(each.nll) for each in scored.texts),
        **asdict(scored.likelihood),
        "results": [_describe_text(scored, each, body) for each in scored.texts],
    }


def _describe_text(scored: Scored, found: ScoredText, body: ScoreRequest) -> dict[str, object]:
    given, wanted = list(found.text.given), set(body.return_)
    before: list[None] = [] if found.text.marked else [None]
    spell = scored.decoder.tokenizer
    return {
        "count": len(given),
        "predicted": len(found.nll),
        **asdict(found.likelihood),
        "nll": _shown(before, found.nll) if "nll" in wanted else None,
        "entropy": _shown(before, found.entropy) if "entropy" in wanted else None,
        "tokens": [spell.decode([each]) for each in given] if "tokens" in wanted else None,
        "ids": given if "ids" in wanted else None,
        **describe_reading(found.reading),
    }


def _shown(before: list[None], values: Vector64) -> list[float | None]:
    """Return one entry a token: null for the first, unless a mark stands before it."""
    return [*before, *values.tolist()]


def _describe_comparison(found: Comparison, body: CompareRequest) -> dict[str, object]:
    given, spell = list(found.text.given), found.family.tokenizer
    tokens = [spell.decode([each]) for each in given] if "tokens" in body.return_ else None
    return {
        "model": found.family.manifest.id,
        "model_sha256": found.family.manifest.sha256,
        "count": len(given),
        "predicted": len(found.text.predicted),
        "tokens": tokens,
        "variants": [_describe_variant(found, each, body) for each in found.variants],
    }


def _describe_variant(found: Comparison, each: Compared, body: CompareRequest) -> dict[str, object]:
    before: list[None] = [] if found.text.marked else [None]
    return {
        "variant": each.variant.name,
        "formula": each.variant.formula,
        "lossy": each.variant.lossy,
        **describe_reading(each.reading),
        **asdict(each.likelihood),
        "kl": float(each.kl.mean()),
        "top1_agreement": each.agreement,
        "cache_bytes_per_token": each.cache_bytes_per_token,
        "entropy_by_layer": each.entropy_by_layer,
        "seconds": each.seconds,
        "nll_by_token": _shown(before, each.nll) if "nll" in body.return_ else None,
        "kl_by_token": _shown(before, each.kl) if "kl" in body.return_ else None,
    }


def _drawing(found: Comparison) -> Callable[[Figure], None]:
    def named(each: Compared) -> str:
        rope = each.reading.rope.name.value
        return each.variant.name if rope == "direct" else f"{each.variant.name}, {rope}"

    return draw_comparison(
        f"{found.family.manifest.id}, {len(found.text.given)} tokens",
        [named(each) for each in found.variants],
        entropies=[each.entropy_by_layer for each in found.variants],
        cache_bytes=[each.cache_bytes_per_token for each in found.variants],
        perplexities=[each.likelihood.perplexity for each in found.variants],
    )
