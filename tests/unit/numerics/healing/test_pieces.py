"""Ranges of a sorted vocabulary, against looking at every piece."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.numerics.healing.pieces import (
    REACH_BYTES,
    open_places,
    pieces_beyond,
    pieces_within,
    sort_pieces,
)

words = st.binary(max_size=4)


def test_a_worked_example() -> None:
    pieces = sort_pieces([b"in", b"intern", b"", b"internal", b"i", b"int", b"al"])
    assert pieces_beyond(pieces, b"in").tolist() == [1, 3, 5]
    assert pieces_within(pieces, b"internet") == [4, 0, 5, 1]
    assert open_places(pieces, b"an internal") == []
    assert open_places(pieces, b"an intern") == [3]
    assert open_places(pieces, b"a") == [0]


@given(texts=st.lists(words, max_size=30), rest=words)
def test_both_searches_find_what_a_scan_finds(texts: list[bytes], rest: bytes) -> None:
    pieces = sort_pieces(texts)
    beyond = [at for at, t in enumerate(texts) if t.startswith(rest) and len(t) > len(rest)]
    within = [at for at, t in enumerate(texts) if t and rest.startswith(t)]
    assert pieces_beyond(pieces, rest).tolist() == beyond
    assert sorted(pieces_within(pieces, rest)) == within


def test_bytes_of_255_are_no_end_of_a_range() -> None:
    pieces = sort_pieces([b"\xff", b"\xff\xff", b"\xff\xff\xff", b"a\xff"])
    assert pieces_beyond(pieces, b"\xff").tolist() == [1, 2]
    assert pieces_beyond(pieces, b"a").tolist() == [3]


def test_equal_pieces_are_all_found() -> None:
    assert pieces_within(sort_pieces([b"a", b"a", b"ab"]), b"a") == [0, 1]


def test_no_place_lies_further_back_than_the_reach() -> None:
    pieces = sort_pieces([b"-" * 200, b"-"])
    places = open_places(pieces, b"-" * 150)
    assert places == list(range(150 - REACH_BYTES, 150))


@pytest.mark.parametrize("texts", [[], [b""]])
def test_an_empty_vocabulary_finds_nothing(texts: list[bytes]) -> None:
    pieces = sort_pieces(texts)
    assert open_places(pieces, b"abc") == []
    assert pieces_within(pieces, b"abc") == []
