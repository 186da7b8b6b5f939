"""The law of what comes next, against enumeration of every cover."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from service.numerics.healing.covers import Ahead, CoverSearch, Healing
from service.numerics.healing.pieces import sort_pieces
from service.numerics.healing.reopening import Reopened, Stem, reopen
from tests.support.byte_pairs import enumerate_covers, letter_tokenizer, next_logits

TOKENIZER = letter_tokenizer()
PIECES = TOKENIZER.pieces
SIZE = len(PIECES.texts)
prompts = st.text("abc", min_size=2, max_size=9)


def search(
    kept: list[int], found: Reopened, *, tolerance: float = 0.0, most: int = 10_000
) -> Ahead:
    walk = CoverSearch(found, PIECES, tolerance=tolerance, most=most)
    while (stem := walk.wanted()) is not None:
        walk.give(next_logits([*kept, *stem], SIZE))
    return walk.ahead()


def law(covers: list[tuple[Stem, float]], stem: Stem) -> dict[int, float]:
    """Return the chance of each piece after a stem, from a list of covers."""
    masses: dict[int, float] = defaultdict(float)
    for cover, weight in covers:
        if cover[: len(stem)] == stem:
            masses[cover[len(stem)]] += math.exp(weight)
    whole = math.fsum(masses.values())
    return {piece: mass / whole for piece, mass in masses.items()}


def check_law(kept: list[int], found: Reopened, stems: set[Stem] | None) -> None:
    """Follow every stem and compare what may come next with the enumeration."""
    covers = list(enumerate_covers(PIECES, kept, found.removed, stems))
    ahead = search(kept, found)
    assert ahead.dropped == 0
    whole = math.fsum(math.exp(weight) for _, weight in covers)
    assert math.exp(ahead.masses[()]) == pytest.approx(whole, rel=1e-12)
    inner = {cover[:size] for cover, _ in covers for size in range(len(cover))}
    for stem in inner:
        healing = Healing(found, PIECES, ahead=ahead)
        for piece in stem:
            healing.advance(piece)
        chances = softmax(healing.weigh(next_logits([*kept, *stem], SIZE)))
        wanted = law(covers, stem)
        assert set(np.flatnonzero(chances)) == wanted.keys()
        for piece, chance in wanted.items():
            assert chances[piece] == pytest.approx(chance, rel=1e-12)


@given(prompt=prompts)
def test_the_law_over_any_rows_of_pieces_is_exact(prompt: str) -> None:
    ids = TOKENIZER.ids(prompt)
    found = reopen(ids, PIECES)
    if found.removed:
        check_law(ids[: found.kept], found, None)


@given(prompt=prompts)
def test_the_law_over_what_the_tokenizer_writes_is_exact(prompt: str) -> None:
    ids = TOKENIZER.ids(prompt)
    found = reopen(ids, PIECES, encode=TOKENIZER.encode)
    if found.removed:
        kept = ids[: found.kept]
        start = len(TOKENIZER.text(kept))
        # told anew: each place, the prompt up to it, encoded whole
        written = (TOKENIZER.ids(prompt[:end]) for end in range(start, len(prompt) + 1))
        rows = [row[len(kept) :] for row in written if row[: len(kept)] == kept]
        stems = {tuple(row[:size]) for row in rows for size in range(len(row) + 1)}
        check_law(kept, found, stems)


def test_a_worked_example() -> None:
    # prompt "ab" after something kept; pieces ab, abc cross or reach; a + b also covers
    pieces = sort_pieces([b"a", b"b", b"ab", b"abc", b"x"])
    found = Reopened(1, b"ab", None)
    rows: dict[Stem, list[float]] = {
        (): [0.4, 0.1, 0.2, 0.1, 0.2],
        (0,): [0.1, 0.5, 0.1, 0.1, 0.2],
    }
    walk = CoverSearch(found, pieces, tolerance=0.0)
    while (stem := walk.wanted()) is not None:
        walk.give(np.log(rows[stem]))
    ahead = walk.ahead()
    assert math.exp(ahead.masses[()]) == pytest.approx(0.4 * 0.5 + 0.2 + 0.1)
    chances = softmax(Healing(found, pieces, ahead=ahead).weigh(np.log(rows[()])))
    assert chances == pytest.approx([0.4, 0, 0.4, 0.2, 0])
    # without looking ahead, "a" keeps its whole weight
    chances = softmax(Healing(found, pieces).weigh(np.log(rows[()])))
    assert chances == pytest.approx([4 / 7, 0, 2 / 7, 1 / 7, 0])


@given(prompt=prompts, most=st.integers(1, 6))
def test_what_was_dropped_is_never_more_than_said(prompt: str, most: int) -> None:
    ids = TOKENIZER.ids(prompt)
    found = reopen(ids, PIECES)
    if not found.removed:
        return
    kept = ids[: found.kept]
    whole = search(kept, found).masses[()]
    part = search(kept, found, most=most)
    missing = 1 - math.exp(part.masses.get((), -math.inf) - whole)
    assert -1e-12 <= missing <= part.dropped + 1e-12
    assert part.asked <= most


@given(prompt=prompts, tolerance=st.floats(1e-6, 0.5))
def test_a_search_stops_when_the_rest_cannot_matter(prompt: str, tolerance: float) -> None:
    ids = TOKENIZER.ids(prompt)
    found = reopen(ids, PIECES)
    part = search(ids[: found.kept], found, tolerance=tolerance)
    assert part.dropped <= tolerance


@given(prompt=prompts, seed=st.integers(0, 2**32))
def test_what_is_drawn_always_begins_with_the_prompt(prompt: str, seed: int) -> None:
    ids = TOKENIZER.ids(prompt)
    chance = np.random.default_rng(seed)
    found = reopen(ids, PIECES, encode=TOKENIZER.encode)
    for ahead in (None, search(ids[: found.kept], found)):
        row, healing = ids[: found.kept], Healing(found, PIECES, ahead=ahead)
        while not healing.over:
            chances = softmax(healing.weigh(next_logits(row, SIZE)))
            row = [*row, int(chance.choice(SIZE, p=chances))]
            healing.advance(row[-1])
        assert TOKENIZER.text(row) == prompt.encode() + healing.surplus


def test_a_special_token_is_never_allowed() -> None:
    end = SIZE - 1
    ids = TOKENIZER.ids("ca")
    found = reopen(ids, PIECES)
    assert found.removed
    assert end not in Healing(found, PIECES).allowed().ids
    with pytest.raises(ValueError, match="does not fit"):
        Healing(found, PIECES).advance(end)


def test_a_piece_that_does_not_fit_is_refused() -> None:
    healing = Healing(Reopened(1, b"ab", None), PIECES)
    with pytest.raises(ValueError, match=r"piece 1 .* does not fit b'ab'"):
        healing.advance(1)


def test_nothing_removed_is_over_at_once() -> None:
    found = Reopened(3, b"", None)
    healing = Healing(found, PIECES)
    assert healing.over
    assert healing.surplus == b""
    assert CoverSearch(found, PIECES).wanted() is None


def test_a_stem_without_any_mass_is_no_way_on() -> None:
    found = Reopened(1, b"ab", None)
    pieces = sort_pieces([b"a", b"ab", b"abc"])
    walk = CoverSearch(found, pieces, tolerance=0.0)
    while (stem := walk.wanted()) is not None:
        walk.give(np.zeros(3))
        assert stem in {(), (0,)}
    ahead = walk.ahead()
    # after "a" no piece begins with b
    assert (0,) not in ahead.masses
    assert Healing(found, pieces, ahead=ahead).allowed().ids.tolist() == [1, 2]
