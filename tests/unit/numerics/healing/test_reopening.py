"""How far a prompt is taken back, on a tokenizer that splits as GPT-2 does."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.numerics.healing.covers import Healing
from service.numerics.healing.reopening import Reopened, reopen
from tests.support.byte_pairs import trained_tokenizer

TOKENIZER = trained_tokenizer()
PIECES = TOKENIZER.pieces
END = len(PIECES.texts) - 1
WORDS = ("test", "tests", "reference", "def encode(self", "    return", "\n\n", "\n\n\n\n", "  ",
         " ", "naïve café", "天气", "😀", "it's", "12", "a", "\t")  # fmt: skip
texts = st.lists(st.one_of(st.sampled_from(WORDS), st.text(max_size=3)), max_size=8).map("".join)


def heal(text: str) -> tuple[list[int], Reopened]:
    ids = TOKENIZER.ids(text)
    return ids, reopen(ids, PIECES, encode=TOKENIZER.encode)


def test_an_open_word_is_taken_back_and_what_stands_before_it_stays() -> None:
    ids, found = heal("the order sess")
    assert TOKENIZER.text(ids[: found.kept]) == b"the order"
    assert found.removed == b" sess"
    assert found.stems is not None
    assert tuple(ids[found.kept :]) in found.stems
    assert () in found.stems


def test_a_space_at_the_end_opens_the_next_word() -> None:
    ids, found = heal("the order ")
    assert found.removed == b" "
    allowed = {PIECES.texts[each] for each in Healing(found, PIECES).allowed().ids}
    assert b" a" in allowed
    assert all(each.startswith(b" ") for each in allowed)
    assert len(ids) == found.kept + 1


@settings(max_examples=300)
@given(text=texts, more=texts)
@example(text="\n\n\n\n", more="foo")
@example(text="a  ", more="b")
@example(text="def encode(self):\n   ", more="     return")
@example(text="天", more="气")
def test_whatever_the_prompt_goes_on_with_may_be_written(text: str, more: str) -> None:
    ids, found = heal(text)
    assert TOKENIZER.text(ids[: found.kept]) + found.removed == text.encode()
    whole = TOKENIZER.ids(text + more)
    if found.stems is None or whole[:1] != ids[:1]:
        return
    assert whole[: found.kept] == ids[: found.kept]
    healing = Healing(found, PIECES)
    for each in whole[found.kept :]:
        if healing.over:
            break
        assert each in healing.allowed().ids
        healing.advance(each)


@given(text=texts, cut=st.integers(1, 3))
def test_a_prompt_that_ends_inside_a_character_is_completed(text: str, cut: int) -> None:
    whole = TOKENIZER.ids("see " + text + "😀")
    spelled = TOKENIZER.text(whole)
    short = whole
    while len(TOKENIZER.text(short)) > len(spelled) - cut:
        short = short[:-1]
    found = reopen(short, PIECES, encode=TOKENIZER.encode)
    assert TOKENIZER.text(short[: found.kept]) + found.removed == TOKENIZER.text(short)
    healing = Healing(found, PIECES)
    for each in whole[found.kept :]:
        if healing.over:
            break
        assert each in healing.allowed().ids
        healing.advance(each)


def test_nothing_before_a_special_token_is_taken_back() -> None:
    ids = [*TOKENIZER.ids("the sess"), END, *TOKENIZER.ids("sess")]
    found = reopen(ids, PIECES, encode=TOKENIZER.encode)
    assert found.kept == len(TOKENIZER.ids("the sess")) + 1
    assert found.removed == b"sess"
    ends = reopen([*TOKENIZER.ids("the sess"), END], PIECES, encode=TOKENIZER.encode)
    assert ends.removed == b""


def test_the_first_piece_stays_where_nothing_stands_before_it() -> None:
    ids, found = heal("sess")
    assert found.kept >= 1
    assert TOKENIZER.text(ids[: found.kept]) + found.removed == b"sess"
    assert heal("")[1] == Reopened(0, b"", None)


def test_ids_that_the_tokenizer_would_not_write_allow_any_row() -> None:
    odd = [*TOKENIZER.ids("the "), *(TOKENIZER.ids(c)[0] for c in "sess")]
    found = reopen(odd, PIECES, encode=TOKENIZER.encode)
    assert found.stems is None
    assert found.removed.endswith(b"sess")


@pytest.mark.parametrize("words", [3, 40, 400])
def test_only_the_end_of_a_long_prompt_is_encoded_again(words: int) -> None:
    seen: list[int] = []

    def encode(texts: list[str]) -> list[list[int]]:
        seen.extend(map(len, texts))
        return TOKENIZER.encode(texts)

    ids = TOKENIZER.ids("the order " * words + "sess")
    found = reopen(ids, PIECES, encode=encode)
    assert found.stems is not None
    assert max(seen) < 150
    assert len(seen) < 200
