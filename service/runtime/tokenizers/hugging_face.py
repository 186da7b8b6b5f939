"""Tokenize as a `tokenizer.json` says: Unigram, BPE or WordPiece.

Normalising and cutting into words is left to the library itself: its model is replaced by one that
spells every word in bytes, so that one call gives the words, their bytes, and the place in the
original text of each of them. What follows, the choice of pieces, is ours.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import numpy as np
from tokenizers import Encoding, Tokenizer

from service.errors import InvalidInput
from service.numerics.dtypes import Ids32
from service.numerics.lattice.normaliser import NO_ORIGINS
from service.numerics.lattice.paths import Paths, longest_paths
from service.numerics.lattice.vocabulary import NO_BYTES, Segments, Vocabulary, make_vocabulary
from service.runtime.tokenizers.base import Dropout, Kind, PieceTokenizer, Prepared
from service.runtime.tokenizers.limits import MOST_PIECES, check_pieces, check_scores
from service.runtime.tokenizers.merges import MergeTable, make_table, merge_texts

_BYTES = 256
_UNKNOWN_PENALTY = 10.0
# Stands before a word of WordPiece in the trie: its first piece and those that continue it are then
# different keys of one trie.
_WORD_START = b"\x01"
_KINDS = {"Unigram": Kind.UNIGRAM, "BPE": Kind.BPE, "WordPiece": Kind.WORDPIECE}


class HuggingFace(PieceTokenizer):
    """Hold one `tokenizer.json`.

    Args:
        content: the file.

    Raises:
        InvalidInput: it is no such file, or its model is of another kind.
    """

    family = "huggingface"

    def __init__(self, content: bytes) -> None:
        described = _read(content)
        self._tokenizer = _open(content.decode())
        self._splitter = _open(json.dumps(_byte_speller(described)))
        model = described["model"]
        self.kind = _KINDS[model["type"]]
        added = _added_ids(described, self._tokenizer)
        self._real_ids = {
            int(self._splitter.token_to_id(text) or 0): piece_id for text, piece_id in added.items()
        }
        self._merges: MergeTable | None = None
        self._suffix = ""
        self._most_characters = 0
        self._prefix = str(model.get("continuing_subword_prefix") or "##").encode()
        size = max(_largest_id(model), *added.values(), 0) + 1
        if self.kind is Kind.UNIGRAM:
            self.vocabulary = _unigram(model, size)
        elif self.kind is Kind.BPE:
            self.vocabulary, self._merges = _bpe(model, size)
            self._suffix = model.get("end_of_word_suffix") or ""
        else:
            self.vocabulary = _wordpiece(model, size)
            self._most_characters = int(model.get("max_input_chars_per_word", 100))
        self._unknown = int(self.vocabulary.rules[0])

    def prepare(
        self,
        texts: Sequence[str],
        *,
        aligned: bool = False,
        open_ended: bool = False,  # noqa: ARG002 - the file's normaliser is used as it is
    ) -> Prepared:
        """Return the words of every text, as the library normalises and splits it."""
        # the fast call leaves the numbers of the words out
        with guarded("The tokenizer failed on a text"):
            encodings = self._splitter.encode_batch(list(texts), add_special_tokens=False)
        words = _Words()
        for text, encoding in zip(texts, encodings, strict=True):
            self._add_text(words, text, encoding, aligned=aligned)
        return words.finish(aligned=aligned)

    def best(self, prepared: Prepared) -> Paths:
        """Return the library's own segmentation."""
        if self.kind is Kind.WORDPIECE:
            return longest_paths(self.vocabulary, prepared.segments)
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
        """Return a piece as the file spells it."""
        return str(self._tokenizer.id_to_token(piece_id) or "")

    def spell(self, piece: str | int) -> bytes:
        """Return the bytes of normalised text that a piece stands for."""
        spelled = super().spell(piece)
        if self.kind is not Kind.WORDPIECE:
            return spelled
        if spelled.startswith(self._prefix):
            return spelled[len(self._prefix) :]
        return _WORD_START + spelled

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text, as the file's decoder puts it together."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))

    def _add_text(self, words: _Words, text: str, encoding: Encoding, *, aligned: bool) -> None:
        ids = encoding.ids
        numbers = encoding.word_ids
        places = _byte_places(text, encoding) if aligned else None
        begin = 0
        for end in range(1, len(ids) + 1):
            if end < len(ids) and numbers[end] == numbers[begin] and ids[end] < _BYTES:
                continue
            span = None if places is None else (places[0][begin:end], places[1][begin:end])
            self._add_word(words, ids[begin:end], span)
            begin = end
        words.end_text()

    def _add_word(self, words: _Words, ids: list[int], span: tuple[Ids32, Ids32] | None) -> None:
        if ids[0] >= _BYTES:
            words.add(b"\0", self._real_ids[ids[0]], span)
            return
        raw = bytes(ids)
        if self.kind is Kind.WORDPIECE:
            words.add(_WORD_START + raw, self._whole_word(raw), _after(span, before=1))
        elif self._suffix:
            suffix = self._suffix.encode()
            words.add(raw + suffix, -1, _after(span, behind=len(suffix)))
        else:
            words.add(raw, -1, span)

    def _whole_word(self, raw: bytes) -> int:
        """Return the unknown id for a word that WordPiece does not cut, -1 for any other."""
        if len(raw.decode()) > self._most_characters:
            return self._unknown
        return -1


