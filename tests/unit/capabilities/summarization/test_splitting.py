"""Sentences whose offsets point into the review."""

from __future__ import annotations

import pytest

from service.capabilities.summarization.splitting import split_sentences


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("I loved it!! The room (No. 5) cost $3.50. Dr. Smith was there.",
         ["I loved it!!", "The room (No. 5) cost $3.50.", "Dr. Smith was there."]),
        ("这家餐厅很好吃。服务员很热情!", ["这家餐厅很好吃。", "服务员很热情!"]),
        ("  Good. \n\n Bad. ", ["Good.", "Bad."]),
        ("😀 Good. 𝒳 bad.", ["😀 Good.", "𝒳 bad."]),
        ("... !!! ---", []),
        ("", []),
        ("no end", ["no end"]),
    ],
)  # fmt: skip
def test_sentences_are_exact_parts_of_the_text(text: str, sentences: list[str]) -> None:
    assert [text[start:end] for start, end in split_sentences(text, None)] == sentences


def test_an_unknown_language_is_split_by_common_rules() -> None:
    assert split_sentences("One. Two.", "xx") == [(0, 4), (5, 9)]
