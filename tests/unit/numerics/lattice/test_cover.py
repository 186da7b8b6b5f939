"""What may follow a broken text, against enumeration of every cover."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
import pytest

from service.numerics.lattice.cover import cover_end, first_open_place
from tests.support.lattices import SCORES, segments_of, small_vocabulary

NAMES = list(SCORES)


def covers(rest: str) -> list[tuple[tuple[str, ...], float]]:
    """Return every row of pieces whose last one reaches the end of `rest` or crosses it."""
    if not rest:
        return [((), 0.0)]
    found: list[tuple[tuple[str, ...], float]] = []
    for piece, score in SCORES.items():
        if rest.startswith(piece):
            found += [((piece, *more), score + total) for more, total in covers(rest[len(piece) :])]
        elif piece.startswith(rest):
            found.append(((piece,), score))
    return found


@pytest.mark.parametrize("text", ["a", "ab", "abc", "cab", "bca", "cabc", "天", "a天", "abcab"])
def test_chances_are_those_of_all_covers(text: str) -> None:
    vocabulary = small_vocabulary()
    data = segments_of(text).data
    room = vocabulary.size + 64
    pieces, ends = np.empty(room, np.int32), np.empty(room, np.int32)
    chances, masses = np.empty(room), np.empty(len(data) + 1)
    count = cover_end(
        data,
        0,
        vocabulary.trie.units,
        vocabulary.log_weights(1.0),
        vocabulary.rules,
        masses,
        pieces,
        ends,
        chances,
    )
    wanted: dict[str, float] = defaultdict(float)
    for row, total in covers(text):
        wanted[row[0]] += math.exp(total)
    whole = math.fsum(wanted.values())
    found = {NAMES[pieces[place]]: math.exp(chances[place]) for place in range(count)}
    assert found.keys() == wanted.keys()
    for piece, mass in wanted.items():
        assert found[piece] == pytest.approx(mass / whole, rel=1e-9)
    crossing = {NAMES[pieces[place]] for place in range(count) if ends[place] > len(data)}
    assert crossing == {piece for piece in wanted if len(piece) > len(text)}


@pytest.mark.parametrize(
    ("text", "place"), [("zab", 1), ("zz", 2), ("abc", 1), ("ac", 1), ("天", 0), ("z天气", 7)]
)
def test_the_first_place_that_may_still_change(text: str, place: int) -> None:
    vocabulary = small_vocabulary()
    data = segments_of(text).data
    assert first_open_place(data, 0, 8, vocabulary.trie.units) == place
