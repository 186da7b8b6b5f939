"""Whatever is done to a GGUF file, reading it gives numbers or a sentence, never more."""

from __future__ import annotations

import tracemalloc

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import RecipeError
from models.gguf.blocks import dequantise, four_bits
from models.gguf.llama import describe, packed_weights
from models.gguf.reader import parse_gguf
from models.gguf.tokenizer import tokenizer_json
from tests.support.gguf_files import gguf_bytes, random_tensor, tiny_llama

WHOLE = tiny_llama(layers=1, hidden=32, heads=2, kv_heads=1, inner=32)
# Of which the metadata and the descriptions of tensors are the first part.
HEAD = 6500
MOST_MEMORY = 40 * len(WHOLE)


def read_all(content: bytes) -> None:
    file = parse_gguf(content)
    for tensor in file.tensors.values():
        dequantise(tensor)
    packed_weights(file, describe(file))
    tokenizer_json(file)


def read_or_refuse(content: bytes) -> None:
    tracemalloc.start()
    try:
        read_all(content)
    except RecipeError as error:
        if "GGUF" not in str(error) and "llama." not in str(error):
            raise AssertionError(str(error)) from error
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < MOST_MEMORY


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(WHOLE) - 1))
def test_a_file_cut_anywhere_is_refused(length: int) -> None:
    try:
        read_all(WHOLE[:length])
    except RecipeError:
        return
    raise AssertionError(length)


@settings(max_examples=120, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, HEAD), st.integers(0, 255)), min_size=1, max_size=4),
    st.binary(max_size=3),
)
def test_changed_bytes_are_read_or_refused(changes: list[tuple[int, int]], end: bytes) -> None:
    content = bytearray(WHOLE)
    for place, value in changes:
        content[place] = value
    read_or_refuse(bytes(content) + end)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, HEAD), st.sampled_from([2**31, 2**32 - 1, 2**62, 2**63, 2**64 - 1]))
def test_huge_numbers_take_no_memory(place: int, huge: int) -> None:
    content = bytearray(WHOLE)
    content[place : place + 8] = huge.to_bytes(8, "little")
    read_or_refuse(bytes(content))


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(["Q4_0", "Q4_1"]), st.integers(1, 5), st.integers(1, 4), st.integers(0, 2**32)
)
def test_split_form_holds_the_same_numbers(kind: str, rows: int, blocks: int, seed: int) -> None:
    written = random_tensor(np.random.default_rng(seed), "w", kind, (rows, 32 * blocks))
    tensor = parse_gguf(gguf_bytes({}, [written])).tensor("w")
    parts = four_bits(tensor)
    raw = np.frombuffer(written.content, np.uint8).reshape(rows, blocks, -1)
    scale = raw[..., :2].copy().view("<f2").astype(np.float64)
    skip = 4 if kind == "Q4_1" else 2
    offset = raw[..., 2:4].copy().view("<f2").astype(np.float64) if skip == 4 else -8 * scale
    whole = np.concatenate([raw[..., skip:] & 15, raw[..., skip:] >> 4], axis=-1)
    wanted = (scale * whole + offset).reshape(rows, -1)
    np.testing.assert_array_equal(parts.whole, whole)
    np.testing.assert_allclose(dequantise(tensor), wanted, rtol=1e-5, atol=1e-6)
