from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import RecipeError
from models.training.text import batches, read_text, windows


def test_the_last_tenth_is_held_out(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(bytes(range(25)))
    text = read_text(path)
    assert text.train.tolist() == list(range(23))
    assert text.held_out.tolist() == [23, 24]
    assert text.sha256 == hashlib.sha256(bytes(range(25))).hexdigest()


def test_a_missing_or_empty_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="is not a file"):
        read_text(tmp_path / "none.txt")
    (tmp_path / "empty.txt").touch()
    with pytest.raises(RecipeError, match="is empty"):
        read_text(tmp_path / "empty.txt")


def test_batches_depend_on_the_seed_alone() -> None:
    text = np.arange(200, dtype=np.uint8)
    first, again, other = (
        np.stack(list(batches(text, seed=seed, steps=3, rows=4, length=16))) for seed in (1, 1, 2)
    )
    assert first.shape == (3, 4, 17)
    assert first.dtype == np.int64
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    # each row is a stretch of the text, byte after byte
    assert np.array_equal(np.diff(first, axis=-1), np.ones((3, 4, 16)))


def test_batches_reach_both_ends_of_the_text() -> None:
    text = np.arange(20, dtype=np.uint8)
    drawn = np.stack(list(batches(text, seed=0, steps=50, rows=8, length=16)))
    assert set(drawn[..., 0].ravel()) == {0, 1, 2, 3}


def test_a_text_as_long_as_one_window_is_enough_and_one_shorter_is_not() -> None:
    assert len(list(batches(np.zeros(17, np.uint8), seed=0, steps=2, rows=1, length=16))) == 2
    with pytest.raises(RecipeError, match="16 bytes to train on, one window takes 17"):
        next(batches(np.zeros(16, np.uint8), seed=0, steps=2, rows=1, length=16))


@given(st.integers(2, 400), st.integers(1, 40), st.integers(1, 12))
def test_windows_are_stretches_that_share_one_byte_at_most(
    size: int, length: int, most: int
) -> None:
    text = np.arange(size) % 251
    if size <= length:
        with pytest.raises(RecipeError, match="held out"):
            windows(text.astype(np.uint8), length=length, most=most)
        return
    found = windows(text.astype(np.uint8), length=length, most=most)
    assert found.shape == (min((size - 1) // length, most), length + 1)
    where = windows(np.arange(size), length=length, most=most)
    assert np.array_equal(found, text[where])
    assert np.array_equal(np.diff(where, axis=1), np.ones_like(where[:, 1:]))
    assert (np.diff(where[:, 0]) >= length).all()
