"""Count words, cut them to stems, and tell how personal a sentence is."""

from __future__ import annotations

import re

# Kana, ideographs: scripts without spaces, where one character stands for about half a word.
_UNSPACED = re.compile(r"[぀-ヿ㐀-䶿一-鿿豈-﫿]")
_RUN = re.compile(r"\w+")
# Five letters join the forms of a word in many languages, and no table is needed for any.
_STEM_LETTERS = 5
# From here on a text counts as written in a script without spaces.
_UNSPACED_SHARE = 0.2

_FIRST_PERSON = {
    "de": "ich mich mir mein meine meinen meinem meiner wir uns unser unsere unseren",
    "en": "i me my mine myself we us our ours",
    "es": "yo me mi mis nosotros nos nuestro nuestra nuestros nuestras",
    "fr": "je j me m moi mon ma mes nous notre nos",
    "it": "io mi mio mia miei mie noi ci nostro nostra nostri nostre",
    "nl": "ik mij me mijn wij we ons onze",
    "pt": "eu me meu minha meus minhas nós nos nosso nossa nossos nossas",
    "ja": "私 僕 俺",
    "zh": "我 俺 咱",
}
FIRST_PERSON = {language: frozenset(words.split()) for language, words in _FIRST_PERSON.items()}


def guess_language(text: str) -> str:
    """Return `ja` or `zh` for a text in their scripts, else `en`; rules for the rest are alike."""
    unspaced = _UNSPACED.findall(text)
    if len(unspaced) <= _UNSPACED_SHARE * len(text):
        return "en"
    return "ja" if any("぀" <= letter <= "ヿ" for letter in unspaced) else "zh"


def count_words(text: str) -> int:
    """Return the number of words: runs without a space, and one for two characters where a script
    has no spaces.

    Examples: "Great value ." has 3, "菜很好吃。" has 2.
    """  # noqa: D205 - one sentence
    unspaced = len(_UNSPACED.findall(text))
    if not unspaced:
        return len(text.split())
    return (unspaced + 1) // 2 + len(_RUN.findall(_UNSPACED.sub(" ", text)))


def words_of(text: str) -> list[str]:
    """Return the words in lower case; a character of a script without spaces is a word."""
    return _RUN.findall(_UNSPACED.sub(r" \g<0> ", text.casefold()))


def stems_of(text: str) -> list[str]:
    """Return the first five letters of each word, so that "rooms" and "room's" meet "room"."""
    return [word[:_STEM_LETTERS] for word in words_of(text)]


def personal_share(text: str, language: str) -> float:
    """Return the share of words that speak of the reviewer: 0 for a language without a list.

    Args:
        text: one sentence.
        language: ISO 639-1 code.
    """
    own = FIRST_PERSON.get(language)
    words = words_of(text) if own else []
    return sum(word in own for word in words) / len(words) if own and words else 0.0
