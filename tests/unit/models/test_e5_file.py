"""Read small packed files, whole and damaged."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.e5_file import parse_e5
from models.errors import RecipeError
from tests.support.e5_files import PIECES, REPLACEMENTS, SmallE5

WHOLE = SmallE5().blob()
HEADER = 4 + 4 + 7 * 4 + 4 + 4


def _patched(offset: int, layout: str, value: float) -> bytes:
    raw = struct.pack(f"<{layout}", value)
    return WHOLE[:offset] + raw + WHOLE[offset + len(raw) :]


def test_a_whole_file_is_read_as_it_was_written() -> None:
    small = SmallE5(seed=3)
    found = parse_e5(small.blob())
    assert tuple(found.pieces) == PIECES
    assert dict(found.replacements) == REPLACEMENTS
    assert (found.start_id, found.pad_id, found.end_id, found.unknown_id) == (0, 1, 2, 3)
    assert (found.sizes.layers, found.sizes.hidden, found.sizes.ffn) == (2, 64, 96)
    assert found.scores.tolist() == [-float(index) for index in range(len(PIECES))]
    for name, packed in found.packed.items():
        np.testing.assert_array_equal(packed.unpacked(), small.weights[name].astype(np.float32))
    for name, values in found.floats.items():
        np.testing.assert_array_equal(values, small.weights[name].astype(np.float32))
    assert len(found.packed) + len(found.floats) == len(small.tensors)


@given(st.integers(0, len(WHOLE) - 1))
def test_a_file_cut_anywhere_is_refused(length: int) -> None:
    with pytest.raises(RecipeError, match="damaged"):
        parse_e5(WHOLE[:length])


def test_bytes_after_the_last_tensor_are_refused() -> None:
    with pytest.raises(RecipeError, match="7 bytes follow"):
        parse_e5(WHOLE + bytes(7))


@given(st.integers(0, HEADER + 600), st.integers(0, 255))
def test_a_changed_byte_never_raises_anything_else(offset: int, value: int) -> None:
    try:
        parse_e5(WHOLE[:offset] + bytes([value]) + WHOLE[offset + 1 :])
    except RecipeError as error:
        assert "damaged" in str(error)  # noqa: PT017 - many changes are harmless and read well


@pytest.mark.parametrize(
    ("blob", "reason"),
    [
        (SmallE5().blob(magic=b"E5S2"), "starts with"),
        (SmallE5().blob(version=2), "version 2"),
        (SmallE5().blob(pieces=0), "0 pieces"),
        (SmallE5().blob(pieces=1_000_000), "1000000 pieces"),
        (_patched(8, "i", -384), "out of range"),
        (_patched(8, "i", 2_000_000_000), "out of range"),
        (_patched(8, "i", 65), "do not fit"),
        (_patched(16, "i", 5), "do not fit"),
        (_patched(8 + 4 * 7, "f", float("nan")), "epsilon"),
        (_patched(8 + 4 * 8, "i", 64), "group"),
        (_patched(HEADER + 4, "i", 999), "special id"),
        (_patched(HEADER + 20, "Q", 2**63), "needs 9223372036854775808 bytes"),
        (_patched(HEADER + 28 + 4, "I", 2**31), "offsets"),
        (_patched(HEADER + 28 + 4 * (len(PIECES) + 1), "f", float("inf")), "score"),
    ],
)
def test_a_wrong_field_is_named(blob: bytes, reason: str) -> None:
    with pytest.raises(RecipeError, match=reason):
        parse_e5(blob)


def _with_place(name: str, **changes: int) -> bytes:
    """Return the file with fields of one tensor's directory entry replaced."""
    entry = struct.pack("<H", len(name)) + name.encode()
    start = WHOLE.index(entry) + len(entry)
    fields = dict(zip(("kind", "elements", "offset", "size"),
                      struct.unpack_from("<BIQQ", WHOLE, start), strict=True))  # fmt: skip
    fields |= changes
    raw = struct.pack("<BIQQ", *fields.values())
    return WHOLE[:start] + raw + WHOLE[start + len(raw) :]


@pytest.mark.parametrize(
    ("blob", "reason"),
    [
        (_with_place("emb.word", kind=0), "kind 0"),
        (_with_place("emb.pos", kind=7), "kind 7"),
        (_with_place("l0.q.w", elements=64), "64 numbers"),
        (_with_place("l1.fo.w", offset=0), "l1.fo.w starts at 0"),
        (_with_place("l1.oln.b", size=2**60), "the file at"),
        (_with_place("l1.oln.b", size=252), "4 bytes follow"),
        (_with_place("emb.ln.w", offset=2**62), "starts at"),
        (WHOLE.replace(b"l1.aln.w", b"l9.aln.w"), "other tensors"),
    ],
)
def test_a_wrong_tensor_is_named(blob: bytes, reason: str) -> None:
    with pytest.raises(RecipeError, match=reason):
        parse_e5(blob)


def test_a_number_that_is_not_finite_is_refused() -> None:
    small = SmallE5()
    kind, elements, raw = small.tensors["emb.word"]
    small.tensors["emb.word"] = (kind, elements, np.float16(np.inf).tobytes() + raw[2:])
    with pytest.raises(RecipeError, match=r"emb\.word holds a scale"):
        parse_e5(small.blob())
    small = SmallE5()
    kind, elements, raw = small.tensors["emb.pos"]
    small.tensors["emb.pos"] = (kind, elements, np.float32(np.nan).tobytes() + raw[4:])
    with pytest.raises(RecipeError, match=r"emb\.pos holds a number"):
        parse_e5(small.blob())
