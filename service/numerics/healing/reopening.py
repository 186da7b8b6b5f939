"""Take back the last pieces of a prompt, as far as a longer piece could begin inside them.

```
prompt   … the  intern|           the prompt breaks off; its own pieces: "the", " intern"
places         ^      ^           where a piece may begin that goes on (" internal"), and the end
stems         ()     (" intern")  how a text is written that has a border there
kept     … the                    what all stems share
```

Training text is written one way only, so among all rows of pieces that spell the removed bytes the
ones that matter are those which the tokenizer itself writes: one *stem* for each place where the
last piece may begin. Encoding x[:s] gives it, for the pieces before a border do not depend on what
stands after it. Runs of spaces are the exception: their last space goes with the word that follows.
A place after a space is therefore encoded before several beginnings of words too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeAlias

from service.numerics.healing.pieces import Pieces, open_places

Stem: TypeAlias = tuple[int, ...]
Encode: TypeAlias = Callable[[Sequence[str]], Sequence[Sequence[int]]]

# Bytes before the first open place that are encoded again with it: a few words.
_MARGIN = 24
# A window looks no further back for the beginning of a word.
_FARTHEST = 512
# Beginnings of a word: whatever the vocabulary, some of them do not join a space before them.
_WORDS = ("a", "7", "(", "é", "天")


@dataclass(frozen=True, slots=True)
class Reopened:
    """Hold what a prompt keeps and what its next pieces must spell.

    Attributes:
        kept: how many of the prompt's ids stand.
        removed: the bytes that were taken back; empty where nothing can cross the end.
        stems: every row of pieces that a cover may begin with, () among them; None where any row
            of pieces may.
    """

    kept: int
    removed: bytes
    stems: frozenset[Stem] | None


def reopen(ids: Sequence[int], pieces: Pieces, *, encode: Encode | None = None) -> Reopened:
    """Return what is kept of a prompt, and what must be spelled again.

    At least the first id is kept, for nothing stands before it that could weigh it; and nothing
    before the last id without text (a special token) is ever taken back.

    Args:
        ids: of the prompt.
        pieces: the vocabulary.
        encode: the tokenizer, without special tokens. Where it is absent, or does not write the
            end of the prompt as `ids` do, covers may be any rows of pieces.
    """
    begin = max((at + 1 for at, each in enumerate(ids) if not pieces.texts[each]), default=0)
    tail = tuple(ids[begin:])
    text = b"".join(pieces.texts[each] for each in tail)
    places = open_places(pieces, text)
    least = 1 if begin == 0 else 0
    if not places or len(tail) <= least:
        return Reopened(len(ids), b"", None)
    ends = list(accumulate((len(pieces.texts[each]) for each in tail), initial=0))
    found = encode and _write_stems(tail, ends, text, places, pieces, encode)
    if found:
        stems, shared = _share(found, tail, least=least)
    else:
        stems, shared = None, max(least, sum(end <= places[0] for end in ends) - 1)
    return Reopened(begin + shared, text[ends[shared] :], stems)


def _write_stems(  # noqa: PLR0917 - the parts of one prompt
    tail: Stem,
    ends: Sequence[int],
    text: bytes,
    places: Sequence[int],
    pieces: Pieces,
    encode: Encode,
) -> set[Stem] | None:
    """Return how the tokenizer writes the prompt up to each place; None where it disagrees."""
    first = _begin_window(tail, ends, places[0], pieces)
    origin, before = ends[first], tail[:first]
    own = {end: tail[:index] for index, end in enumerate(ends) if index >= first}
    spelled = {place: _spell(text[origin:place]) for place in (*places, len(text), *own)}
    agreed = max((end for end in own if spelled[end] is not None), default=origin)
    asked = {
        place: spelling
        for place, spelling in spelled.items()
        if spelling is not None and (place in places or place in {len(text), agreed})
    }
    texts = list(asked.items())
    texts += [
        (place, text + word)
        for place, text in asked.items()
        if text[-1:].isspace()
        for word in _WORDS
    ]
    written: dict[int, set[Stem]] = {}
    for (place, _), row in zip(texts, encode([text for _, text in texts]), strict=True):
        cut = _cut(row, place - origin, pieces)
        if cut is not None:
            written.setdefault(place, set()).add(before + cut)
    if own[agreed] not in written.get(agreed, set()):
        return None
    # A border inside a character can only be told from the prompt's own pieces.
    inside = {own[place] for place in own if spelled[place] is None and place >= places[0]}
    return inside.union(*(written.get(place, set()) for place in (*places, len(text))))


def _begin_window(tail: Stem, ends: Sequence[int], place: int, pieces: Pieces) -> int:
    """Return the piece from which on a prompt is encoded again: one that begins a word."""
    latest = max(index for index, end in enumerate(ends) if end <= max(0, place - _MARGIN))
    for index in range(latest, 0, -1):
        if ends[latest] - ends[index] > _FARTHEST:
            return index
        here, left = pieces.texts[tail[index]], pieces.texts[tail[index - 1]]
        if here[:1] == b" " and here[1:2].isalpha() and not left[-1:].isspace():
            return index
    return 0


def _spell(text: bytes) -> str | None:
    """Return the text, or None where it breaks off inside a character."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        return None


def _cut(row: Sequence[int], length: int, pieces: Pieces) -> Stem | None:
    """Return the pieces that spell the first `length` bytes, or None where no border is there."""
    ends = accumulate((len(pieces.texts[each]) for each in row), initial=0)
    return next((tuple(row[:count]) for count, end in enumerate(ends) if end == length), None)


def _share(found: Iterable[Stem], tail: Stem, *, least: int) -> tuple[frozenset[Stem], int]:
    """Return the stems without what all of them share with the prompt, and how much that is."""
    stems = [each for each in found if each[:least] == tail[:least]]
    shared = least
    while all(len(each) > shared and each[shared] == tail[shared] for each in stems):
        shared += 1
    rests = {each[shared:] for each in stems}
    return frozenset(rest[:size] for rest in rests for size in range(len(rest) + 1)), shared
