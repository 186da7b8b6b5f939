"""Compile character tables and read them back, with our reader and with the tokenizers library."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers.normalizers import Precompiled

from models.charsmap import Charsmap, compile_charsmap
from models.errors import RecipeError

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=4)
tables = st.dictionaries(texts.filter(bool), texts, max_size=60)


def _wide_table() -> dict[str, str]:
    """Return a table of some thousand characters from every length of UTF-8."""
    draw = random.Random(5)
    ranges = [(1, 0x80), (0x80, 0x800), (0x800, 0xD800), (0xE000, 0x10000), (0x10000, 0x110000)]
    codes = {draw.randrange(*bounds) for bounds in ranges for _ in range(1000)}
    return {chr(code): chr(code ^ 1) * draw.randrange(4) for code in codes if code ^ 1}


@given(tables)
def test_every_key_is_found_and_no_other(table: dict[str, str]) -> None:
    charsmap = Charsmap.parse(compile_charsmap(table))
    for key, value in table.items():
        assert charsmap.replacement(key) == value
    for key in table:
        for other in (key[:-1], key + "a", key + "\u0300", "a" + key):
            assert charsmap.replacement(other) == table.get(other)


def test_every_code_point_agrees_with_the_table() -> None:
    table = _wide_table()
    charsmap = Charsmap.parse(compile_charsmap(table))
    wrong = [
        code
        for code in range(1, 0x110000)
        if not 0xD800 <= code < 0xE000 and charsmap.replacement(chr(code)) != table.get(chr(code))
    ]
    assert wrong == []


def test_the_tokenizers_library_reads_the_same_table() -> None:
    table = _wide_table()
    step = Precompiled(compile_charsmap(table))
    draw = random.Random(6)
    others = [chr(draw.randrange(0x20, 0xD800)) for _ in range(5000)]
    for character in [*table, *others]:
        assert step.normalize_str(character) == table.get(character, character)


def test_equal_tables_give_equal_bytes_in_any_order() -> None:
    table = _wide_table()
    assert compile_charsmap(dict(reversed(table.items()))) == compile_charsmap(table)


@pytest.mark.parametrize("table", [{"": "a"}, {"a\0": "b"}, {"a": "b\0c"}])
def test_what_the_format_cannot_hold_is_refused(table: dict[str, str]) -> None:
    with pytest.raises(RecipeError, match="cannot hold the replacement"):
        compile_charsmap(table)


def test_a_damaged_charsmap_is_refused() -> None:
    blob = compile_charsmap({"Ａ": "A"})
    for damaged in (b"", blob[:3], blob[:-1], blob[:200], b"\xff\xff\xff\xff" + blob[4:]):
        with pytest.raises(RecipeError, match="cannot hold an array"):
            Charsmap.parse(damaged)
