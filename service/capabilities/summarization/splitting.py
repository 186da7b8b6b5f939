"""Split reviews into sentences whose offsets point into the original text."""

from __future__ import annotations

import sentencex  # type: ignore[import-untyped]

from service.capabilities.summarization.numerics.words import guess_language


def split_sentences(text: str, language: str | None) -> list[tuple[int, int]]:
    """Return the spans of the sentences, without the space around them.

    `text[start:end]` is a sentence, to the character. A part without a letter or a digit is no
    sentence.

    Args:
        text: one review.
        language: ISO 639-1 code; None guesses between English and the scripts without spaces.
    """
    spans = []
    for found in sentencex.get_sentence_boundaries(language or guess_language(text), text):
        start, end = found["start_index"], found["end_index"]
        part = text[start:end]
        start += len(part) - len(part.lstrip())
        end -= len(part) - len(part.rstrip())
        if any(map(str.isalnum, part)):
            spans.append((start, end))
    return spans
