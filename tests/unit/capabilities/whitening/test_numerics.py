"""Rank correlation against scipy, a grid against applying it, and an honest verdict."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from scipy.stats import rankdata, spearmanr

from service.capabilities.whitening.numerics import Cell, Labelled, Ranking, Tuned, tune
from service.errors import InvalidInput
from service.numerics.moments import Moments, measure_moments
from service.numerics.seeds import generator
from service.numerics.vectors import pair_cosines
from service.numerics.whitening import Axes, Shrinkage, find_axes, make_kernel, whiten

GRID = [Cell(beta, gamma, k) for beta in (0.0, 1.0) for gamma in (0.0, 0.5, 1.0) for k in (12, 5)]


def axes_of(moments: Moments, beta: float) -> Axes:
    return find_axes(moments, beta=beta, shrinkage=Shrinkage.NONE)


def labelled(*, pairs: int = 200, noise: float = 0.3, seed: int = 0) -> Labelled:
    """Return pairs whose labels follow directions of little variance beside loud ones."""
    random = np.random.default_rng(seed)
    meaning = random.standard_normal((2 * pairs, 6)) * 0.2
    meaning[1::2] = meaning[::2] + random.standard_normal((pairs, 6)) * random.uniform(
        0, 0.6, (pairs, 1)
    )
    loud = random.standard_normal((2 * pairs, 6)) * 5 + 3
    vectors = np.hstack([meaning, loud]).astype(np.float32)
    truth = pair_cosines(meaning[::2].astype(np.float32), meaning[1::2].astype(np.float32)).astype(
        np.float64
    )
    scores = truth + noise * random.standard_normal(pairs)
    rows = np.arange(2 * pairs)
    return Labelled(vectors, rows[::2], rows[1::2], scores)


def search(pairs: Labelled, *, cells: list[Cell] = GRID, seed: int = 1, folds: int = 5) -> Tuned:
    return tune(
        pairs,
        cells,
        axes=partial(axes_of, measure_moments(pairs.vectors)),
        folds=folds,
        seed=seed,
        progress=lambda *_: None,
    )


def test_ranks_of_ties_are_their_mean() -> None:
    ranking = Ranking.of(np.array([3.0, 1, 3, 2]))
    assert ranking.ranks(np.ones((1, 4))).tolist() == [[3.5, 1, 3.5, 2]]
    # the first value twice, the second not at all: 2, 3, 3, 3
    assert ranking.ranks(np.array([[2, 0, 1, 1]]))[0, [0, 2, 3]].tolist() == [3, 3, 1]


def test_weighted_correlation_is_that_of_repeated_values() -> None:
    random = np.random.default_rng(4)
    left, right = random.integers(0, 7, 50).astype(float), random.standard_normal(50)
    right += left
    weights = random.multinomial(50, np.full(50, 1 / 50), size=6)
    found = Ranking.of(left).spearman(Ranking.of(right), weights)
    for row, correlation in zip(weights, found, strict=True):
        expected = spearmanr(np.repeat(left, row), np.repeat(right, row))[0]
        assert correlation == pytest.approx(expected)


def test_a_constant_has_no_correlation() -> None:
    ones = np.ones((1, 3))
    assert Ranking.of(np.ones(3)).spearman(Ranking.of(np.arange(3.0)), ones) == [0]


def test_each_cell_is_what_applying_it_gives() -> None:
    pairs = labelled()
    moments = measure_moments(pairs.vectors)
    found = search(pairs)
    for cell, correlation in zip(found.cells, found.table, strict=True):
        axes = axes_of(moments, cell.beta)
        rows = whiten(
            pairs.vectors, make_kernel(axes, gamma=cell.gamma, dimensions=cell.dimensions)
        )
        cosines = pair_cosines(rows[pairs.first], rows[pairs.second])
        assert correlation == pytest.approx(spearmanr(cosines, pairs.scores)[0], abs=1e-4)
    raw = pair_cosines(pairs.vectors[pairs.first], pairs.vectors[pairs.second])
    assert found.baseline == pytest.approx(spearmanr(raw, pairs.scores)[0])
    assert found.best == found.table.argmax()


def test_quiet_directions_are_brought_out() -> None:
    found = search(labelled())
    assert found.gains
    assert 0 < found.interval[0] < found.held_out - found.baseline < found.interval[1]
    assert found.cells[found.best].gamma == 1
    assert found.cells[found.best].dimensions == 12


def test_labels_of_chance_gain_nothing() -> None:
    verdicts = []
    for seed in range(20):
        pairs = labelled(seed=seed)
        chance = np.random.default_rng(seed).permutation(pairs.scores)
        verdicts.append(
            search(Labelled(pairs.vectors, pairs.first, pairs.second, chance), seed=seed).gains
        )
    assert sum(verdicts) <= 3


def test_copies_of_pairs_are_no_evidence() -> None:
    for seed in range(5):
        pairs = labelled(pairs=60, seed=seed)
        chance = np.tile(np.random.default_rng(seed).permutation(pairs.scores), 4)
        sides = [np.tile(side, 2) for side in (pairs.first, pairs.second)]
        # half of the copies are turned round
        first, second = np.concatenate(sides), np.concatenate(sides[::-1])
        found = search(Labelled(pairs.vectors, first, second, chance), seed=seed)
        once = search(Labelled(pairs.vectors, pairs.first, pairs.second, chance[:60]), seed=seed)
        assert found.chosen == once.chosen
        assert found.interval == pytest.approx(once.interval)


def test_held_out_pairs_do_not_choose_their_own_cell() -> None:
    pairs = labelled(pairs=60)
    found = search(pairs, folds=3)
    # in the table the best cell was chosen on all pairs; held out can only be chance better
    assert found.held_out < found.table[found.best] + 0.02
    one = search(pairs, cells=[GRID[0]], folds=3)
    assert one.held_out == pytest.approx(one.table[0])
    assert set(one.chosen) == {0}


def test_each_fold_is_ranked_by_the_cell_that_the_others_chose() -> None:
    pairs = labelled(pairs=40, noise=20, seed=3)  # the labels are nearly all noise
    cells = [Cell(beta, gamma, 12) for beta in (0.0, 1.0) for gamma in (0.0, 0.5, 1.0)]
    found = search(pairs, cells=cells, folds=8)
    assert len(set(found.chosen)) > 1
    moments = measure_moments(pairs.vectors)
    fold_of = generator(1, "whitening", "folds").permutation(40) % 8
    columns = []
    for cell in cells:
        rows = whiten(
            pairs.vectors, make_kernel(axes_of(moments, cell.beta), gamma=cell.gamma, dimensions=12)
        )
        columns.append(pair_cosines(rows[pairs.first], rows[pairs.second]))
    for fold, chosen in enumerate(found.chosen):
        others = fold_of != fold
        scores = [spearmanr(column[others], pairs.scores[others])[0] for column in columns]
        assert scores[chosen] == pytest.approx(max(scores))
    ranks = [rankdata(columns[found.chosen[fold]])[pair] for pair, fold in enumerate(fold_of)]
    assert found.held_out == pytest.approx(spearmanr(ranks, pairs.scores)[0])


def test_the_same_seed_gives_the_same_answer() -> None:
    pairs = labelled(pairs=40)
    first, again, other = (search(pairs, seed=seed) for seed in (5, 5, 6))
    assert first.interval == again.interval
    assert first.held_out == again.held_out
    assert first.interval != other.interval


def test_constant_scores_are_refused() -> None:
    pairs = labelled(pairs=12)
    flat = Labelled(pairs.vectors, pairs.first, pairs.second, np.full(12, 2.5))
    with pytest.raises(InvalidInput, match=r"All 12 scores are 2\.5"):
        search(flat)


def test_what_calls_off_the_work_gets_through() -> None:
    def leave(*_: Any) -> None:
        raise TimeoutError

    pairs = labelled(pairs=12)
    with pytest.raises(TimeoutError):
        tune(
            pairs,
            GRID,
            axes=partial(axes_of, measure_moments(pairs.vectors)),
            folds=2,
            seed=1,
            progress=leave,
        )
