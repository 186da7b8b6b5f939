"""Read a SentencePiece Unigram model, the part of it that a tokenizer needs.

The file is a protocol buffer. A message is a row of fields, each a tag (number x 8 + wire type)
and a value; the ones read here:

```
1 piece (repeated)   1 text   2 score (float32)   3 type (see below)
2 trainer            3 type of the model (1 Unigram)
3 normaliser         2 compiled charsmap   3 space in front   4 spaces collapse   5 spaces marked
```
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

from models.errors import RecipeError

_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5
_PIECE, _TRAINER, _NORMALISER = 1, 2, 3
# A user-defined piece is one that training was told to keep, such as `extra_token_id_1`.
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED = 1, 2, 3, 4
_KINDS = {_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED}
_UNIGRAM = 1
# A number has at most 64 bits, seven in a byte; the eighth says that more follow.
_NUMBER_BITS, _MORE = 64, 0x80


@dataclass(frozen=True, slots=True)
class PieceModel:
    """Hold the vocabulary and the character table.

    Attributes:
        pieces: the text of each piece, by id.
        scores: natural log probability of each piece, by id.
        unknown_id: the piece for what fits no other.
        reserved_ids: control and user-defined pieces, such as `<s>`: they stand for no text.
        charsmap: the compiled character table.
    """

    pieces: list[str]
    scores: list[float]
    unknown_id: int
    reserved_ids: list[int]
    charsmap: bytes


def parse_piece_model(blob: bytes) -> PieceModel:
    """Return the content of a SentencePiece model file.

    Raises:
        RecipeError: the file is cut short or malformed, is not a Unigram model, has no
            character table or not exactly one unknown piece, or treats spaces or special
            pieces in a way that our `tokenizer.json` does not.
    """
    pieces: list[tuple[str, float, int]] = []
    trainer = normaliser = b""
    for number, value in _fields(blob):
        if number == _PIECE:
            pieces.append(_parse_piece(_bytes(value)))
        elif number == _TRAINER:
            trainer = _bytes(value)
        elif number == _NORMALISER:
            normaliser = _bytes(value)
    if dict(_fields(trainer)).get(3, _UNIGRAM) != _UNIGRAM:
        _refuse("it is not of the Unigram kind")
    kinds = [kind for _, _, kind in pieces]
    if kinds.count(_UNKNOWN) != 1 or not set(kinds) <= _KINDS:
        _refuse(f"it needs one unknown piece and no type but {sorted(_KINDS)}")
    return PieceModel(
        pieces=[text for text, _, _ in pieces],
        scores=[score for _, score, _ in pieces],
        unknown_id=kinds.index(_UNKNOWN),
        reserved_ids=[
            piece_id for piece_id, kind in enumerate(kinds) if kind in (_CONTROL, _USER_DEFINED)
        ],
        charsmap=_charsmap(normaliser),
    )


def _charsmap(normaliser: bytes) -> bytes:
    settings = dict(_fields(normaliser))
    # Absent means true for all three.
    if any(settings.get(number, 1) != 1 for number in (3, 4, 5)):
        _refuse("it does not mark, collapse and prepend spaces")
    charsmap = settings.get(2, b"")
    if not isinstance(charsmap, bytes) or not charsmap:
        _refuse("it has no compiled charsmap")
    return charsmap


def _parse_piece(message: bytes) -> tuple[str, float, int]:
    fields = dict(_fields(message))
    text, raw_score, kind = fields.get(1, b""), fields.get(2, bytes(4)), fields.get(3, _NORMAL)
    try:
        piece = _bytes(text).decode()
    except UnicodeDecodeError as error:
        raise RecipeError(f"the piece model is damaged: a piece is not UTF-8 ({error})") from error
    score = float(struct.unpack("<f", _bytes(raw_score))[0])
    if not piece or not math.isfinite(score) or not isinstance(kind, int):
        _refuse(f"the piece {piece!r} has score {score} and type {kind!r}")
    return piece, score, kind


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield the fields of a message: whole numbers as they are, everything else as bytes."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, position = _varint(message, position)
            yield number, value
            continue
        if wire == _LENGTH:
            size, position = _varint(message, position)
        elif wire in (_EIGHT_BYTES, _FOUR_BYTES):
            size = 8 if wire == _EIGHT_BYTES else 4
        else:
            _refuse(f"wire type {wire} at byte {position}")
        end = position + size
        if number == 0 or end > len(message):
            _refuse(f"field {number} ends at byte {end} of {len(message)}")
        yield number, message[position:end]
        position = end


def _varint(message: bytes, position: int) -> tuple[int, int]:
    """Return a number of seven bits a byte, lowest first, and the position after it."""
    number = shift = 0
    while True:
        if position >= len(message) or shift >= _NUMBER_BITS:
            _refuse(f"a number does not end at byte {position}")
        byte = message[position]
        number |= (byte % _MORE) << shift
        position += 1
        shift += 7
        if byte < _MORE:
            return number, position


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        _refuse("a number stands where text belongs")
    return value


def _refuse(reason: str) -> NoReturn:
    message = f"the piece model is damaged or of another kind: {reason}"
    raise RecipeError(message)
