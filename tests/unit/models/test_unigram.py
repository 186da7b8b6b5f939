"""Assemble small Unigram tokenizers and type what users type."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from models.charsmap import compile_charsmap
from models.errors import RecipeError
from models.unigram import GUARD, UnigramSource, tokenizer_json

PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁", "▁a", "a", "b", "ab", "<", ">", "s", "é", "<mask>"]
SOURCE = UnigramSource(
    pieces=PIECES,
    scores=[0.0, 0.0, 0.0, 0.0, -2.0, -2.5, -3.0, -3.0, -4.0, -5.0, -5.0, -5.0, -5.0, 0.0],
    special_ids=[0, 1, 2, 3, 13],
    unknown_id=3,
    start_id=0,
    end_id=2,
    charsmap=compile_charsmap({"Ａ": "a", "\t": " ", "\u0001": ""}),
)
TOKENIZER = Tokenizer.from_str(tokenizer_json(SOURCE))


def _ids(text: str) -> list[int]:
    return list(TOKENIZER.encode(text).ids)


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("a", [0, 5, 2]),
        ("ab", [0, 5, 7, 2]),  # ▁a + b = -5.5 beats ▁ + ab = -6
        ("a  \t a", [0, 5, 5, 2]),
        ("  a ", [0, 5, 2]),
        ("Ａ\u0001b", [0, 5, 7, 2]),
        ("e\u0301", [0, 4, 12, 2]),  # composed before the table is asked
        ("xyz", [0, 4, 3, 2]),  # a run of unknown characters is one unknown piece
        ("", [0, 2]),
        (" \t ", [0, 2]),
    ],
)
def test_ids_of_small_texts(text: str, ids: list[int]) -> None:
    assert _ids(text) == ids


def test_two_texts_are_framed_apart() -> None:
    assert TOKENIZER.encode("a", "b").ids == [0, 5, 2, 2, 4, 7, 2]


def test_the_frame_is_marked_as_special() -> None:
    assert TOKENIZER.encode("ab").special_tokens_mask == [1, 0, 0, 1]


@pytest.mark.parametrize("text", ["<s>", "</s>", "a<s>b", "<mask>", f"{GUARD}<s>", "▁<s>"])
def test_special_pieces_cannot_be_typed(text: str) -> None:
    assert not {0, 1, 2, 13} & set(_ids(text)[1:-1])


@given(st.lists(st.sampled_from(["<s>", "</s>", "<pad>", "<mask>", " ", "▁", "\u0001", "\t", "a"])))
def test_no_mixture_spells_a_special_piece(parts: list[str]) -> None:
    assert not {0, 1, 2, 13} & set(_ids("".join(parts))[1:-1])


def test_the_description_carries_neither_cutting_nor_padding() -> None:
    assert TOKENIZER.truncation is None
    assert TOKENIZER.padding is None


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (replace(SOURCE, scores=[0.0]), "14 pieces cannot have 1 scores"),
        (replace(SOURCE, end_id=99), "do not all lie"),
        (replace(SOURCE, special_ids=[-1]), "do not all lie"),
        (replace(SOURCE, pieces=[*PIECES[:-1], "a"]), "1 pieces of the vocabulary occur twice"),
    ],
)
def test_a_source_that_does_not_fit_is_refused(source: UnigramSource, reason: str) -> None:
    with pytest.raises(RecipeError, match=reason):
        tokenizer_json(source)


def test_a_special_piece_left_unguarded_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.unigram.GUARD", "")
    with pytest.raises(RecipeError, match="reaches a special piece"):
        tokenizer_json(SOURCE)
