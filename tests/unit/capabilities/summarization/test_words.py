"""Words, stems, and how personal a sentence is."""

from __future__ import annotations

import pytest

from service.capabilities.summarization.numerics.words import (
    count_words,
    guess_language,
    personal_share,
    stems_of,
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Great value .", 3),
        ("菜很好吃。", 2),
        ("房间 WiFi 不好", 3),
        ("", 0),
        ("a\u00a0b", 2),
    ],
)
def test_words_are_runs_and_pairs_of_unspaced_characters(text: str, words: int) -> None:
    assert count_words(text) == words


def test_stems_join_the_forms_of_a_word() -> None:
    assert stems_of("Rooms, ROOM; roomy!") == ["rooms", "room", "roomy"]
    assert stems_of("comfortable comfort")[0] == stems_of("comfort")[0] == "comfo"
    assert stems_of("很好 ok") == ["很", "好", "ok"]


@pytest.mark.parametrize(
    ("text", "language", "share"),
    [
        ("I love my room", "en", 0.5),
        ("The room is fine", "en", 0),
        ("我很喜欢", "zh", 0.25),
        ("Ich mag es", "de", 1 / 3),
        ("I love my room", "xx", 0),
        ("...", "en", 0),
    ],
)
def test_the_share_of_first_person_words(text: str, language: str, share: float) -> None:
    assert personal_share(text, language) == pytest.approx(share)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Fine.", "en"),
        ("房间很好", "zh"),
        ("とても良い", "ja"),
        ("", "en"),
        ("The word 好 means good, he said", "en"),
    ],
)
def test_scripts_without_spaces_are_told_apart(text: str, language: str) -> None:
    assert guess_language(text) == language
