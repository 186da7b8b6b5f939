"""Read small SentencePiece files, whole and damaged."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.charsmap import compile_charsmap
from models.errors import RecipeError
from models.piece_model import parse_piece_model

CHARSMAP = compile_charsmap({"Ａ": "a"})


def _varint(number: int) -> bytes:
    out = b""
    while number >= 0x80:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def _field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _piece(text: str, score: float, kind: int | None = None) -> bytes:
    body = _field(1, text.encode()) + _varint(2 << 3 | 5) + struct.pack("<f", score)
    return _field(1, body + (b"" if kind is None else _field(3, kind)))


PIECES = b"".join(
    [
        _piece("<unk>", 0, 2),
        _piece("<s>", 0, 3),
        _piece("</s>", 0, 3),
        _piece("extra", 0, 4),
        _piece("▁", -1.5),
        _piece("文", -2.25, 1),
    ]
)
TRAINER = _field(2, _field(3, 1) + _field(4, 8000) + _varint(10 << 3 | 5) + struct.pack("<f", 0.9))
NORMALISER = _field(3, _field(1, b"nmt_nfkc") + _field(2, CHARSMAP) + _field(3, 1))
WHOLE = PIECES + TRAINER + NORMALISER


def test_a_whole_model_is_read() -> None:
    model = parse_piece_model(WHOLE)
    assert model.pieces == ["<unk>", "<s>", "</s>", "extra", "▁", "文"]
    assert model.scores == [0, 0, 0, 0, -1.5, -2.25]
    assert model.unknown_id == 0
    assert model.reserved_ids == [1, 2, 3]
    assert model.charsmap == CHARSMAP


@given(st.integers(0, len(WHOLE) - 1))
def test_a_cut_model_is_refused(length: int) -> None:
    # Cut between two fields, it still lacks the character table, which comes last.
    with pytest.raises(RecipeError):
        parse_piece_model(WHOLE[:length])


@given(st.integers(0, 200), st.integers(0, 255))
def test_a_changed_byte_never_raises_anything_else(offset: int, value: int) -> None:
    try:
        parse_piece_model(WHOLE[:offset] + bytes([value]) + WHOLE[offset + 1 :])
    except RecipeError as error:
        assert "piece model" in str(error)  # noqa: PT017 - many changes read well


@pytest.mark.parametrize(
    ("blob", "reason"),
    [
        (PIECES + _field(2, _field(3, 2)) + NORMALISER, "Unigram"),
        (PIECES + _piece("x", 0, 6) + NORMALISER, "no type but"),
        (PIECES + _piece("x", 0, 2) + NORMALISER, "one unknown piece"),
        (PIECES + TRAINER, "no compiled charsmap"),
        (PIECES + TRAINER + _field(3, _field(2, CHARSMAP) + _field(4, 0)), "spaces"),
        (PIECES + _piece("x", float("nan")) + NORMALISER, "score nan"),
        (PIECES + _piece("", 0) + NORMALISER, "the piece ''"),
        (_field(1, _field(1, b"\xff")) + NORMALISER, "not UTF-8"),
        (_field(1, 7) + NORMALISER, "a number stands"),
        (_varint(1 << 3 | 3) + WHOLE, "wire type 3"),
        (_varint(1 << 3 | 2) + _varint(2**40) + WHOLE, "field 1 ends"),
        (b"\xff" * 20, "does not end"),
    ],
)
def test_a_wrong_field_is_named(blob: bytes, reason: str) -> None:
    with pytest.raises(RecipeError, match=reason):
        parse_piece_model(blob)
