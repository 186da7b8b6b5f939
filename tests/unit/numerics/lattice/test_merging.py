"""Byte-pair merges with dropout."""

from __future__ import annotations

import numpy as np
import pytest

from service.numerics.lattice.merging import merge_symbols

# The example of Sennrich et al.: l o w e r, merges in the order that they were learnt.
A, B, C, AB, BC, ABC = range(6)
PAIRS = {(A, B): (0.0, AB), (B, C): (1.0, BC), (AB, C): (2.0, ABC)}


def merge(symbols: list[int], dropout: float, sample: int = 0) -> list[int]:
    keys = np.array([left << 32 | right for left, right in PAIRS], np.int64)
    order = np.argsort(keys)
    ids = np.array(symbols, np.int32)
    ends = np.arange(1, len(symbols) + 1, dtype=np.int32)
    size = merge_symbols(
        ids,
        ends,
        keys[order],
        np.array([rank for rank, _ in PAIRS.values()])[order],
        np.array([joined for _, joined in PAIRS.values()], np.int32)[order],
        dropout,
        np.array([1, 2], np.uint64),
        np.uint64(0),
        np.uint64(sample),
        np.uint64(0),
    )
    return ids[:size].tolist()


@pytest.mark.parametrize(
    ("symbols", "wanted"),
    [([A, B, C], [ABC]), ([A, B, A, B, C, B, C], [AB, ABC, BC]), ([A], [A]), ([C, A], [C, A])],
)
def test_the_best_pair_merges_first(symbols: list[int], wanted: list[int]) -> None:
    assert merge(symbols, 0.0) == wanted


def test_full_dropout_leaves_the_symbols_alone() -> None:
    assert merge([A, B, C, A, B], 1.0) == [A, B, C, A, B]


def test_each_merge_is_passed_over_with_its_probability() -> None:
    # a b c: ab passed over (p) leads to bc (1-p) or nothing; ab made leads to abc (1-p) or ab c.
    p, draws = 0.3, 40_000
    outcomes = [tuple(merge([A, B, C], p, sample)) for sample in range(draws)]
    for outcome, chance in {
        (ABC,): (1 - p) * (1 - p),
        (AB, C): (1 - p) * p,
        (A, BC): p * (1 - p),
        (A, B, C): p * p,
    }.items():
        share = outcomes.count(outcome) / draws
        assert share == pytest.approx(chance, abs=4 * (chance * (1 - chance) / draws) ** 0.5)
