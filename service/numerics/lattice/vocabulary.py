"""Hold what the kernels know of a vocabulary, and the texts that they read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np

from service.numerics.dtypes import Bytes8, Ids32, Ids64, Vector32, Vector64
from service.numerics.lattice.linear import BY_CHARS, LARGEST_LOG_WEIGHT, LONGEST, UNKNOWN
from service.numerics.lattice.trie import Trie, build_trie

Scores: TypeAlias = Vector32 | Vector64

NO_BYTES = np.empty(0, dtype=np.int32)
MOST_PIECE_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Hold pieces and their scores.

    Attributes:
        trie: the pieces that a text can be cut into.
        scores: (v + 1,) float64, l of each id in nats; the last is that of an unknown character.
        best_scores: (v + 2,) by rank, one more than an id, as the original library's best path sees
            them and in the precision of its sums; -inf for rank 0, which is no piece.
        rules: (3,) int64, see `linear`.
        byte_ids: (256,) int32, ids of single bytes, or empty where unknown characters are fused.
        largest_score: the largest |l|.
    """

    trie: Trie
    scores: Vector64
    best_scores: Scores
    rules: Ids64
    byte_ids: Ids32
    largest_score: float

    @property
    def size(self) -> int:
        """Return the number of ids."""
        return len(self.scores) - 1

    @property
    def has_unknown(self) -> bool:
        """Return whether a character that no piece covers has an arc of its own."""
        return bool(self.rules[BY_CHARS])

    def weights(self, alpha: float) -> Vector64:
        """Return exp(α l) by rank, (v + 2,) float64.

        Rank 0 is no piece and weighs nothing, like an unknown character where it has no arc.
        """
        weights = np.zeros(len(self.scores) + 1)
        np.exp(alpha * self.scores, out=weights[1:])
        if not self.has_unknown:
            weights[-1] = 0.0
        return weights

    def log_weights(self, alpha: float) -> Vector64:
        """Return α l, (v + 1,) float64; -inf for an unknown character where it has no arc."""
        logs: Vector64 = alpha * self.scores
        if not self.has_unknown:
            logs[-1] = -math.inf
        return logs

    def fits_linear(self, alpha: float) -> bool:
        """Return whether every weight at this α is far enough from the ends of float64."""
        return alpha * self.largest_score <= LARGEST_LOG_WEIGHT


class Segments(NamedTuple):
    """Hold texts cut into segments that no piece crosses.

    A tuple like all that is made for every call: it costs half of what a frozen class does, which
    shows where one short text is asked for.

    Attributes:
        data: uint8, normalised bytes of all texts, one after another.
        bounds: (segments + 1,) int64, where each segment begins in `data`.
        fixed: (segments,) int32, the id of a segment that is one piece, -1 for a lattice.
        groups: (texts + 1,) int64, the first segment of each text.
    """

    data: Bytes8
    bounds: Ids64
    fixed: Ids32
    groups: Ids64

    @property
    def starts(self) -> Ids64:
        """Return where each text begins in `data`, and the end of the last."""
        return self.bounds[self.groups]

    def one(self, text: int) -> Segments:
        """Return one text alone."""
        first, last = int(self.groups[text]), int(self.groups[text + 1])
        begin, end = int(self.bounds[first]), int(self.bounds[last])
        return Segments(
            self.data[begin:end],
            self.bounds[first : last + 1] - begin,
            self.fixed[first:last],
            np.array([0, last - first], dtype=np.int64),
        )


# Views of these serve every usual request; they are never written to.
_LATTICES = np.full(4096, -1, np.int32)
_FIRSTS = np.arange(4097, dtype=np.int64)
_ONE = _LATTICES[:1], _FIRSTS[:2]


def one_each(texts: int) -> tuple[Ids32, Ids64]:
    """Return `fixed` and `groups` of texts that are one segment each."""
    if texts == 1:
        return _ONE
    if texts < len(_LATTICES):
        return _LATTICES[:texts], _FIRSTS[: texts + 1]
    return np.full(texts, -1, np.int32), np.arange(texts + 1, dtype=np.int64)


def make_vocabulary(
    keys: Sequence[bytes],
    ids: Ids32,
    scores: Vector64,
    *,
    unknown_id: int,
    unknown_score: float | None,
    byte_ids: Ids32 = NO_BYTES,
    best_scores: Scores | None = None,
) -> Vocabulary:
    """Return a vocabulary.

    Args:
        keys: bytes of each piece that a text can be cut into, distinct and not empty.
        ids: (len(keys),) the id of each.
        scores: (v,) l by id.
        unknown_id: id printed for unknown characters.
        unknown_score: l of an unknown character; None where there is no such arc, and every byte
            may begin a piece.
        byte_ids: printed for the bytes of an unknown character, where the model has them.
        best_scores: l by id as the original library's best path sees them, in the precision of its
            sums; None for `scores` in float64.
    """
    trie = build_trie(keys, ids)
    last = 0.0 if unknown_score is None else unknown_score
    rules = np.zeros(3, np.int64)
    rules[UNKNOWN] = unknown_id
    rules[BY_CHARS] = unknown_score is not None
    rules[LONGEST] = max(trie.longest, 4)
    whole = np.append(scores, last).astype(np.float64)
    known = scores if best_scores is None else best_scores
    best = np.full(len(known) + 2, -math.inf, known.dtype)
    best[1:-1], best[-1] = known, last
    largest = float(np.abs(whole).max())
    return Vocabulary(trie, whole, best, rules, byte_ids, largest)
