from __future__ import annotations

import math
from dataclasses import replace

import pytest

from models.training.recipe import (
    DEEP_NORM,
    Recipe,
    deviation,
    learning_rate,
    residual_scale,
)

RECIPE = Recipe(steps=11, warmup_steps=5, peak_rate=1.0, last_rate=0.1)
DEEP = replace(RECIPE, residual=DEEP_NORM)


def test_the_rate_rises_in_a_line_and_falls_by_half_a_cosine() -> None:
    rates = [learning_rate(RECIPE, step) for step in range(11)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[7] == pytest.approx(0.1 + 0.9 / 2)  # half way down
    assert rates[10] == pytest.approx(0.1)
    assert rates[4:] == sorted(rates[4:], reverse=True)


def test_deep_norm_scales_the_residual_as_the_paper_does() -> None:
    # decoder-only, N layers: alpha = (2N)^(1/4), beta = (8N)^(-1/4)
    assert residual_scale(DEEP, layers=8) == 2.0
    assert residual_scale(DEEP, layers=4) == pytest.approx(8**0.25)
    assert residual_scale(RECIPE, layers=8) == 1.0


@pytest.mark.parametrize(
    ("name", "gain"),
    [
        ("layers.0/attention/query", 1.0),
        ("layers.0/attention/key", 1.0),
        ("layers.0/attention/key_up", 1.0),
        ("layers.3/attention/value", 0.5),
        ("layers.3/attention/value_up", 0.5),
        ("layers.3/attention/output", 0.5),
        ("layers.1/feed_forward/gate", 0.5),
        ("layers.1/feed_forward/up", 0.5),
        ("layers.1/feed_forward/down", 0.5),
    ],
)
def test_deep_norm_draws_values_and_feed_forward_smaller(name: str, gain: float) -> None:
    found = deviation(DEEP, name, (30, 20), layers=2)  # (8 * 2)^(-1/4) = 1/2
    assert found == pytest.approx(gain * math.sqrt(2 / 50))


def test_pre_norm_draws_what_ends_on_the_residual_smaller() -> None:
    glorot = math.sqrt(2 / 50)
    for name in ("attention/output", "feed_forward/down"):
        found = deviation(RECIPE, f"layers.0/{name}", (30, 20), layers=8)
        assert found == pytest.approx(glorot / 4)
    for name in ("attention/query", "attention/value", "feed_forward/up"):
        found = deviation(RECIPE, f"layers.0/{name}", (30, 20), layers=8)
        assert found == pytest.approx(glorot)


def test_the_embedding_has_a_deviation_of_its_own() -> None:
    for recipe in (RECIPE, DEEP):
        assert deviation(recipe, "embedding", (256, 128), layers=4) == 0.1
