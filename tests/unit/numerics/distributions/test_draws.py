"""Perturbed-argmax draws: their law, their seeds, and what can never be drawn."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from scipy.stats import chisquare

from service.errors import InvalidInput
from service.numerics.distributions.draws import draw_with_replacement, draw_without_replacement
from service.numerics.distributions.maps import noise_map
from service.numerics.seeds import generator

SCORES = np.array([0.0, -0.4, -0.9, -1.5, -2.2])
SILENT = lambda *_: None  # noqa: E731
NAMES = ["gumbel", "gaussian", "logistic", "exponential", "uniform"]


@pytest.mark.parametrize("noise", NAMES)
def test_draws_follow_the_map(noise: str) -> None:
    drawn = draw_with_replacement(
        SCORES, generator(5, "draws"), noise=noise, draws=100_000, progress=SILENT
    )
    expected = noise_map(SCORES[np.newaxis], noise=noise).probabilities[0]
    counts = np.bincount(drawn.indices, minlength=5)
    possible = expected > 0
    assert counts[~possible].sum() == 0
    assert chisquare(counts[possible], 100_000 * expected[possible]).pvalue > 1e-4


def test_gumbel_ranks_are_draws_without_replacement() -> None:
    p = np.exp(SCORES[:3]) / np.exp(SCORES[:3]).sum()
    found: dict[tuple[int, ...], int] = dict.fromkeys(permutations(range(3), 2), 0)
    for number in range(20_000):
        drawn = draw_without_replacement(SCORES[:3], generator(9, number), noise="gumbel", draws=2)
        found[tuple(drawn.indices.tolist())] += 1
    expected = [20_000 * p[i] * p[j] / (1 - p[i]) for i, j in found]
    assert chisquare(list(found.values()), expected).pvalue > 1e-4


@pytest.mark.parametrize("noise", NAMES)
def test_a_stream_gives_the_same_draws_whatever_the_block(
    noise: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def draw() -> list[int]:
        rng = generator(1, "block")
        return draw_with_replacement(
            SCORES, rng, noise=noise, draws=500, progress=SILENT
        ).indices.tolist()

    whole = draw()
    monkeypatch.setattr("service.numerics.distributions.draws._BLOCK", 15)
    assert draw() == whole


@pytest.mark.parametrize("noise", NAMES)
def test_masked_entries_are_never_drawn(noise: str) -> None:
    scores = np.array([-np.inf, 0.0, -np.inf, -0.1])
    rng = generator(2, "mask")
    drawn = draw_with_replacement(scores, rng, noise=noise, draws=2000, progress=SILENT)
    assert set(drawn.indices.tolist()) <= {1, 3}
    ranks = draw_without_replacement(scores, rng, noise=noise, draws=2)
    assert sorted(ranks.indices.tolist()) == [1, 3]
    assert ranks.perturbed[0] >= ranks.perturbed[1]
    with pytest.raises(InvalidInput, match=r"3 draws .* 2 open"):
        draw_without_replacement(scores, rng, noise=noise, draws=3)


def test_the_perturbed_score_is_that_of_the_drawn_entry() -> None:
    drawn = draw_with_replacement(
        np.array([0.0, -1e6]), generator(3), noise="uniform", draws=100, progress=SILENT
    )
    assert set(drawn.indices.tolist()) == {0}
    assert (drawn.perturbed >= 0).all()
    assert (drawn.perturbed < 1).all()


def test_progress_can_stop_the_draws() -> None:
    def stop(stage: str, done: int, total: int) -> None:
        raise TimeoutError(f"{stage} {done} of {total}")

    with pytest.raises(TimeoutError, match=r"draw 10 of 10"):
        draw_with_replacement(SCORES, generator(1), noise="gumbel", draws=10, progress=stop)
