"""Name what happens while texts are generated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class FinishReason(StrEnum):
    """Say why a text ended: the model or a stop string ended it, or it has its length."""

    STOP = "stop"
    LENGTH = "length"


@dataclass(frozen=True, slots=True)
class Alternative:
    """Hold a token that might have come.

    Attributes:
        id: its id.
        piece: its bytes.
        log_prob: nats.
    """

    id: int
    piece: bytes
    log_prob: float


@dataclass(frozen=True, slots=True)
class ContextUsed:
    """Say which context a token came from.

    Attributes:
        index: of the context, None where all were pooled.
        entropies: of every context's distribution, in nats.
    """

    index: int | None
    entropies: Sequence[float]


@dataclass(frozen=True, slots=True)
class Token:
    """Hold one generated token.

    Attributes:
        choice: index of its text.
        index: its place in it, from 0.
        id: its id.
        piece: its bytes; empty for one that is no text.
        text: what it releases: whole characters that cannot belong to a stop string.
        log_prob: nats that the model gives it.
        top: the likeliest tokens in its place.
        context: where contexts are merged.
    """

    choice: int
    index: int
    id: int
    piece: bytes
    text: str
    log_prob: float
    top: tuple[Alternative, ...]
    context: ContextUsed | None


@dataclass(frozen=True, slots=True)
class Finish:
    """Tell that a text is at its end.

    Attributes:
        choice: index of the text.
        reason: why.
    """

    choice: int
    reason: FinishReason


Event = Token | Finish
