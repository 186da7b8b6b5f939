"""What counts as near, and what is about an aspect."""

from __future__ import annotations

import numpy as np
import pytest

from service.capabilities.summarization.numerics.nearness import (
    closeness,
    names_seed,
    support_radius,
)
from service.numerics.vectors import unit_rows


def test_the_radius_leaves_one_in_a_hundred_unrelated_pairs_inside() -> None:
    drawn = np.random.default_rng(1).normal(size=(60, 16)).astype(np.float32)
    background = unit_rows(drawn)
    subjects = np.repeat(np.arange(30), 2)
    radius = support_radius(background, subjects)
    cosines = background @ background.T
    unrelated = cosines[subjects[:, None] != subjects]
    assert np.mean(np.arccos(unrelated) <= radius) == pytest.approx(0.01, abs=0.002)


def test_closeness_is_in_standard_deviations_and_of_the_nearest_seed() -> None:
    background = unit_rows(np.random.default_rng(2).normal(size=(50, 8)).astype(np.float32))
    seeds = np.eye(8, dtype=np.float32)[:2]
    found = closeness(seeds, seeds, background)
    usual = background @ seeds.T
    expected = (1 - usual.mean(axis=0)) / usual.std(axis=0)
    assert found == pytest.approx(expected, rel=1e-5)


def test_a_seed_is_named_by_all_of_its_words() -> None:
    stems = [["the", "wifi", "speed"], ["wifi"], ["slow", "speed", "of", "wifi"], []]
    assert names_seed(stems, [["wifi", "speed"]]).tolist() == [True, False, True, False]
    assert names_seed(stems, [["wifi"], ["slow"]]).tolist() == [True, True, True, False]
    assert names_seed(stems, [["a", "b", "c", "d"], []]).tolist() == [False] * 4
