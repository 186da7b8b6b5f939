"""Read a SentencePiece model file.

```
1 piece (repeated)   1 text   2 score (float32)   3 type
2 trainer            3 model type   24 space as suffix   35 byte fallback   40 unk id   44 surface
3 normaliser         2 charsmap   3 space in front   4 spaces collapse   5 spaces marked
```
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from service.errors import InvalidInput
from service.numerics.dtypes import Bytes8
from service.numerics.lattice.normaliser import SpaceRules
from service.runtime.tokenizers.limits import MOST_PIECES, check_pieces, check_scores
from service.runtime.tokenizers.protobuf import MalformedError, fields

_PIECE, _TRAINER, _NORMALISER = 1, 2, 3
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
UNIGRAM_MODEL, BPE_MODEL = 1, 2
_BYTES = 256
_LENGTH_BYTES = 4


@dataclass(frozen=True, slots=True)
class PieceModel:
    """Hold what a model file says.

    Attributes:
        model_type: UNIGRAM_MODEL or BPE_MODEL.
        pieces: bytes of each piece, by id.
        scores: (v,) float32.
        types: (v,) NORMAL, UNKNOWN and so on.
        unknown_id: the piece for what fits no other.
        unknown_surface: text that an unknown piece is decoded to.
        byte_ids: (256,) ids of bytes, or empty.
        table: charsmap units.
        strings: charsmap replacements.
        spaces: what happens to spaces.
    """

    model_type: int
    pieces: list[bytes]
    scores: npt.NDArray[np.float32]
    types: npt.NDArray[np.int32]
    unknown_id: int
    unknown_surface: str
    byte_ids: npt.NDArray[np.int32]
    table: npt.NDArray[np.uint32]
    strings: Bytes8
    spaces: SpaceRules


def parse_piece_model(content: bytes) -> PieceModel:
    """Return what a SentencePiece model file says.

    Raises:
        InvalidInput: it is cut short or malformed, of another kind than Unigram or BPE, holds too
            many pieces, a piece twice, a score that is no number, or not one unknown piece.
    """
    try:
        return _parse(memoryview(content))
    except (MalformedError, struct.error, UnicodeDecodeError) as error:
        _refuse(f"it is cut short or malformed ({error})")


def _parse(content: memoryview) -> PieceModel:
    pieces: list[bytes] = []
    scores: list[float] = []
    types: list[int] = []
    trainer: dict[int, int | memoryview] = {}
    normaliser: dict[int, int | memoryview] = {}
    for number, value in fields(content):
        if number == _PIECE:
            piece, score, kind = _parse_piece(_bytes(value))
            pieces.append(piece)
            scores.append(score)
            types.append(kind)
            if len(pieces) > MOST_PIECES:
                break  # check_pieces says so
        elif number == _TRAINER:
            trainer = dict(fields(_bytes(value)))
        elif number == _NORMALISER:
            normaliser = dict(fields(_bytes(value)))
    check_pieces(pieces)
    found_types = np.array(types, np.int32)
    unknown = np.flatnonzero(found_types == UNKNOWN)
    if len(unknown) != 1:
        _refuse(f"it has {len(unknown)} unknown pieces and needs one")
    model_type = _number(trainer, 3, 1)
    if model_type not in (UNIGRAM_MODEL, BPE_MODEL):
        _refuse(f"its model type is {model_type}; Unigram (1) and BPE (2) are read")
    table, strings = _parse_charsmap(bytes(_bytes(normaliser.get(2, memoryview(b"")))))
    surface = bytes(_bytes(trainer.get(44, memoryview(" \u2047 ".encode())))).decode()
    return PieceModel(
        model_type=model_type,
        pieces=pieces,
        scores=check_scores(scores),
        types=found_types,
        unknown_id=int(unknown[0]),
        unknown_surface=surface,
        byte_ids=_byte_ids(pieces, found_types) if _number(trainer, 35, 0) else _no_bytes(),
        table=table,
        strings=strings,
        spaces=SpaceRules(
            add_prefix=bool(_number(normaliser, 3, 1)),
            collapse=bool(_number(normaliser, 4, 1)),
            escape=bool(_number(normaliser, 5, 1)),
            as_suffix=bool(_number(trainer, 24, 0)),
        ),
    )


def _parse_piece(message: memoryview) -> tuple[bytes, float, int]:
    text, score, kind = b"", 0.0, NORMAL
    for number, value in fields(message):
        if number == 1:
            text = bytes(_bytes(value))
        elif number == 2:  # noqa: PLR2004 - field numbers stand in the module's docstring
            (score,) = struct.unpack("<f", _bytes(value))
        elif number == 3:  # noqa: PLR2004
            kind = value if isinstance(value, int) else 0
    if not NORMAL <= kind <= BYTE:
        _refuse(f"the piece {text[:40]!r} has type {kind}")
    text.decode()  # a piece is UTF-8, or the file is damaged
    return text, score, kind


def _parse_charsmap(blob: bytes) -> tuple[npt.NDArray[np.uint32], Bytes8]:
    if not blob:
        return np.empty(0, np.uint32), np.empty(0, np.uint8)
    size = int.from_bytes(blob[:_LENGTH_BYTES], "little")
    if size % 4 or not 0 < size <= len(blob) - _LENGTH_BYTES:
        _refuse(f"its character table has {size} bytes of {len(blob) - _LENGTH_BYTES}")
    units = np.frombuffer(bytearray(blob[_LENGTH_BYTES : _LENGTH_BYTES + size]), dtype="<u4")
    strings = np.frombuffer(bytearray(blob[_LENGTH_BYTES + size :]), dtype=np.uint8)
    return units.astype(np.uint32), strings


def _byte_ids(pieces: list[bytes], types: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Return the id of each byte's piece, `<0x00>` to `<0xFF>`."""
    by_name = {pieces[each]: each for each in np.flatnonzero(types == BYTE).tolist()}
    names = [f"<0x{byte:02X}>".encode() for byte in range(_BYTES)]
    missing = [name for name in names if name not in by_name]
    if missing:
        _refuse(f"it falls back to bytes and has no piece {missing[0].decode()}")
    return np.array([by_name[name] for name in names], np.int32)


def _no_bytes() -> npt.NDArray[np.int32]:
    return np.empty(0, np.int32)


def _number(values: dict[int, int | memoryview], field: int, default: int) -> int:
    value = values.get(field, default)
    if not isinstance(value, int):
        _refuse(f"field {field} is no number")
    return value


def _bytes(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise MalformedError("a number stands where bytes belong")
    return value


def _refuse(reason: str) -> NoReturn:
    raise InvalidInput(f"The file is no SentencePiece model that can be used: {reason}.")
