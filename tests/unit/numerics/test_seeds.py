"""Streams of one seed: repeatable, apart from each other, the same on every machine."""

from __future__ import annotations

import numpy as np
import pytest

from service.numerics.seeds import MOST_SEED, draw_seed, generator, stream_key


def test_a_stream_is_pinned() -> None:
    # computed once; a change would give every stored seed another meaning
    assert generator(7, "sample", 3).integers(0, 2**63, 2).tolist() == [
        9015089019026896743,
        5291954167936584659,
    ]


def test_the_same_scope_gives_the_same_stream() -> None:
    first, second = (generator(11, "a", 1).random(64) for _ in range(2))
    assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((1,), (2,)),
        ((1, "a"), (1, "b")),
        ((1, "a", "bc"), (1, "ab", "c")),
        ((1, 2), (1, "2")),
        ((1, "x"), (1, b"x")),
        ((1, ""), (1,)),
        ((12, 3), (1, 23)),
    ],
)
def test_scopes_that_differ_share_nothing(
    one: tuple[int, str | int | bytes], other: tuple[int, str | int | bytes]
) -> None:
    assert stream_key(*one) != stream_key(*other)
    assert not np.array_equal(generator(*one).random(8), generator(*other).random(8))


def test_a_lone_surrogate_is_a_scope_too() -> None:
    assert stream_key(1, "\ud800") != stream_key(1, "?")


def test_drawn_seeds_are_in_range_and_differ() -> None:
    seeds = {draw_seed() for _ in range(100)}
    assert len(seeds) == 100
    assert all(0 <= seed <= MOST_SEED for seed in seeds)
