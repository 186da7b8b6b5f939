"""The value format: what goes in comes out, and nothing else is taken."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.stores.codec import decode, encode
from service.stores.entry import Entry
from tests.support.vectors import entry_for, same

KEY = b"svc:embedding:1:0123456789ab:options:input"

counts = st.integers(0, 2**32 - 1)
# every bit pattern of a float32, NaN payloads and infinities included
patterns = st.lists(st.integers(0, 2**32 - 1), max_size=64)


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    row = np.array(draw(patterns), dtype=np.uint32).view(np.float32)
    return Entry.copy_of(row, tokens=draw(counts), dropped_tokens=draw(counts))


@given(entry=entries(), key=st.binary(max_size=120))
def test_what_goes_in_comes_out(entry: Entry, key: bytes) -> None:
    decoded = decode(encode(entry, key=key), key=key)
    assert decoded is not None
    assert same(decoded, entry)
    assert decoded.vector.dtype == np.float32
    assert not decoded.vector.flags.writeable


@pytest.mark.parametrize("dimension", [1, 7])
def test_every_changed_bit_is_refused(dimension: int) -> None:
    value = encode(entry_for(KEY, dimension=dimension), key=KEY)
    for place in range(len(value)):
        for bit in range(8):
            damaged = bytearray(value)
            damaged[place] ^= 1 << bit
            assert decode(bytes(damaged), key=KEY) is None, (place, bit)


@given(entry=entries(), data=st.data())
def test_every_changed_byte_is_refused(entry: Entry, data: st.DataObject) -> None:
    value = bytearray(encode(entry, key=KEY))
    place = data.draw(st.integers(0, len(value) - 1))
    value[place] ^= data.draw(st.integers(1, 255))
    assert decode(bytes(value), key=KEY) is None


@given(entry=entries(), data=st.data())
def test_every_other_length_is_refused(entry: Entry, data: st.DataObject) -> None:
    value = encode(entry, key=KEY)
    assert decode(value[: data.draw(st.integers(0, len(value) - 1))], key=KEY) is None
    assert decode(value + data.draw(st.binary(min_size=1, max_size=8)), key=KEY) is None


@given(other=st.binary(max_size=120).filter(lambda key: key != KEY))
def test_the_value_of_another_key_is_refused(other: bytes) -> None:
    assert decode(encode(entry_for(KEY), key=other), key=KEY) is None


@given(noise=st.binary(max_size=200))
def test_noise_is_refused(noise: bytes) -> None:
    assert decode(noise, key=KEY) is None


@pytest.mark.parametrize("value", [None, 3, "text", [], True, bytearray(b"ISOV")])
def test_a_reply_that_is_not_bytes_is_refused(value: object) -> None:
    assert decode(value, key=KEY) is None


def test_counts_beyond_the_field_are_capped() -> None:
    entry = Entry.copy_of(np.ones(2, np.float32), tokens=2**40)
    decoded = decode(encode(entry, key=KEY), key=KEY)
    assert decoded is not None
    assert decoded.tokens == 2**32 - 1


def test_copy_of_owns_its_memory() -> None:
    batch = np.ones((4, 3), np.float32)
    entry = Entry.copy_of(batch[1], tokens=2)
    batch[:] = 7
    assert entry.vector.tolist() == [1, 1, 1]
    assert entry.vector.base is None
    with pytest.raises(ValueError, match="read-only"):
        entry.vector[0] = 5
