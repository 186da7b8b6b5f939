"""The trie holds what it was given and nothing else."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from service.numerics.lattice.trie import build_trie, find_key


def find(units: np.ndarray, key: bytes) -> int:
    data = np.frombuffer(bytearray(key), dtype=np.uint8)
    return find_key(data, 0, len(data), units)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.binary(min_size=1, max_size=6), unique=True, max_size=120), st.binary(max_size=7)
)
def test_every_key_is_found_and_no_other(keys: list[bytes], other: bytes) -> None:
    trie = build_trie(keys, np.arange(len(keys), dtype=np.int32))
    assert [find(trie.units, key) for key in keys] == list(range(len(keys)))
    for probe in (other, *(key[:-1] for key in keys), *(key + b"\0" for key in keys)):
        assert find(trie.units, probe) == (keys.index(probe) if probe in keys else -1)


def test_a_wide_and_deep_trie() -> None:
    keys = [bytes([first, second]) for first in range(256) for second in range(256)]
    keys += [b"x" * length for length in range(3, 400)]
    trie = build_trie(keys, np.arange(len(keys), dtype=np.int32))
    assert [find(trie.units, key) for key in keys] == list(range(len(keys)))
    assert trie.longest == 399
