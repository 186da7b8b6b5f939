"""Weigh the rows of pieces that a broken text may be the beginning of.

A *cover* of the removed bytes r is a row of pieces of which the last reaches the end of r or
crosses it. With a stem c that spells r[:s] and what the model says after it,

    C(c) = 1                                                            s = |r|
    C(c) = Σ p(w | c) over pieces w that begin with r[s:] and are longer
         + Σ p(w | c) C(c w) over pieces w that r[s:] begins with        s < |r|

is the chance that the text after c begins with r[s:], so that

    p(w | c, the text begins with r) = p(w | c) C(c w) / C(c)           C(c w) = 1 where w crosses

is exact. Stems form a tree. Only some of it is worth asking the model for: the heaviest stem
is opened first, p(stem) = Π p, until what is left unopened cannot matter.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from service.numerics.dtypes import Ids32, Logits, Vector64
from service.numerics.healing.pieces import Pieces, pieces_beyond, pieces_within
from service.numerics.healing.reopening import Reopened, Stem


@dataclass(frozen=True, slots=True)
class Ahead:
    """Hold what is known about the stems.

    Attributes:
        masses: log C of every stem that was opened, and 0 of those that reach the end.
        dropped: the largest share of all covers that stems left unopened can have, 0 to 1.
        asked: how many stems the model was asked about.
    """

    masses: Mapping[Stem, float]
    dropped: float
    asked: int


def branch(reopened: Reopened, pieces: Pieces, stem: Stem, place: int) -> tuple[Ids32, list[int]]:
    """Return the pieces that cross the end after a stem, and those that stay within.

    Args:
        reopened: what must be spelled.
        pieces: the vocabulary.
        stem: pieces chosen so far.
        place: bytes that they spell.
    """
    rest = reopened.removed[place:]
    within = pieces_within(pieces, rest)
    if reopened.stems is not None:
        within = [each for each in within if (*stem, each) in reopened.stems]
    return pieces_beyond(pieces, rest), within


class CoverSearch:
    """Open the heaviest stems, one answer of the model at a time.

    Args:
        reopened: what must be spelled.
        pieces: the vocabulary.
        tolerance: stop when unopened stems can hold no larger share of all covers.
        most: stop after so many stems.
    """

    def __init__(
        self, reopened: Reopened, pieces: Pieces, *, tolerance: float = 1e-3, most: int = 32
    ) -> None:
        self._reopened = reopened
        self._pieces = pieces
        self._tolerance = tolerance
        self._most = most
        self._heap: list[tuple[float, Stem, int]] = [(-0.0, (), 0)] if reopened.removed else []
        # log p(stem), and log Σ of the covers that were found under it, each apart
        self._found: list[float] = []
        self._opened: dict[Stem, tuple[float, dict[int, float]]] = {}
        self._whole: dict[Stem, float] = {}

    def wanted(self) -> Stem | None:
        """Return the stem after which the model is to be asked, or None when that is enough."""
        if not self._heap or len(self._opened) >= self._most:
            return None
        return None if self._dropped() <= self._tolerance else self._heap[0][1]

    def give(self, logits: Logits) -> None:
        """Take what the model says after the wanted stem: (v,) logits, of any precision."""
        weight, stem, place = heapq.heappop(self._heap)
        row = np.asarray(logits, np.float64)
        row = row - logsumexp(row)
        beyond, within = branch(self._reopened, self._pieces, stem, place)
        crossing = float(logsumexp(row[beyond])) if len(beyond) else -math.inf
        self._opened[stem] = crossing, {each: float(row[each]) for each in within}
        self._found.append(crossing - weight)
        for each in within:
            end, mass = place + len(self._pieces.texts[each]), float(row[each]) - weight
            if end == len(self._reopened.removed):
                self._whole[*stem, each] = 0.0
                self._found.append(mass)
            else:
                heapq.heappush(self._heap, (-mass, (*stem, each), end))

    def _dropped(self) -> float:
        left = [-weight for weight, _, _ in self._heap]
        if not left:
            return 0.0
        return float(np.exp(logsumexp(left) - logsumexp([*left, *self._found])))

    def ahead(self) -> Ahead:
        """Return log C of every stem, from the longest back to ()."""
        masses = dict(self._whole)
        for stem in sorted(self._opened, key=len, reverse=True):
            crossing, within = self._opened[stem]
            terms = [
                p + masses[*stem, each] for each, p in within.items() if (*stem, each) in masses
            ]
            masses[stem] = float(logsumexp([crossing, *terms]))
        known = {stem: mass for stem, mass in masses.items() if mass > -math.inf}
        return Ahead(known, self._dropped(), len(self._opened))


@dataclass(frozen=True, slots=True)
class Choice:
    """Hold what may come next.

    Attributes:
        ids: (k,) int32, rising.
        ahead: (k,) float64, log C after each; to be added to the model's logits.
    """

    ids: Ids32
    ahead: Vector64


class Healing:
    """Lead a generation through the removed bytes.

    Args:
        reopened: what must be spelled.
        pieces: the vocabulary.
        ahead: from a search; absent, every piece that fits is as likely as the model says among
            those that fit, whatever it leads to.
    """

    def __init__(self, reopened: Reopened, pieces: Pieces, *, ahead: Ahead | None = None) -> None:
        self._reopened = reopened
        self._pieces = pieces
        self._masses = ahead.masses if ahead is not None and () in ahead.masses else None
        self._stem: Stem = ()
        self._spelled = b""

    @property
    def over(self) -> bool:
        """Say whether all removed bytes are spelled, so that any piece may follow."""
        return len(self._spelled) >= len(self._reopened.removed)

    @property
    def surplus(self) -> bytes:
        """Return the bytes that the last piece added beyond the prompt."""
        return self._spelled[len(self._reopened.removed) :]

    def allowed(self) -> Choice:
        """Return the pieces that may come next; not to be asked when it is over."""
        place = len(self._spelled)
        beyond, within = branch(self._reopened, self._pieces, self._stem, place)
        weights = {each: self._mass((*self._stem, each)) for each in within}
        inner = np.array([each for each in within if weights[each] > -math.inf], np.int32)
        ids = np.concatenate([beyond, inner])
        ahead = np.zeros(len(ids))
        ahead[len(beyond) :] = [weights[int(each)] for each in inner]
        order = np.argsort(ids)
        return Choice(ids[order], ahead[order])

    def _mass(self, stem: Stem) -> float:
        return 0.0 if self._masses is None else self._masses.get(stem, -math.inf)

    def weigh(self, logits: Logits) -> Vector64:
        """Return logits under which only what may come next has a chance; (v,) float64."""
        choice = self.allowed()
        row = np.full(len(logits), -math.inf)
        row[choice.ids] = logits[choice.ids] + choice.ahead
        return row

    def advance(self, chosen: int) -> None:
        """Take the piece that was chosen.

        Raises:
            ValueError: the piece does not fit.
        """
        text = self._pieces.texts[chosen]
        rest = self._reopened.removed[len(self._spelled) :]
        if not text or not (rest.startswith(text) or text.startswith(rest)):
            message = f"piece {chosen} ({text!r}) does not fit {rest!r}"
            raise ValueError(message)
        self._stem = (*self._stem, chosen)
        self._spelled += text
