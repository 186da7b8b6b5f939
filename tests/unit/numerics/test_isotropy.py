"""IsoScore against its published steps, effective rank and mean cosine by hand."""

from __future__ import annotations

import numpy as np
import pytest

from service.errors import EmptyInput, InvalidInput
from service.numerics.dtypes import Vector64
from service.numerics.isotropy import effective_rank, isoscore, mean_cosine


def published_isoscore(variances: Vector64) -> float:
    """Follow algorithm 1 of arXiv:2108.07344 step by step."""
    count = len(variances)
    normalised = np.sqrt(count) * variances / np.linalg.norm(variances)
    defect = np.linalg.norm(normalised - 1) / np.sqrt(2 * (count - np.sqrt(count)))
    share = (count - defect**2 * (count - np.sqrt(count))) ** 2 / count**2
    return float((count * share - 1) / (count - 1))


@pytest.mark.parametrize("count", [2, 3, 50, 384])
def test_isoscore_is_the_published_one(count: int) -> None:
    for seed in range(5):
        variances = np.random.default_rng(seed).gamma(0.3, size=count) + 1e-9
        assert isoscore(variances) == pytest.approx(published_isoscore(variances), abs=1e-12)


def test_isoscore_of_a_ball_a_line_and_half_the_axes() -> None:
    assert isoscore(np.full(9, 0.3)) == pytest.approx(1)
    assert isoscore(np.array([4.0, 0, 0, 0])) == pytest.approx(0)
    # k of d axes alike: (k - 1)/(d - 1)
    assert isoscore(np.array([2.0, 2, 2, 0, 0, 0, 0])) == pytest.approx(2 / 6)
    assert isoscore(np.array([5.0])) == 1


def test_effective_rank_counts_axes_that_are_alike() -> None:
    assert effective_rank(np.array([3.0, 3, 3, 0])) == pytest.approx(3)
    assert effective_rank(np.array([7.0, 0])) == pytest.approx(1)
    # shares 1/2, 1/4, 1/4: entropy 1.5 bits
    assert effective_rank(np.array([2.0, 1, 1])) == pytest.approx(2**1.5)


def test_mean_cosine_leaves_a_vector_with_itself_out() -> None:
    right = np.array([[1, 0], [0, 2], [3, 0]], dtype=np.float32)
    assert mean_cosine(right) == pytest.approx(1 / 3)
    assert mean_cosine(np.array([[1, 1], [-2, -2]], dtype=np.float32)) == pytest.approx(-1)
    with pytest.raises(EmptyInput, match="1 came"):
        mean_cosine(right[:1])
    with pytest.raises(InvalidInput, match="Vector 1"):
        mean_cosine(np.array([[1, 0], [0, 0]], dtype=np.float32))
