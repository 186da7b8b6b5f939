"""Files that lie, break off, or would fill the memory are refused, and nothing else happens."""

from __future__ import annotations

import base64
import json
import math
import struct
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import InvalidInput, PayloadTooLarge
from service.runtime.tokenizers import limits, piece_model
from service.runtime.tokenizers.opening import open_piece_tokenizer
from tests.support.lattices import SHIPPED


def field(number: int, payload: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def piece(text: bytes, score: float = -1.0, kind: int = 1) -> bytes:
    body = field(1, text) + b"\x15" + struct.pack("<f", score) + b"\x18" + varint(kind)
    return field(1, body)


def model(*pieces: bytes, trainer: bytes = b"", normaliser: bytes = b"") -> bytes:
    return piece(b"<unk>", 0.0, 2) + b"".join(pieces) + field(2, trainer) + field(3, normaliser)


def refused(content: bytes, reason: str) -> None:
    with pytest.raises((InvalidInput, PayloadTooLarge), match=reason):
        open_piece_tokenizer(content)


def opens_or_is_refused(content: bytes) -> None:
    with suppress(InvalidInput, PayloadTooLarge):
        tokenizer = open_piece_tokenizer(content)
        tokenizer.best(tokenizer.prepare(["abc ü 天气 🙂", ""]))


def test_a_small_sound_model_opens() -> None:
    assert open_piece_tokenizer(model(piece(b"a"), piece(b"ab"))).size == 3


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf, 1e38])
def test_scores_that_are_no_numbers(score: float) -> None:
    refused(model(piece(b"a", score)), "has the score")


def test_vocabularies_that_cannot_be() -> None:
    refused(model(piece(b"a"), piece(b"a")), "stands in the file 2 times")
    refused(model(piece(b"")), "is empty")
    refused(model(piece(b"x" * 2000)), "2000 bytes")
    refused(piece(b"a"), "0 unknown pieces")
    refused(model(piece(b"<u>", 0.0, 2)), "2 unknown pieces")
    refused(model(piece(b"a", kind=9)), "has type 9")
    refused(model(piece(b"\xff\xfe")), "malformed")
    refused(model(trainer=b"\x18\x03"), "model type is 3")
    refused(b"", "is empty")


def test_lengths_that_lie() -> None:
    refused(varint(1 << 3 | 2) + varint(10**9) + b"ab", "malformed")
    refused(b"\x0a" + b"\xff" * 12, "does not end")
    refused(model(normaliser=field(2, struct.pack("<I", 2**31) + b"abcd")), "character table")


def test_a_vocabulary_of_millions(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (limits, piece_model):
        monkeypatch.setattr(module, "MOST_PIECES", 1000)
    content = b"".join(piece(str(number).encode()) for number in range(1002))
    refused(content, "more than 1000 pieces")


@settings(max_examples=60, deadline=None)
@given(st.integers(min_value=0, max_value=789_177))
def test_a_model_cut_anywhere(size: int) -> None:
    # What is cut between two pieces may still be a model; everything else is refused in words.
    opens_or_is_refused(SHIPPED.read_bytes()[: size % 4000])


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=400))
def test_a_character_table_of_noise_harms_nobody(noise: bytes) -> None:
    table = struct.pack("<I", len(noise) // 4 * 4) + noise if len(noise) >= 4 else b""
    opens_or_is_refused(model(piece(b"a"), normaliser=field(2, table)))


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
def test_noise_is_refused_in_words(noise: bytes) -> None:
    opens_or_is_refused(noise)


def tokenizer_json(**model_fields: object) -> bytes:
    return json.dumps({"version": "1.0", "added_tokens": [], "model": model_fields}).encode()


def test_tokenizer_json_that_cannot_be_used() -> None:
    refused(b"{", "cannot be used|JSON")
    refused(b"[" * 100_000, "malformed|cut short")
    refused(b'{"version": 1, "model": ' + b"[" * 100_000, ".")
    refused(tokenizer_json(type="WordLevel", vocab={"a": 0}, unk_token="a"), "WordLevel")
    refused(tokenizer_json(type="BPE", vocab={}, merges=[]), ".")
    refused(tokenizer_json(type="BPE", vocab={"a": 0, "b": 1}, merges=[["a", "b"]]), ".")
    refused(tokenizer_json(type="BPE", vocab={"a": -1}, merges=[]), ".")
    refused(tokenizer_json(type="BPE", vocab={"a": 10**9}, merges=[]), ".")
    refused(tokenizer_json(type="Unigram", vocab=[["a", "x"]], unk_id=0), ".")
    refused(tokenizer_json(type="Unigram", vocab=[["a", -1.0]], unk_id=7), ".")
    refused(tokenizer_json(type="WordPiece", vocab={"a": 0}, unk_token="[UNK]"), ".")


def byte_piece(entries: dict[bytes, object]) -> bytes:
    return json.dumps({base64.b64encode(k).decode(): v for k, v in entries.items()}).encode()


def test_bytepiece_files_that_cannot_be_used() -> None:
    refused(b"{}", ".")
    refused(b'{"???": [3, "a", 1]}', ".")
    refused(byte_piece({b"a": [3, "a", 0]}), "count")
    refused(byte_piece({b"a": [3, "a", -5]}), "count")
    refused(byte_piece({b"a": [2, "a", 5]}), "id")
    refused(byte_piece({b"a": [10**9, "a", 5]}), "id")
    refused(byte_piece({b"a": [3, "a", 5], b"b": [3, "b", 5]}), "distinct")
    refused(byte_piece({b"a": "x"}), ".")
    refused(byte_piece({b"a": []}), ".")


def test_a_file_beyond_the_limit(tmp_path: Path) -> None:
    refused(b"\0" * ((64 << 20) + 1), "bytes and")
