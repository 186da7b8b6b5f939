"""Tokenize as SentencePiece does, Unigram or BPE."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from service.errors import InvalidInput
from service.numerics.dtypes import Bytes8, Ids32, Vector64
from service.numerics.lattice.normaliser import NO_ORIGINS, Normalised, make_normaliser, normalise
from service.numerics.lattice.paths import Paths
from service.numerics.lattice.trie import Trie, build_trie
from service.numerics.lattice.vocabulary import Segments, Vocabulary, make_vocabulary, one_each
from service.runtime.tokenizers.base import Dropout, Kind, PieceTokenizer, Prepared
from service.runtime.tokenizers.merges import MergeTable, merge_texts, spell_merges
from service.runtime.tokenizers.piece_model import (
    BPE_MODEL,
    BYTE,
    CONTROL,
    NORMAL,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    PieceModel,
)

_UNKNOWN_PENALTY = np.float32(10.0)
_USER_BONUS = 0.1
_SPACE_MARK = "\u2581"


class SentencePiece(PieceTokenizer):
    """Hold one SentencePiece model.

    Args:
        model: what its file says.
    """

    family = "sentencepiece"

    def __init__(self, model: PieceModel) -> None:
        self.kind = Kind.BPE if model.model_type == BPE_MODEL else Kind.UNIGRAM
        self._model = model
        self.vocabulary = _vocabulary(model)
        self._normaliser = make_normaliser(
            model.table, model.strings, kept=_user_defined(model), rules=model.spaces
        )
        self._merges: MergeTable | None = None
        if self.kind is Kind.BPE:
            self._merges = _merge_table(model)

    def prepare(
        self, texts: Sequence[str], *, aligned: bool = False, open_ended: bool = False
    ) -> Prepared:
        """Return normalised texts; each is one segment."""
        data, bounds = join_texts(texts)
        found = normalise(self._normaliser, data, bounds, aligned=aligned, keep_trailing=open_ended)
        segments = Segments(found.data, found.bounds, *one_each(len(texts)))
        if not aligned:
            return Prepared(segments, NO_ORIGINS, NO_ORIGINS)
        return Prepared(segments, *_spans(found))

    def best(self, prepared: Prepared) -> Paths:
        """Return the library's own segmentation."""
        if self._merges is None:
            return super().best(prepared)
        none = Dropout(0.0, 1, np.zeros(2, np.uint64), np.zeros(0, np.uint64))
        return self.drop_merges(prepared, none)

    def drop_merges(self, prepared: Prepared, dropout: Dropout) -> Paths:
        """Return segmentations in which merges were passed over."""
        if self._merges is None:
            return super().drop_merges(prepared, dropout)
        return merge_texts(self.vocabulary, self._merges, prepared.segments, dropout)

    def piece(self, piece_id: int) -> str:
        """Return a piece, spaces written as U+2581."""
        return self._model.pieces[piece_id].decode()

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text; control pieces are silent, bytes that form no character are U+FFFD."""
        model = self._model
        parts: list[bytes] = []
        for piece_id in ids:
            kind = model.types[piece_id]
            if kind == UNKNOWN:
                parts.append(model.unknown_surface.encode())
            elif kind == BYTE:
                parts.append(bytes([int(model.pieces[piece_id][3:5], 16)]))
            elif kind != CONTROL:
                parts.append(model.pieces[piece_id])
        mark = _SPACE_MARK.encode()
        if parts and model.spaces.add_prefix and parts[0].startswith(mark):
            parts[0] = parts[0].removeprefix(mark)  # the space that normalising had added
        text = b"".join(parts).decode("utf-8", "replace")
        return text.replace(_SPACE_MARK, " ") if model.spaces.escape else text


def join_texts(texts: Sequence[str]) -> tuple[Bytes8, np.ndarray]:
    """Return UTF-8 texts one after another, (bytes,) uint8, and where each begins, (n + 1,)."""
    if len(texts) == 1:
        alone = bytearray(texts[0], "utf-8")
        return np.frombuffer(alone, dtype=np.uint8), np.array((0, len(alone)), np.int64)
    raw = [text.encode() for text in texts]
    bounds = np.zeros(len(raw) + 1, np.int64)
    np.cumsum([len(each) for each in raw], out=bounds[1:])
    return np.frombuffer(bytearray().join(raw), dtype=np.uint8), bounds


def _spans(found: Normalised) -> tuple[Ids32, Ids32]:
    """Return the first original byte of each normalised one, and the one after its last."""
    size, texts = len(found.data), len(found.bounds) - 1
    # The origins of text j stand j places behind its bytes: each text has one more, for its end.
    owner = np.repeat(np.arange(texts), np.diff(found.bounds))
    places = np.arange(size) + owner
    return found.origins[places], found.origins[places + 1]


def _vocabulary(model: PieceModel) -> Vocabulary:
    normal = model.types == NORMAL
    user = model.types == USER_DEFINED
    ids = np.flatnonzero(normal | user).astype(np.int32)
    scores = model.scores.astype(np.float64)
    best = scores.copy()
    if model.model_type == BPE_MODEL:  # scores of BPE are ranks: no law over segmentations
        scores[:] = 0.0
        unknown = 0.0
    else:
        known = model.scores[normal]
        lowest = np.float32(known.min() if len(known) else 0.0)
        # The library starts its search for the highest score just above zero, and log
        # probabilities stay below: a user-defined piece is nearly free however long it is.
        highest = max(0.0, float(known.max())) if len(known) else 0.0
        unknown = float(lowest - _UNKNOWN_PENALTY)
        for piece_id in np.flatnonzero(user).tolist():
            piece = model.pieces[piece_id]
            best[piece_id] = len(piece) * highest - _USER_BONUS
            scores[piece_id] = len(piece.decode()) * highest - _USER_BONUS
    scores[~(normal | user)] = 0.0
    return make_vocabulary(
        [model.pieces[each] for each in ids.tolist()],
        ids,
        scores,
        unknown_id=model.unknown_id,
        unknown_score=unknown,
        byte_ids=model.byte_ids,
        best_scores=best.astype(np.float32),
    )


def _user_defined(model: PieceModel) -> Trie:
    ids = np.flatnonzero(model.types == USER_DEFINED).astype(np.int32)
    return build_trie([model.pieces[each] for each in ids.tolist()], ids)


def _merge_table(model: PieceModel) -> MergeTable:
    if (model.types == UNUSED).any():
        raise InvalidInput(
            "The model marks pieces as unused, which is not supported for BPE. "
            "Train or convert it without them."
        )
    scores: Vector64 = model.scores.astype(np.float64)
    normal = np.flatnonzero(model.types == NORMAL).tolist()
    return spell_merges(
        {model.pieces[each].decode(): each for each in normal},
        ranks={each: -float(scores[each]) for each in normal},
        frozen={
            model.pieces[each].decode(): each
            for each in np.flatnonzero(model.types == USER_DEFINED).tolist()
        },
        first_free_id=len(model.pieces),
    )
