"""Arrays come back as they went in, and bytes that are no arrays are noticed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from service.errors import ArtefactDamaged
from service.stores.tensors import AnyArray, pack, unpack

kinds = ["bool", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8"]
arrays = st.sampled_from(kinds).flatmap(
    lambda kind: npst.arrays(kind, npst.array_shapes(min_dims=0, max_dims=4, min_side=0))
)


@given(given_arrays=st.dictionaries(st.text(max_size=8), arrays, max_size=4))
def test_arrays_come_back_as_they_went_in(given_arrays: dict[str, AnyArray]) -> None:
    packed = pack(given_arrays)
    back = unpack(packed)
    assert back.keys() == given_arrays.keys()
    for name, array in given_arrays.items():
        assert back[name].dtype == array.dtype
        np.testing.assert_array_equal(back[name], array, strict=True)
    assert pack(dict(reversed(given_arrays.items()))) == packed


def test_any_memory_layout_is_kept_by_value() -> None:
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    views: dict[str, AnyArray] = {
        "transposed": base.T,
        "fortran": np.asfortranarray(base),
        "every other": base[::2, ::-2],
        "big-endian": base.astype(">f4"),
        "big-endian transposed": base.astype(">f4").T,
        "broadcast": np.broadcast_to(base[0], (3, 6)),
    }
    back = unpack(pack(views))
    for name, view in views.items():
        np.testing.assert_array_equal(back[name], view)
        assert back[name].flags["C_CONTIGUOUS"]
        assert back[name].dtype == np.dtype("<f4")


@pytest.mark.parametrize(
    "array",
    [
        np.array([object()]),
        np.array(["text"]),
        np.array([1 + 2j]),
        np.array(["2020-01-01"], dtype="datetime64[D]"),
        np.zeros(2, dtype=[("a", "f4")]),
        np.zeros(2, dtype=np.longdouble),
    ],
    ids=lambda array: str(array.dtype),
)
def test_what_is_no_number_is_refused(array: AnyArray) -> None:
    with pytest.raises(TypeError, match="'bad' holds"):
        pack({"bad": array})


def test_changed_bytes_are_noticed_or_harmless() -> None:
    packed = pack({"a": np.arange(3, dtype=np.float32), "b": np.ones((2, 2))})
    for length in range(len(packed)):
        with pytest.raises(ArtefactDamaged):
            unpack(packed[:length])
    for position in range(len(packed)):
        for change in (0x01, 0x10, 0x80, 0xFF):
            changed = bytearray(packed)
            changed[position] ^= change
            try:
                unpack(bytes(changed))
            except ArtefactDamaged:
                continue


def test_numbers_that_numpy_does_not_have() -> None:
    header = b'{"a":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}}'
    with pytest.raises(ArtefactDamaged):
        unpack(len(header).to_bytes(8, "little") + header + b"\0")
