"""What holds for any logits: maps, sparse maps, concentration axioms, bounds of log-sum-exp."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from service.numerics.concentration import Measures, RowKind, concentration
from service.numerics.distributions.choice import MapName, ProbabilityMap, map_logits
from service.numerics.dtypes import Vector64

FINITE = st.floats(-50, 50)
LOGITS = arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(1, 12)), elements=FINITE)
WILD = arrays(
    np.float64,
    st.tuples(st.integers(1, 3), st.integers(1, 9)),
    elements=st.one_of(
        st.floats(allow_nan=False, allow_infinity=False), st.just(-math.inf), st.just(0.0)
    ),
)
POSITIVE = arrays(np.float64, st.integers(2, 20), elements=st.floats(1e-3, 1e3))


def probabilities(logits: np.ndarray, name: MapName) -> np.ndarray:
    return map_logits(logits, ProbabilityMap(name), progress=lambda *_: None).probabilities


def metrics(rows: np.ndarray, kind: RowKind = RowKind.VECTOR) -> dict[str, Vector64]:
    return concentration(
        np.atleast_2d(rows), kind=kind, measures=Measures(), progress=lambda *_: None
    )


def sparsity(row: np.ndarray) -> float:
    return float(metrics(row)["s_1_2"][0])


@pytest.mark.parametrize("name", MapName)
@given(logits=WILD)
def test_every_map_gives_probabilities_for_anything(name: MapName, logits: np.ndarray) -> None:
    assume((logits > -np.inf).any(axis=1).all())
    p = probabilities(logits, name)
    assert (p >= 0).all()
    assert np.abs(p.sum(axis=1) - 1).max() <= 1e-12
    assert (p[np.isneginf(logits)] == 0).all()


@pytest.mark.parametrize("name", MapName)
@given(logits=LOGITS)
def test_every_map_keeps_the_order(name: MapName, logits: np.ndarray) -> None:
    p = probabilities(logits, name)
    order = np.argsort(logits, axis=1, kind="stable")
    rising = np.diff(np.take_along_axis(p, order, axis=1), axis=1)
    differ = np.diff(np.take_along_axis(logits, order, axis=1), axis=1) > 0
    assert (rising[differ] >= -1e-15).all()


@pytest.mark.parametrize("name", MapName)
@given(logits=LOGITS, shift=st.floats(-1000, 1000))
def test_a_shift_changes_nothing(name: MapName, logits: np.ndarray, shift: float) -> None:
    moved = logits + shift
    # a sum in float64 rounds, and two entries may become one
    assume(np.array_equal(np.argsort(moved), np.argsort(logits)))
    assume(len(np.unique(moved)) == len(np.unique(logits)))
    if name in {MapName.TOP_P, MapName.MIN_P}:  # a threshold may fall on an entry
        return
    found = probabilities(moved, name) - probabilities(logits, name)
    assert np.abs(found).max() < 1e-11


@given(logits=LOGITS)
def test_bounds_of_log_sum_exp(logits: np.ndarray) -> None:
    found = metrics(logits, RowKind.LOGITS)
    value, slack = found["log_sum_exp"], 1e-12 * (1 + np.abs(found["log_sum_exp"]))
    for lower in ("lse_lower_max", "lse_lower_mean"):
        assert (value >= found[lower] - slack).all()
    for upper in ("lse_upper_max", "lse_upper_hoeffding"):
        assert (value <= found[upper] + slack).all()
    reduction = math.log(logits.shape[1]) - found["entropy"]
    assert (reduction <= found["max_entropy_reduction"] + 1e-9).all()


@given(logits=LOGITS, other=LOGITS)
def test_log_sum_exp_bounds_mixtures_and_moves_no_further_than_logits(
    logits: np.ndarray, other: np.ndarray
) -> None:
    x = logits[0]
    p = np.exp(other[0] - other[0].max())
    p = np.resize(p, len(x)) / np.resize(p, len(x)).sum()
    value = metrics(x, RowKind.LOGITS)["log_sum_exp"][0]
    entropy = metrics(p, RowKind.PROBABILITIES)["entropy"][0]
    assert value >= p @ x + entropy - 1e-9
    for t in (1.5, 2.0, 9.0):
        assert value >= p @ x - math.log((p**t).sum()) / (t - 1) - 1e-9
    y = np.resize(other[0], len(x))
    moved = metrics(y, RowKind.LOGITS)["log_sum_exp"][0]
    assert abs(value - moved) <= np.abs(x - y).max() + 1e-9
    middle = metrics((x + y) / 2, RowKind.LOGITS)["log_sum_exp"][0]
    assert middle <= (value + moved) / 2 + 1e-9


@given(row=POSITIVE, share=st.floats(0.01, 0.49))
def test_giving_to_the_poorer_lowers_sparsity(row: np.ndarray, share: float) -> None:
    rich, poor = int(row.argmax()), int(row.argmin())
    assume(row[rich] - row[poor] > 1e-2)
    given_away = share * (row[rich] - row[poor])
    fairer = row.copy()
    fairer[rich] -= given_away
    fairer[poor] += given_away
    assert sparsity(fairer) > sparsity(row)


@given(row=POSITIVE, factor=st.floats(1e-200, 1e200))
def test_scale_leaves_sparsity(row: np.ndarray, factor: float) -> None:
    assert sparsity(row * factor) == pytest.approx(sparsity(row), abs=1e-12)


@given(row=POSITIVE, gift=st.floats(0.1, 100))
def test_a_gift_to_all_lowers_sparsity(row: np.ndarray, gift: float) -> None:
    assume(row.max() - row.min() > 1e-2)
    assert sparsity(row + gift) > sparsity(row)


@given(row=POSITIVE, copies=st.integers(2, 5))
def test_clones_leave_sparsity(row: np.ndarray, copies: int) -> None:
    assert sparsity(np.tile(row, copies)) == pytest.approx(sparsity(row), abs=1e-12)


@given(row=POSITIVE)
def test_zeros_raise_sparsity(row: np.ndarray) -> None:
    assert sparsity(np.append(row, 0.0)) < sparsity(row)


@given(row=POSITIVE)
def test_one_who_owns_nearly_all_makes_the_row_sparse(row: np.ndarray) -> None:
    rich = row.copy()
    rich[0] = row.sum() * 10
    richer = rich.copy()
    richer[0] *= 2
    assert sparsity(richer) < sparsity(rich)


@given(
    rows=arrays(
        np.float64,
        st.tuples(st.integers(1, 3), st.integers(1, 9)),
        elements=st.one_of(
            st.floats(allow_nan=False, allow_infinity=False),
            st.sampled_from([1e300, -1e300, 1e-300, 5e-324, 0.0]),
        ),
    )
)
def test_metrics_of_anything_are_numbers_or_not_defined(rows: np.ndarray) -> None:
    for values in metrics(rows).values():
        assert not np.isinf(values).any()
    for name, values in metrics(rows, RowKind.LOGITS).items():
        assert not np.isinf(values).any(), name
