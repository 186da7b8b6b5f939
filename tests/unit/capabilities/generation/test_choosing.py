"""From a row of logits to a token."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from scipy import stats

from service.capabilities.generation.numerics.choosing import Sampling, Stream, choose
from service.errors import InvalidModelOutput
from service.numerics.distributions.choice import MapName, ProbabilityMap, map_logits
from service.numerics.dtypes import Vector32

# The worked example of the maps: softmax gives [.5630212 .2071239 .1256270 .0761966 .0280312].
ROW = np.array([2, 1, 0.5, 0, -1], dtype=np.float32)
SOFTMAX = np.array([0.5630212, 0.2071239, 0.1256270, 0.0761966, 0.0280312])
DRAWS = 600


def drawn(
    sampling: Sampling, row: Vector32 = ROW, counts: Mapping[int, int] | None = None
) -> list[int]:
    stream = Stream(7)
    return [choose(row, sampling, stream.at(t), counts=counts or {}).id for t in range(DRAWS)]


def require_law(found: list[int], law: np.ndarray) -> None:
    """Check counts against a law by a chi-square test that fails once in 10,000 good runs."""
    counts = np.bincount(found, minlength=len(law))
    assert not counts[law == 0].any()
    open_ = law > 0
    test = stats.chisquare(counts[open_], law[open_] / law[open_].sum() * len(found))
    assert open_.sum() == 1 or test.pvalue > 1e-4


def test_log_probabilities_are_the_models_own() -> None:
    found = choose(
        ROW,
        Sampling(temperature=0, top_log_probs=3, logit_bias={0: 5}),
        Stream(0).at(0),
        counts={},
    )
    assert found.id == 0
    assert found.log_prob == pytest.approx(np.log(SOFTMAX[0]), abs=1e-6)
    assert [place for place, _ in found.top] == [0, 1, 2]
    assert [value for _, value in found.top] == pytest.approx(np.log(SOFTMAX[:3]), abs=1e-6)


@pytest.mark.parametrize(
    ("sampling", "law"),
    [
        (Sampling(), SOFTMAX),
        (Sampling(temperature=0.5), SOFTMAX**2),
        (Sampling(top_k=2), SOFTMAX * [1, 1, 0, 0, 0]),
        (Sampling(top_p=0.8), SOFTMAX * [1, 1, 1, 0, 0]),
        (Sampling(top_p=0.77), SOFTMAX * [1, 1, 0, 0, 0]),
        (Sampling(min_p=0.3), SOFTMAX * [1, 1, 0, 0, 0]),
        # renormalised over three the first two reach 0.86 of the mass
        (Sampling(top_k=3, top_p=0.85), SOFTMAX * [1, 1, 0, 0, 0]),
        (Sampling(temperature=2, min_p=0.3), np.sqrt(SOFTMAX) * [1, 1, 1, 1, 0]),
        (Sampling(logit_bias={4: 100.0}), np.array([0, 0, 0, 0, 1.0])),
    ],
)
def test_draws_follow_their_law(sampling: Sampling, law: np.ndarray) -> None:
    require_law(drawn(sampling), law)


@pytest.mark.parametrize("name", list(MapName))
def test_every_map_can_be_drawn_from(name: MapName) -> None:
    mapping = ProbabilityMap(name=name, scale=1.5, match_variance=True, k=3, p=0.8)
    law = map_logits(
        ROW[np.newaxis].astype(np.float64) / 0.8, mapping, progress=lambda *_: None
    ).probabilities[0]
    require_law(drawn(Sampling(temperature=0.8, mapping=mapping)), law)


def test_what_cannot_come_does_not() -> None:
    row = np.where([False, True, False, True, True], ROW, -np.inf).astype(np.float32)
    law = SOFTMAX * [0, 1, 0, 1, 1]
    require_law(drawn(Sampling(), row), law)
    require_law(drawn(Sampling(top_k=4, top_p=0.999), row), law)
    top = choose(row, Sampling(temperature=0, top_log_probs=5), Stream(0).at(0), counts={}).top
    assert [place for place, _ in top] == [1, 3, 4]


def test_penalties_count_what_was_generated() -> None:
    sampling = Sampling(presence_penalty=0.5, frequency_penalty=0.25)
    bent = ROW - np.array([0.5 + 3 * 0.25, 0.75, 0, 0, 0])
    require_law(drawn(sampling, counts={0: 3, 1: 1}), np.exp(bent) / np.exp(bent).sum())


def test_a_token_draws_from_its_own_numbers() -> None:
    one = [Stream(3).at(t).random() for t in range(5)]
    assert [Stream(3).at(t).random() for t in (4, 2)] == [one[4], one[2]]
    assert len({*one, Stream(4).at(0).random(), Stream(3, index=1).at(0).random()}) == 7


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_model_that_fails_is_named(bad: float) -> None:
    row = ROW.copy()
    row[2] = bad
    with pytest.raises(InvalidModelOutput):
        choose(row, Sampling(), Stream(0).at(0), counts={})


@pytest.mark.parametrize("temperature", [1e-320, 1e-35, 1e-9, 1e35])
def test_no_temperature_overflows(temperature: float) -> None:
    row = np.array([80, -90, 79, -np.inf], dtype=np.float32)
    found = {
        choose(row, Sampling(temperature=temperature), Stream(1).at(t), counts={}).id
        for t in range(60)
    }
    assert found == ({0, 1, 2} if temperature > 1 else {0})
