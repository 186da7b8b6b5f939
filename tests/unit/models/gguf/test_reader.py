"""GGUF files: what is read from a good one, what is said of a bad one."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from models.errors import RecipeError
from models.gguf.blocks import dequantise, four_bits
from models.gguf.llama import describe, packed_weights
from models.gguf.reader import parse_gguf
from models.gguf.tokenizer import tokenizer_json
from tests.support.gguf_files import Written, gguf_bytes, random_tensor, tiny_llama

HALF_ONE, HALF_TWO = np.float16(1).tobytes(), np.float16(2).tobytes()


def test_metadata_of_every_kind_comes_back() -> None:
    written = {
        "text": "ünï",
        "number": 7,
        "real": 0.5,
        "yes": True,
        "texts": ["a", "", "ç"],
        "numbers": np.array([1, -2, 3], dtype=np.int32),
    }
    read = parse_gguf(gguf_bytes(written, [])).metadata
    assert list(read) == list(written)
    np.testing.assert_array_equal(read.pop("numbers"), written.pop("numbers"))
    assert read == written


def test_numbers_of_each_element_kind() -> None:
    nibbles = bytes(range(16))  # low halves 0..15, high halves 0
    tensors = [
        Written("f32", "F32", (2,), np.array([1.5, -2], dtype="<f4").tobytes()),
        Written("f16", "F16", (2,), np.array([0.5, 4], dtype="<f2").tobytes()),
        Written("q80", "Q8_0", (1, 32), HALF_TWO + np.arange(-16, 16, dtype=np.int8).tobytes()),
        Written("q40", "Q4_0", (1, 32), HALF_TWO + nibbles),
        Written("q41", "Q4_1", (1, 32), HALF_TWO + HALF_ONE + nibbles),
    ]
    file = parse_gguf(gguf_bytes({}, tensors))
    numbers = {name: dequantise(tensor) for name, tensor in file.tensors.items()}
    assert numbers["f32"].tolist() == [1.5, -2]
    assert numbers["f16"].tolist() == [0.5, 4]
    assert numbers["q80"].tolist() == [[2.0 * q for q in range(-16, 16)]]
    low = list(range(16))
    assert numbers["q40"].tolist() == [[2.0 * (q - 8) for q in [*low, *[0] * 16]]]
    assert numbers["q41"].tolist() == [[2.0 * q + 1 for q in [*low, *[0] * 16]]]


def test_shape_is_slowest_dimension_first() -> None:
    tensor = random_tensor(np.random.default_rng(0), "w", "Q4_1", (3, 64))
    found = parse_gguf(gguf_bytes({}, [tensor])).tensor("w")
    assert found.shape == (3, 64)
    assert four_bits(found).scale.shape == (3, 2)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "magic needs 4 bytes"),
        (b"GGML" + bytes(20), "starts with b'GGUF'"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "version 1"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**60, 0), "tensor_count claims"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**63), "metadata_count claims"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 2**62) + bytes(9), r"metadata\[0\].key claims"),
    ],
    ids=["empty", "magic", "version", "tensors", "entries", "key"],
)
def test_broken_heads_are_named(content: bytes, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        parse_gguf(content)


def with_value(packed: bytes) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1) + b"k" + packed + bytes(8)


@pytest.mark.parametrize(
    ("packed", "said"),
    [
        (struct.pack("<I", 99), r"metadata\['k'\] has value kind 99"),
        (struct.pack("<IQ", 8, 2**40), r"metadata\['k'\] claims"),
        (struct.pack("<IQ", 8, 2) + b"\xff\xff", "is not UTF-8"),
        (struct.pack("<IIQ", 9, 8, 2**50), "claims"),
        (struct.pack("<IIQ", 9, 12, 10), "claims 10 entries"),
        (struct.pack("<IIQ", 9, 9, 1), "value kind 9"),
    ],
    ids=["kind", "text", "utf8", "texts", "numbers", "nested"],
)
def test_broken_values_are_named(packed: bytes, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        parse_gguf(with_value(packed))


def described(*, sizes: tuple[int, ...], kind: int = 0, offset: int = 0, twice: int = 1) -> bytes:
    one = struct.pack("<Q", 1) + b"w" + struct.pack(f"<I{len(sizes)}Q", len(sizes), *sizes)
    one += struct.pack("<IQ", kind, offset)
    head = b"GGUF" + struct.pack("<IQQ", 3, twice, 0) + one * twice
    return head + bytes(-len(head) % 32) + bytes(64)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (described(sizes=(16,), offset=8), "claims bytes 8 to 72 of 64"),
        (described(sizes=(4,), offset=2**63), "claims bytes"),
        (described(sizes=(2**40, 2**40)), "claims bytes"),
        (described(sizes=(0, 4)), "sizes are to be positive"),
        (described(sizes=(31,), kind=2), "rows of Q4_0 a multiple of 32"),
        (described(sizes=(4,), kind=77), "element kind 77"),
        (described(sizes=(1,) * 5), "has 5 dimensions"),
        (described(sizes=()), "has 0 dimensions"),
        (described(sizes=(4,), twice=2), "occurs twice"),
    ],
    ids=["past", "offset", "huge", "zero", "row", "kind", "many", "none", "twice"],
)
def test_broken_tensors_are_named(content: bytes, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        parse_gguf(content)


def test_same_key_twice_and_bad_alignment_are_named() -> None:
    entry = struct.pack("<Q", 1) + b"k" + struct.pack("<II", 4, 1)
    with pytest.raises(RecipeError, match="names 'k' twice"):
        parse_gguf(b"GGUF" + struct.pack("<IQQ", 3, 0, 2) + entry * 2)
    with pytest.raises(RecipeError, match=r"general\.alignment is to be 1 to"):
        parse_gguf(gguf_bytes({"general.alignment": 0}, []))


def test_scales_that_are_not_finite_are_refused() -> None:
    infinite = np.float16(np.inf).tobytes() + bytes(16)
    file = parse_gguf(gguf_bytes({}, [Written("w", "Q4_0", (1, 32), infinite)]))
    with pytest.raises(RecipeError, match="'w' holds a number that is not finite"):
        dequantise(file.tensor("w"))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"general__architecture": "mamba"}, "only 'llama' is read"),
        ({"llama__block_count": 3}, "has no tensor 'blk.2"),
        ({"llama__block_count": None}, "'llama.block_count' is to be a number, not missing"),
        ({"llama__block_count": 0}, "positive whole number"),
        ({"llama__attention__head_count": 5}, "is to be a multiple"),
        ({"llama__rope__dimension_count": 8}, "dimension_count is 8"),
        ({"llama__feed_forward_length": 32}, r"is Q4_1 \(96, 64\), expected"),
    ],
    ids=["architecture", "layers", "missing", "zero", "heads", "rope", "shape"],
)
def test_decoders_that_do_not_fit_together_are_refused(
    changed: dict[str, object], said: str
) -> None:
    file = parse_gguf(tiny_llama(**changed))
    with pytest.raises(RecipeError, match=said):
        packed_weights(file, describe(file))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"tokenizer__ggml__model": "llama"}, "tokenizer model 'llama'"),
        ({"tokenizer__ggml__pre": "other"}, "with cut 'other'"),
        ({"tokenizer__ggml__tokens": ["a", "a"]}, "names a token twice"),
        ({"tokenizer__ggml__token_type": np.ones(3, dtype=np.int32)}, "is to hold 256 numbers"),
        ({"tokenizer__ggml__merges": ["<1> <2>"]}, "holds '<1> <2>'"),
        ({"tokenizer__ggml__merges": None}, "is to be a list of texts"),
    ],
    ids=["model", "cut", "twice", "kinds", "merge", "missing"],
)
def test_tokenizers_that_do_not_fit_are_refused(changed: dict[str, object], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        tokenizer_json(parse_gguf(tiny_llama(**changed)))


def test_tokenizer_splits_digits_and_joins_by_its_merges() -> None:
    from tokenizers import Tokenizer

    tokens = ["<|end|>", "Ġ", "a", "b", "ab", "1", "2"]
    kinds = np.array([3, 1, 1, 1, 1, 1, 1], dtype=np.int32)
    content = tiny_llama(
        tokenizer__ggml__tokens=tokens,
        tokenizer__ggml__token_type=kinds,
        tokenizer__ggml__merges=["a b", "1 2"][:1],
    )
    tokenizer = Tokenizer.from_str(tokenizer_json(parse_gguf(content)))
    assert tokenizer.encode("ab 12<|end|>").tokens == ["ab", "Ġ", "1", "2", "<|end|>"]
    assert tokenizer.decode([4, 1, 5, 6]) == "ab 12"
