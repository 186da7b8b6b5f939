"""Turn events into the bodies and chunks that OpenAI's clients read."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Protocol

from service.capabilities.generation.pipeline.events import Alternative, Token
from service.capabilities.generation.pipeline.generation import Generation, Origin
from service.capabilities.generation.replies import describe_usage, joined, shown

_ID_BYTES = 12
_FINGERPRINT = 12


class Form(Protocol):
    """Write one of OpenAI's two kinds of answer."""

    name: str
    chunk_name: str
    prefix: str

    def choice(
        self, index: int, tokens: Sequence[Token], *, before: str, reason: str
    ) -> dict[str, object]:
        """Return a finished text; `before` stands in front of it."""
        ...

    def opening(self, index: int, before: str) -> dict[str, object]:
        """Return what the first chunk of a text says."""
        ...

    def piece(
        self, index: int, tokens: Sequence[Token], *, reason: str | None
    ) -> dict[str, object]:
        """Return what a chunk adds to a text; the last one says why it ended."""
        ...


class Completions:
    """Write `/v1/completions`.

    Args:
        top: alternatives a token; None where no log probabilities were asked for.
    """

    name = chunk_name = "text_completion"
    prefix = "cmpl"

    def __init__(self, top: int | None) -> None:
        self._top = top
        self._offsets: dict[int, int] = {}

    def choice(
        self, index: int, tokens: Sequence[Token], *, before: str, reason: str
    ) -> dict[str, object]:
        """Return a finished text."""
        piece = self.piece(index, tokens, reason=reason)
        return piece | {"text": before + joined(tokens)}

    def opening(self, index: int, before: str) -> dict[str, object]:
        """Return what stands before the text."""
        return self.piece(index, [], reason=None) | {"text": before}

    def piece(
        self, index: int, tokens: Sequence[Token], *, reason: str | None
    ) -> dict[str, object]:
        """Return what a chunk adds to a text."""
        logprobs = None if self._top is None or not tokens else self._logprobs(index, tokens)
        return {
            "index": index,
            "text": joined(tokens),
            "finish_reason": reason,
            "logprobs": logprobs,
        }

    def _logprobs(self, index: int, tokens: Sequence[Token]) -> dict[str, object]:
        offsets = []
        for token in tokens:
            offsets.append(self._offsets.get(index, 0))
            self._offsets[index] = offsets[-1] + len(token.text)
        tops = [{shown(each.piece): each.log_prob for each in token.top} for token in tokens]
        return {
            "tokens": [shown(token.piece) for token in tokens],
            "token_logprobs": [token.log_prob for token in tokens],
            "top_logprobs": tops if self._top else None,
            "text_offset": offsets,
        }


class Chat:
    """Write `/v1/chat/completions`.

    Args:
        top: alternatives a token; None where no log probabilities were asked for.
    """

    name = "chat.completion"
    chunk_name = "chat.completion.chunk"
    prefix = "chatcmpl"

    def __init__(self, top: int | None) -> None:
        self._top = top

    def choice(
        self, index: int, tokens: Sequence[Token], *, before: str, reason: str
    ) -> dict[str, object]:
        """Return a finished turn."""
        message = {"role": "assistant", "content": before + joined(tokens), "refusal": None}
        return {
            "index": index,
            "message": message,
            "finish_reason": reason,
            "logprobs": self._logprobs(tokens),
        }

    def opening(self, index: int, before: str) -> dict[str, object]:
        """Return who speaks."""
        delta = {"role": "assistant", "content": before}
        return {"index": index, "delta": delta, "finish_reason": None, "logprobs": None}

    def piece(
        self, index: int, tokens: Sequence[Token], *, reason: str | None
    ) -> dict[str, object]:
        """Return what a chunk adds to a turn."""
        return {
            "index": index,
            "delta": {"content": joined(tokens)} if tokens else {},
            "finish_reason": reason,
            "logprobs": self._logprobs(tokens) if tokens else None,
        }

    def _logprobs(self, tokens: Sequence[Token]) -> dict[str, object] | None:
        if self._top is None:
            return None
        content = [
            {
                **_scored(token.piece, token.log_prob),
                "top_logprobs": [_of(each) for each in token.top],
            }
            for token in tokens
        ]
        return {"content": content, "refusal": None}


def _of(each: Alternative) -> dict[str, object]:
    return _scored(each.piece, each.log_prob)


def _scored(piece: bytes, log_prob: float) -> dict[str, object]:
    return {"token": shown(piece), "logprob": log_prob, "bytes": list(piece)}


def head(form: Form, origin: Origin, *, chunk: bool) -> dict[str, object]:
    """Return what every answer, or every chunk of one, begins with."""
    return {
        "id": f"{form.prefix}-{_digest(origin)}",
        "object": form.chunk_name if chunk else form.name,
        "created": 0,
        "model": origin.decoder.manifest.id,
        "system_fingerprint": origin.decoder.sha256[:_FINGERPRINT],
        "seed": origin.seed,
    }


def _digest(origin: Origin) -> str:
    """Return a digest of model, seed and prompts: an answer depends on its request alone."""
    parts = repr((origin.decoder.sha256, origin.seed, [list(ids) for ids in origin.prompts]))
    return blake2b(parts.encode(), digest_size=_ID_BYTES).hexdigest()


def whole_answer(
    form: Form,
    generation: Generation,
    texts: Sequence[tuple[Sequence[Token], str]],
    *,
    before: Sequence[str],
) -> dict[str, object]:
    """Return the body of an answer that is not streamed.

    Args:
        form: which of the two.
        generation: at its end.
        texts: tokens and finish reason of every choice.
        before: what stands in front of each.
    """
    choices = [
        form.choice(index, tokens, before=before[index], reason=reason)
        for index, (tokens, reason) in enumerate(texts)
    ]
    return {
        **head(form, generation.origin, chunk=False),
        "choices": choices,
        "usage": describe_usage(generation),
    }