class _Words:
    """Collect words into segments."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._bounds = [0]
        self._fixed: list[int] = []
        self._groups = [0]
        self._spans: list[tuple[Ids32, Ids32]] = [(NO_ORIGINS, NO_ORIGINS)]

    def add(self, raw: bytes, fixed: int, span: tuple[Ids32, Ids32] | None) -> None:
        self._data += raw
        self._bounds.append(len(self._data))
        self._fixed.append(fixed)
        if span is not None:
            self._spans.append(span)

    def end_text(self) -> None:
        self._groups.append(len(self._fixed))

    def finish(self, *, aligned: bool) -> Prepared:
        segments = Segments(
            np.frombuffer(self._data, dtype=np.uint8),
            np.array(self._bounds, np.int64),
            np.array(self._fixed, np.int32),
            np.array(self._groups, np.int64),
        )
        if not aligned:
            return Prepared(segments, NO_ORIGINS, NO_ORIGINS)
        starts = np.concatenate([span[0] for span in self._spans])
        stops = np.concatenate([span[1] for span in self._spans])
        return Prepared(segments, starts, stops)


def _after(
    span: tuple[Ids32, Ids32] | None, *, before: int = 0, behind: int = 0
) -> tuple[Ids32, Ids32] | None:
    """Return the places of a word with marks before or behind it, which stand for no text."""
    if span is None:
        return None
    starts, stops = span
    first, last = np.repeat(starts[:1], before), np.repeat(stops[-1:], behind)
    return np.concatenate([first, starts, last]), np.concatenate([first, stops, last])


def _byte_places(text: str, encoding: Encoding) -> tuple[Ids32, Ids32]:
    """Return the original bytes, first and behind the last, of each id."""
    lengths = [len(character.encode()) for character in text]
    at = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
    spans = np.array(encoding.offsets, np.int64).reshape(-1, 2)
    return at[spans[:, 0]].astype(np.int32), at[spans[:, 1]].astype(np.int32)


@contextmanager
def guarded(failed: str) -> Iterator[None]:
    """Turn whatever the library raises into a refusal.

    Its bare exceptions say what is wrong with a file; a panic is no `Exception` at all.
    """
    try:
        yield
    except BaseException as error:
        if isinstance(error, (KeyboardInterrupt, SystemExit, GeneratorExit)):
            raise
        raise InvalidInput(f"{failed}: {str(error)[:200]}.") from error


def _read(content: bytes) -> dict[str, Any]:
    try:
        described = json.loads(content)
    except (ValueError, RecursionError) as error:
        _refuse(f"it is not JSON ({str(error)[:100]})")
    if not isinstance(described, dict) or not isinstance(described.get("model"), dict):
        _refuse("it has no model")
    model = described["model"]
    if model.get("type") not in _KINDS:
        _refuse(f"its model is {model.get('type')!r:.40}; {', '.join(_KINDS)} are read")
    if model["type"] == "BPE" and model.get("continuing_subword_prefix"):
        _refuse("BPE with a continuing_subword_prefix is not supported")
    return described


def _open(text: str) -> Tokenizer:
    with guarded("The file is no tokenizer.json that can be used"):
        tokenizer = Tokenizer.from_str(text)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _byte_speller(described: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same tokenizer with a model that spells every word in bytes, ids 0 to 255."""
    return {
        **described,
        "truncation": None,
        "padding": None,
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "BPE",
            "vocab": {f"<0x{byte:02X}>": byte for byte in range(_BYTES)},
            "merges": [],
            "byte_fallback": True,
        },
    }


def _added_ids(described: Mapping[str, Any], tokenizer: Tokenizer) -> dict[str, int]:
    texts = [str(each["content"]) for each in described.get("added_tokens") or []]
    return {text: int(tokenizer.token_to_id(text) or 0) for text in texts}


