"""Write one text: logits in, tokens out, until it ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

from service.capabilities.generation.numerics.choosing import Chosen, Sampling, Stream, choose
from service.capabilities.generation.numerics.texts import TextStream
from service.capabilities.generation.pipeline.events import (
    Alternative,
    ContextUsed,
    Event,
    Finish,
    FinishReason,
    Token,
)
from service.numerics.dtypes import Matrix32, Vector32
from service.runtime.decoders.tokenizers import DecoderTokenizer

Publish = Callable[[Event | Exception], None]


class Law(Protocol):
    """Turn the logits of a job's rows into those that a token is chosen from."""

    def row(self, logits: Matrix32) -> tuple[Vector32, ContextUsed | None]:
        """Return (vocabulary,) logits, and the context that they came from."""
        ...

    def take(self, token_id: int) -> None:
        """Note which token was chosen."""
        ...


class OwnLaw:
    """Take the logits of the one row as they are."""

    def row(self, logits: Matrix32) -> tuple[Vector32, ContextUsed | None]:
        """Return the row."""
        row: Vector32 = logits[0]
        return row, None

    def take(self, token_id: int) -> None:
        """Need not know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """Say how every text of a request is written.

    Attributes:
        tokenizer: ids to bytes.
        ends: ids that end a text.
        sampling: how tokens are chosen.
        most: tokens of a text.
        stops: strings that end it.
    """

    tokenizer: DecoderTokenizer
    ends: Collection[int]
    sampling: Sampling
    most: int
    stops: tuple[str, ...]


class Writer:
    """Choose the tokens of one text and publish what comes of it.

    Args:
        manner: of every text of the request.
        choice: index of this one.
        stream: its random numbers.
        law: where logits come from.
        skip_bytes: bytes that are generated again and stand in the prompt already; tokens that end
            within them do not count towards the length.
        room: tokens that its job may add, those too.
        publish: takes events, and the error that ends it all; called in a worker's thread.
    """

    def __init__(
        self,
        manner: Manner,
        *,
        choice: int,
        stream: Stream,
        law: Law,
        skip_bytes: int,
        room: int,
        publish: Publish,
    ) -> None:
        self._manner = manner
        self._choice = choice
        self._stream = stream
        self._law = law
        self._publish = publish
        self._text = TextStream(manner.stops, skip_bytes=skip_bytes)
        self._special = frozenset(manner.tokenizer.special.values())
        self._counts: Counter[int] = Counter()
        self._room = room
        self._written = 0
        self._counted = 0

    def advance(self, logits: Matrix32) -> int | None:
        """Return the id that follows, or None once the text is at its end."""
        row, context = self._law.row(logits)
        chosen = choose(
            row,
            self._manner.sampling,
            self._stream.at(self._written),
            counts=self._counts,
        )
        self._law.take(chosen.id)
        self._counts[chosen.id] += 1
        piece = self._piece(chosen.id)
        again = 0 < len(piece) <= self._text.left_to_skip
        text = self._text.add(piece)
        self._written += 1
        self._counted += not again
        reason = self._reason(chosen.id)
        if reason is not None:
            text += self._text.finish()
        self._publish(self._token(chosen, piece, text, context))
        if reason is None:
            return chosen.id
        self._publish(Finish(self._choice, reason))
        return None

    def fail(self, error: Exception) -> None:
        """Publish the error that ends the job."""
        self._publish(error)

    def _piece(self, token_id: int) -> bytes:
        if token_id in self._special or token_id in self._manner.ends:
            return b""
        return self._manner.tokenizer.token_bytes(token_id)

    def _reason(self, token_id: int) -> FinishReason | None:
        if token_id in self._manner.ends or self._text.stop is not None:
            return FinishReason.STOP
        full = self._counted == self._manner.most or self._written == self._room
        return FinishReason.LENGTH if full else None

    def _token(self, chosen: Chosen, piece: bytes, text: str, context: ContextUsed | None) -> Token:
        return Token(
            choice=self._choice,
            index=self._written - 1,
            id=chosen.id,
            piece=piece,
            text=text,
            log_prob=chosen.log_prob,
            top=tuple(
                Alternative(token_id, self._piece(token_id), log_prob)
                for token_id, log_prob in chosen.top
            ),
            context=context,
        )
