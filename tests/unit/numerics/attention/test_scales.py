"""Row scales: worked values, the published entropies of synthetic scores, and refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import softmax

from service.errors import InvalidInput
from service.numerics.attention.scales import ScaleName, ScaleScheme, row_scale
from service.numerics.seeds import generator


def factors(lengths: list[int], **scheme: object) -> list[float]:
    found = row_scale(ScaleScheme(**scheme), np.array(lengths), head_dim=64)  # type: ignore[arg-type]
    return list(found)


def test_worked_values() -> None:
    assert factors([1, 512, 8192]) == [1, 1, 1]
    assert factors([1, 512, 8192], name=ScaleName.LOG_N) == pytest.approx([0, 1, 13 / 9])
    assert factors([4, 16], name=ScaleName.LOG_N, length=4) == pytest.approx([1, 2])
    dagger = factors([1, 8, 64], name=ScaleName.LOG_N_DAGGER, length=8)
    assert dagger == pytest.approx([1, 1, 2])
    # q·k times 0.125 is what a head of 64 does already
    assert factors([5], name=ScaleName.VALUE, value=0.125) == pytest.approx([1])


def mean_entropy(n: int, scale: ScaleName) -> float:
    scores = generator(3, "entropy", n).standard_normal((64, n)) * 3
    factor = row_scale(ScaleScheme(name=scale), np.array([n]), head_dim=64)[0]
    p = softmax(scores * factor, axis=1)
    return float(-(p * np.log(p)).sum(axis=1).mean())


def test_log_n_holds_the_entropy_of_synthetic_scores() -> None:
    # scores of standard deviation 3; at 512 the two scales are one by definition
    plain = [mean_entropy(n, ScaleName.SQRT) for n in (512, 8192)]
    scaled = [mean_entropy(n, ScaleName.LOG_N) for n in (512, 8192)]
    assert plain[0] == scaled[0]
    assert plain[1] - plain[0] >= 1.5
    assert abs(scaled[1] - scaled[0]) <= 0.3


@pytest.mark.parametrize("length", [1, 0, -4])
def test_a_length_without_a_logarithm_is_refused(length: int) -> None:
    with pytest.raises(InvalidInput, match=str(length)):
        ScaleScheme(name=ScaleName.LOG_N, length=length)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf, 1e7])
def test_a_scale_that_is_no_positive_number_is_refused(value: float) -> None:
    with pytest.raises(InvalidInput):
        ScaleScheme(name=ScaleName.VALUE, value=value)