def _largest_id(model: Mapping[str, Any]) -> int:
    vocabulary = model.get("vocab")
    if isinstance(vocabulary, list):
        return len(vocabulary) - 1
    if not isinstance(vocabulary, dict) or not vocabulary:
        _refuse("its vocabulary is empty")
    ids = [int(each) for each in vocabulary.values()]
    if min(ids) < 0 or max(ids) >= 2 * MOST_PIECES:
        _refuse(f"its ids go from {min(ids)} to {max(ids)}")
    return max(ids)


def _byte_ids(vocabulary: Mapping[str, int], model: Mapping[str, Any]) -> Ids32:
    names = [f"<0x{byte:02X}>" for byte in range(_BYTES)]
    if not model.get("byte_fallback") or any(name not in vocabulary for name in names):
        return NO_BYTES
    return np.array([vocabulary[name] for name in names], np.int32)


def _unigram(model: Mapping[str, Any], size: int) -> Vocabulary:
    pieces = [str(piece) for piece, _ in model["vocab"]]
    keys = [piece.encode() for piece in pieces]
    check_pieces(keys)
    check_scores([float(score) for _, score in model["vocab"]])
    scores = np.zeros(size, np.float64)
    scores[: len(keys)] = [float(score) for _, score in model["vocab"]]
    unknown_id = model.get("unk_id")
    if unknown_id is not None and not 0 <= int(unknown_id) < len(keys):
        _refuse(f"its unknown id {unknown_id} is none of its {len(keys)} pieces")
    ids = np.array([each for each in range(len(keys)) if each != unknown_id], np.int32)
    lowest = float(scores[: len(keys)].min())
    by_piece = {piece: number for number, piece in enumerate(pieces)}
    return make_vocabulary(
        [keys[each] for each in ids.tolist()],
        ids,
        scores,
        unknown_id=-1 if unknown_id is None else int(unknown_id),
        unknown_score=None if unknown_id is None else lowest - _UNKNOWN_PENALTY,
        byte_ids=_byte_ids(by_piece, model),
    )


def _bpe(model: Mapping[str, Any], size: int) -> tuple[Vocabulary, MergeTable]:
    pieces: dict[str, int] = model["vocab"]
    check_pieces([piece.encode() for piece in pieces])
    unknown = model.get("unk_token")
    vocabulary = _unscored(
        {piece.encode(): piece_id for piece, piece_id in pieces.items() if piece != unknown},
        size,
        unknown_id=-1 if unknown is None else pieces[unknown],
        by_chars=unknown is not None or bool(model.get("byte_fallback")),
        byte_ids=_byte_ids(pieces, model),
    )
    merges: dict[tuple[int, int], tuple[float, int]] = {}
    for rank, merge in enumerate(model["merges"]):
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        merges[pieces[left], pieces[right]] = (float(rank), pieces[left + right])
    suffix = model.get("end_of_word_suffix") or ""
    symbols = {
        piece: piece_id
        for piece, piece_id in pieces.items()
        if len(piece.removesuffix(suffix)) == 1
    }
    whole = pieces if model.get("ignore_merges") else {}
    return vocabulary, make_table(symbols, merges, whole=whole, suffix=suffix)


def _wordpiece(model: Mapping[str, Any], size: int) -> Vocabulary:
    pieces: dict[str, int] = model["vocab"]
    check_pieces([piece.encode() for piece in pieces])
    prefix = str(model.get("continuing_subword_prefix", "##"))
    unknown = pieces.get(str(model.get("unk_token", "[UNK]")))
    if unknown is None:
        _refuse("its vocabulary lacks its unknown piece")
    keys = {
        piece[len(prefix) :].encode()
        if prefix and piece.startswith(prefix)
        else _WORD_START + piece.encode(): piece_id
        for piece, piece_id in pieces.items()
        if piece != prefix and piece_id != unknown
    }
    return _unscored(keys, size, unknown_id=unknown, by_chars=False, byte_ids=NO_BYTES)


def _unscored(
    keys: Mapping[bytes, int], size: int, *, unknown_id: int, by_chars: bool, byte_ids: Ids32
) -> Vocabulary:
    return make_vocabulary(
        list(keys),
        np.array(list(keys.values()), np.int32),
        np.zeros(size, np.float64),
        unknown_id=unknown_id,
        unknown_score=0.0 if by_chars else None,
        byte_ids=byte_ids,
    )


def _refuse(reason: str) -> NoReturn:
    raise InvalidInput(f"The file is no tokenizer.json that can be used: {reason}.")
