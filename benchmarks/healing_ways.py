"""Ways to continue a prompt that breaks off, over any causal model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from service.numerics.healing.covers import CoverSearch, Healing
from service.numerics.healing.pieces import Pieces
from service.numerics.healing.reopening import Reopened, reopen

# Bytes after the cut that are compared beside the rest of the word.
FURTHER = 12
Past: TypeAlias = Any
Row: TypeAlias = npt.NDArray[np.float32]


class Language(Protocol):
    """A causal model, read piece by piece."""

    @property
    def pieces(self) -> Pieces:
        """Return the bytes of every id."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text."""

    def read(self, ids: Sequence[int], past: Past | None) -> tuple[Row, Past]:
        """Return the logits after the last id, and the past for what follows."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Hold a prompt that breaks off, and what is to come after it."""

    source: str
    ids: tuple[int, ...]
    word: bytes
    further: bytes


def text_of(language: Language, ids: Sequence[int]) -> bytes:
    return b"".join(language.pieces.texts[each] for each in ids)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Hold what followed a prompt, and what it took."""

    text: bytes
    asked: int
    dropped: float


class Readings:
    """Remember what the model said after each row of ids of one prompt: ways share most of them.

    Attributes:
        runs: of the model, so far.
    """

    def __init__(self, language: Language) -> None:
        self._language = language
        self._known: dict[tuple[int, ...], tuple[Row, Past]] = {}
        self.runs = 0

    def after(self, ids: Sequence[int]) -> Row:
        """Return the logits after the last id."""
        row = tuple(ids)
        if row not in self._known:
            start = next((at for at in range(len(row) - 1, 0, -1) if row[:at] in self._known), 0)
            past = self._known[row[:start]][1] if start else None
            self._known[row] = self._language.read(row[start:], past)
            self.runs += 1
        return self._known[row][0]


def plain(language: Language, said: Readings, cut: Cut) -> Outcome:
    """Continue the prompt as it is."""
    return _go_on(language, said, cut, len(cut.ids), None)


def one_token(language: Language, said: Readings, cut: Cut) -> Outcome:
    """Take the last token back and let one follow that begins with its bytes."""
    last, kept = cut.ids[-1], len(cut.ids) - 1
    again = Reopened(kept, language.pieces.texts[last], frozenset([(), (last,)]))
    return _go_on(language, said, cut, kept, Healing(again, language.pieces))


def masked(language: Language, said: Readings, cut: Cut) -> Outcome:
    """Take back all that is open; weigh what fits by the model alone."""
    found = reopen(cut.ids, language.pieces, encode=language.encode)
    return _go_on(language, said, cut, found.kept, Healing(found, language.pieces))


def covers(language: Language, said: Readings, cut: Cut) -> Outcome:
    """Weigh what fits by the covers it leads to, as the tokenizer writes them."""
    found = reopen(cut.ids, language.pieces, encode=language.encode)
    return _covered(language, said, cut, found)


def any_covers(language: Language, said: Readings, cut: Cut) -> Outcome:
    """Weigh what fits by all covers that it leads to."""
    return _covered(language, said, cut, reopen(cut.ids, language.pieces))


def _covered(language: Language, said: Readings, cut: Cut, found: Reopened) -> Outcome:
    search = CoverSearch(found, language.pieces)
    while (stem := search.wanted()) is not None:
        search.give(said.after([*cut.ids[: found.kept], *stem]))
    ahead = search.ahead()
    healing = Healing(found, language.pieces, ahead=ahead)
    outcome = _go_on(language, said, cut, found.kept, healing)
    return Outcome(outcome.text, ahead.asked, ahead.dropped)


def _go_on(
    language: Language, said: Readings, cut: Cut, kept: int, healing: Healing | None
) -> Outcome:
    """Continue greedily until the text is long enough, or is not the one that was looked for."""
    ids, written = [*cut.ids[:kept]], b""
    while len(written) < FURTHER and cut.further.startswith(written):
        row = said.after(ids)
        if healing is not None and not healing.over:
            ids.append(int(healing.weigh(row).argmax()))
            healing.advance(ids[-1])
            written = healing.surplus
        else:
            ids.append(int(row.argmax()))
            written += language.pieces.texts[ids[-1]]
        if not language.pieces.texts[ids[-1]]:
            break
    return Outcome(written, 0, 0.0)


WAYS: dict[str, Callable[[Language, Readings, Cut], Outcome]] = {
    "plain": plain,
    "one token": one_token,
    "masked": masked,
    "covers": covers,
    "any covers": any_covers,
}
