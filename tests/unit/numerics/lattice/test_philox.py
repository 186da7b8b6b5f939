"""Philox against numpy's own."""

from __future__ import annotations

import numpy as np
import pytest

from service.numerics.lattice.philox import fill_blocks, philox, unit


@pytest.mark.parametrize("counter", [(1, 0, 0, 0), (9, 2, 3, 4), (2**64 - 2, 2**64 - 1, 7, 2**63)])
@pytest.mark.parametrize("key", [(0, 0), (5, 2**63 + 7), (2**64 - 1, 2**64 - 1)])
def test_blocks_are_those_of_numpy(counter: tuple[int, ...], key: tuple[int, int]) -> None:
    out = np.zeros(4, np.uint64)
    keys = np.array(key, np.uint64)
    fill_blocks(np.array(counter, np.uint64), keys, out)
    before = np.array([counter[0] - 1, *counter[1:]], np.uint64)  # numpy counts first, then draws
    assert out.tolist() == np.random.Philox(counter=before, key=keys).random_raw(4).tolist()


def test_the_published_vector() -> None:
    # Random123, known answers of philox4x64-10 for all zeros.
    words = philox(*(np.uint64(0) for _ in range(6)))
    assert [f"{int(word):016x}" for word in words] == [
        "16554d9eca36314c",
        "db20fe9d672d0fdc",
        "d7e772cee186176b",
        "7e68b68aec7ba23b",
    ]


def test_numbers_lie_below_one() -> None:
    assert unit(np.uint64(0)) == 0.0
    assert unit(np.uint64(2**64 - 1)) == 1 - 2**-53
