"""Turn events into the bodies that go out."""

from __future__ import annotations

from collections.abc import Sequence

from service.capabilities.generation.pipeline.events import Alternative, Token
from service.capabilities.generation.pipeline.generation import Generation, Origin
from service.web.readings import describe_reading


def shown(piece: bytes) -> str:
    """Return what a token says; U+FFFD for a part of a character."""
    return piece.decode("utf-8", "replace")


def describe_token(token: Token, *, with_top: int) -> dict[str, object]:
    """Return one token, with its alternatives where some were asked for."""
    described: dict[str, object] = {
        "index": token.index,
        "id": token.id,
        "text": token.text,
        "log_prob": token.log_prob,
        "top": [describe_alternative(each) for each in token.top] if with_top else None,
    }
    if token.context is not None:
        described |= {"context": token.context.index, "entropies": token.context.entropies}
    return described


def describe_alternative(each: Alternative) -> dict[str, object]:
    """Return a token that might have come."""
    return {"id": each.id, "token": shown(each.piece), "log_prob": each.log_prob}


def describe_origin(origin: Origin) -> dict[str, object]:
    """Return what an answer comes from."""
    return {
        "model": origin.decoder.manifest.id,
        "model_sha256": origin.decoder.sha256,
        "variant": origin.decoder.variant.name,
        "lossy": origin.decoder.variant.lossy,
        "graph": origin.graph,
        **describe_reading(origin.reading),
        "seed": origin.seed,
    }


def describe_usage(generation: Generation) -> dict[str, int]:
    """Return the tokens of prompts and texts."""
    prompt, completion = generation.origin.prompt_tokens, generation.completion_tokens
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def joined(tokens: Sequence[Token]) -> str:
    """Return the text of tokens."""
    return "".join(token.text for token in tokens)
