"""Everything that the lattice says against enumeration of all segmentations."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from service.numerics.lattice.logspace import score_cuts
from service.numerics.lattice.paths import log_masses
from service.numerics.lattice.per_text import (
    distinct_paths,
    first_version_paths,
    measure,
    measure_one,
    rank_paths,
)
from tests.support.lattices import (
    SCORES,
    draw,
    enumerate_ways,
    holm_rejects,
    law,
    masks,
    p_value,
    printed_mask,
    segments_of,
    small_vocabulary,
)

TEXTS = ("abcabca", "天气a天气", "abzzcab", "abcabcabcab", "zabz")
ALPHAS = (0.0, 0.2, 0.5, 1.0, 2.5)
NAMES = np.zeros(1, np.uint64)
DRAWS = 100_000


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("alpha", [*ALPHAS, 30.0])
def test_log_partition_entropy_and_marginals(text: str, alpha: float) -> None:
    vocabulary, segments = small_vocabulary(), segments_of(text)
    ways = enumerate_ways(text, SCORES)
    chances, log_z = law(ways, alpha)
    logs = vocabulary.log_weights(alpha)
    masses = log_masses(vocabulary, segments, logs)
    entropy, expected, cuts = measure_one(vocabulary, segments, logs, masses)
    assert masses[0] == pytest.approx(log_z, rel=1e-9, abs=1e-12)
    drawn = draw(vocabulary, text, alpha=alpha, seed=1, samples=1)
    assert drawn.log_partitions[0] == pytest.approx(log_z, rel=1e-9, abs=1e-12)
    wanted = -math.fsum(p * math.log(p) for p in chances if p > 0)
    assert entropy == pytest.approx(wanted, rel=1e-9, abs=1e-12)
    counts = [bin(printed_mask(way, SCORES)).count("1") for way in ways]
    assert expected == pytest.approx(math.fsum(chances * counts), rel=1e-9)
    for place in range(len(text.encode()) + 1):
        inside = [place == 0 or place in way.ends for way in ways]
        assert cuts[place] == pytest.approx(math.fsum(chances[inside]), rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("text", TEXTS)
def test_ranked_paths_are_all_paths_in_order(text: str) -> None:
    ways = sorted(enumerate_ways(text, SCORES), key=lambda way: -way.score)
    ranked = rank_paths(small_vocabulary(), segments_of(text), alpha=0.7, most=len(ways) + 3)
    chances, _ = law(ways, 0.7)
    count = int((ranked.paths.counts >= 0).sum())
    assert count == len(ways)
    np.testing.assert_allclose(np.exp(ranked.log_probs[:count]), chances, rtol=1e-9)
    found = masks(ranked.paths.ends, ranked.paths.counts[:count])
    assert Counter(found.tolist()) == Counter(printed_mask(way, SCORES) for way in ways)


@pytest.mark.parametrize("text", ["abcab", "天气a", "zabz"])
def test_the_chance_of_a_given_path(text: str) -> None:
    vocabulary, segments = small_vocabulary(), segments_of(text)
    for way in enumerate_ways(text, SCORES):
        total = score_cuts(
            segments.data,
            segments.bounds,
            segments.fixed,
            vocabulary.trie.units,
            vocabulary.log_weights(1.0),
            vocabulary.rules,
            np.array(way.ends, np.int64),
        )
        assert total == pytest.approx(way.score, rel=1e-12)


def chi_square(text: str, alpha: float, seed: int) -> float:
    ways = enumerate_ways(text, SCORES)
    chances, _ = law(ways, alpha)
    expected: dict[int, float] = {}
    for way, chance in zip(ways, chances, strict=True):
        mask = printed_mask(way, SCORES)
        expected[mask] = expected.get(mask, 0.0) + float(chance)
    drawn = draw(small_vocabulary(), text, alpha=alpha, seed=seed, samples=DRAWS)
    values, counts = np.unique(masks(drawn.paths.ends, drawn.paths.counts), return_counts=True)
    observed = dict(zip(values.tolist(), counts.tolist(), strict=True))
    return p_value(observed, expected, DRAWS)


def test_samples_follow_the_law() -> None:
    cells = [(text, alpha, seed) for text in TEXTS for alpha in ALPHAS for seed in (1, 2)]
    assert len(cells) >= 50
    values = [chi_square(*cell) for cell in cells]
    assert holm_rejects(values) == []


@pytest.mark.parametrize("text", TEXTS)
def test_samples_in_logarithms_follow_the_same_law(text: str) -> None:
    # A piece that no text holds, with a score beyond plain numbers, sends every draw into logs.
    scores = {**SCORES, "q": -1e6}
    vocabulary, plain = small_vocabulary(scores), small_vocabulary()
    assert plain.fits_linear(0.5)
    assert not vocabulary.fits_linear(0.5)
    ways = enumerate_ways(text, SCORES)
    chances, log_z = law(ways, 0.5)
    expected: dict[int, float] = {}
    for way, chance in zip(ways, chances, strict=True):
        mask = printed_mask(way, SCORES)
        expected[mask] = expected.get(mask, 0.0) + float(chance)
    drawn = draw(vocabulary, text, alpha=0.5, seed=9, samples=20_000)
    values, counts = np.unique(masks(drawn.paths.ends, drawn.paths.counts), return_counts=True)
    observed = dict(zip(values.tolist(), counts.tolist(), strict=True))
    assert drawn.log_partitions[0] == pytest.approx(log_z, rel=1e-9)
    assert p_value(observed, expected, 20_000) > 1e-4


def test_weights_far_beyond_plain_numbers_give_the_best_path() -> None:
    vocabulary = small_vocabulary({piece: 1000 * score for piece, score in SCORES.items()})
    best = max(enumerate_ways("abcabca", SCORES), key=lambda way: way.score)
    drawn = draw(vocabulary, "abcabca", alpha=100.0, seed=9, samples=50)
    assert set(masks(drawn.paths.ends, drawn.paths.counts).tolist()) == {printed_mask(best, SCORES)}


def test_the_first_rule_is_rejected_by_the_same_test() -> None:
    text, alpha = "abcabcabcab", 0.2
    ways = enumerate_ways(text, SCORES)
    chances, _ = law(ways, alpha)
    expected = {printed_mask(way, SCORES): float(p) for way, p in zip(ways, chances, strict=True)}
    drawn = first_version_paths(
        small_vocabulary(),
        segments_of(text),
        alpha=alpha,
        samples=20_000,
        key=np.array([1, 2], np.uint64),
        names=NAMES,
    )
    values, counts = np.unique(masks(drawn.paths.ends, drawn.paths.counts), return_counts=True)
    observed = dict(zip(values.tolist(), counts.tolist(), strict=True))
    assert p_value(observed, expected, 20_000) < 1e-12


def test_the_first_rule_halves_among_equal_routes() -> None:
    # Three routes into one place: 1/4, 1/4, 1/2 where the law says 1/3 each.
    scores = {"a": -1.0, "b": -1.0, "c": -1.0, "ab": -2.0, "abc": -3.0, "bc": -2.0}
    scores.pop("bc")
    ways = enumerate_ways("abc", scores, None)
    assert len(ways) == 3
    drawn = first_version_paths(
        small_vocabulary(scores, unknown=None),
        segments_of("abc"),
        alpha=1.0,
        samples=40_000,
        key=np.array([1, 2], np.uint64),
        names=NAMES,
    )
    counted = Counter(masks(drawn.paths.ends, drawn.paths.counts).tolist())
    shares = sorted(count / 40_000 for count in counted.values())
    np.testing.assert_allclose(shares, [0.25, 0.25, 0.5], atol=0.015)


def test_draws_without_replacement_are_distinct_and_start_like_a_draw() -> None:
    text, alpha, draws = "abcabca", 0.5, 4000
    vocabulary, segments = small_vocabulary(), segments_of(text)
    ways = enumerate_ways(text, SCORES)
    chances, _ = law(ways, alpha)
    expected = {printed_mask(way, SCORES): float(p) for way, p in zip(ways, chances, strict=True)}
    first: Counter[int] = Counter()
    sums = np.zeros(draws)
    for number in range(draws):
        sampled, inclusion = distinct_paths(
            vocabulary,
            segments,
            alpha=alpha,
            most=4,
            key=np.array([11, 12], np.uint64),
            names=np.array([number], np.uint64),
        )
        found = masks(sampled.paths.ends, sampled.paths.counts).tolist()
        assert len(set(found)) == 4
        first[found[0]] += 1
        # Horvitz-Thompson: weighted by one over the chance of inclusion, the sample sums to 1.
        sums[number] = np.exp(sampled.log_probs - inclusion).sum()
    assert p_value(dict(first), expected, draws) > 0.001
    assert sums.mean() == pytest.approx(1.0, abs=4 * sums.std() / math.sqrt(draws))


def test_fewer_paths_than_asked_for_are_all_certain() -> None:
    sampled, inclusion = distinct_paths(
        small_vocabulary(),
        segments_of("ab"),
        alpha=1.0,
        most=5,
        key=np.array([1, 1], np.uint64),
        names=NAMES,
    )
    assert sampled.paths.counts.tolist()[2:] == [-1, -1, -1]
    assert inclusion[:2].tolist() == [0.0, 0.0]
    assert np.exp(sampled.log_probs[:2]).sum() == pytest.approx(1.0)


@pytest.mark.parametrize("alpha", [0.0, 0.1, 1.0])
def test_a_long_text_needs_no_logarithms(alpha: float) -> None:
    text = "abcabca天气" * 3000
    vocabulary = small_vocabulary()
    drawn = draw(vocabulary, text, alpha=alpha, seed=5, samples=3)
    masses = log_masses(vocabulary, segments_of(text), vocabulary.log_weights(alpha))
    assert drawn.log_partitions[0] == pytest.approx(masses[0], rel=1e-9)
    assert np.isfinite(drawn.log_probs).all()
    bounds = np.cumsum(drawn.paths.counts)
    assert (drawn.paths.ends[bounds - 1] == len(text.encode())).all()


def test_entropy_of_a_long_text_is_that_of_its_parts() -> None:
    # z is covered by no piece, so no piece crosses it: the parts are independent.
    vocabulary = small_vocabulary()
    one, _ = measure(vocabulary, segments_of("abcabz"), alpha=1.0)
    many, _ = measure(vocabulary, segments_of("abcabz" * 500), alpha=1.0)
    assert many[0] == pytest.approx(500 * one[0], rel=1e-9)


def test_a_byte_vocabulary_may_leave_a_text_uncovered() -> None:
    vocabulary = small_vocabulary({"a": -1.0, "ab": -1.0}, unknown=None)
    assert np.isnan(draw(vocabulary, "ac", alpha=1.0, seed=1, samples=2).log_partitions[0])
    assert draw(vocabulary, "aab", alpha=1.0, seed=1, samples=2).paths.counts.tolist() == [2, 2]
