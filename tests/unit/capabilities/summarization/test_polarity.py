"""The axis from complaint to praise."""

from __future__ import annotations

import numpy as np
import pytest

from service.capabilities.summarization.numerics.polarity import fit_axis, polarities

UP = np.array([[1.0, 0.2], [1.0, -0.2]], np.float32)
DOWN = np.array([[-0.5, 0.2], [-0.5, -0.2]], np.float32)
UNRATED = np.full(3, np.nan)


def test_the_means_score_one_and_minus_one() -> None:
    axis = fit_axis(UP, DOWN)
    points = np.array([[1, 0], [-0.5, 0], [0.25, 9]], np.float32)
    assert polarities(points, axis, ratings=UNRATED) == pytest.approx([1, -1, 0], abs=1e-6)


def test_a_rating_leans_and_does_not_decide() -> None:
    axis = fit_axis(UP, DOWN)
    points = np.array([[0.25, 0]] * 3, np.float32)
    ratings = np.array([5.0, 1.0, 3.0])
    assert polarities(points, axis, ratings=ratings) == pytest.approx([0.25, -0.25, 0], abs=1e-6)
    far = np.array([[-5, 0]], np.float32)
    assert polarities(far, axis, ratings=np.array([5.0])).tolist() == [-1]


def test_equal_examples_make_no_axis_and_no_nan() -> None:
    axis = fit_axis(UP, UP)
    assert polarities(UP, axis, ratings=np.full(2, np.nan)).tolist() == [0, 0]
