"""GGUF files that the tests write become families; damaged ones leave nothing behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from models import catalogue
from models.decoder.description import Form
from models.errors import RecipeError
from models.gguf.reader import parse_gguf
from models.own_decoders.gguf_facts import read_facts
from models.own_decoders.gguf_tokenizer import tokenizer_json
from service.runtime.manifest import parse_manifest, verify_files
from tests.support.byte_pairs import trained_tokenizer
from tests.support.decoder_reference import direct, reference_decoder
from tests.support.decoder_runs import DecoderRun
from tests.support.llama_files import (
    KV_HEADS,
    ROPE_BASE,
    Block,
    TinyLlama,
    file_bytes,
    tiny_llama,
)

_WHOLE = tiny_llama()
IDS = np.array([[5, 17, 300, 41, 2, 88, 123]])
_SCALE = 0.25  # 1/sqrt(16)
POSITIONS = direct(16, base=ROPE_BASE)
FORMS = {
    "gqa": Form("gqa", KV_HEADS, _SCALE),
    "mha": Form("mha", 4, _SCALE),
    "mla": Form("mla", KV_HEADS, _SCALE, kv_rank=64),
}


def _silent(_stage: str, _done: int, _total: int) -> None:
    """Report nothing."""


def adopt(llama: TinyLlama, tmp_path: Path, name: str = "tiny") -> tuple[Path, dict[str, Any]]:
    folder = tmp_path / name
    folder.mkdir()
    source = llama.write(tmp_path / f"{name}.gguf")
    catalogue.adopt(source, folder, model_id=name, progress=_silent)
    return folder, json.loads((folder / "manifest.json").read_text())


def logits_of(folder: Path, llama: TinyLlama, name: str) -> Any:
    run = DecoderRun(
        folder / f"{name}.onnx", sizes=llama.sizes, form=FORMS[name], positions=POSITIONS
    )
    return run.step(IDS)["logits"][0]


@pytest.mark.parametrize(
    ("matrices", "table"),
    [
        ("Q4_0", "Q8_0"),
        ("Q4_1", "Q8_0"),
        ("Q4_0", "F16"),
        ("Q4_1", "Q4_1"),
        ("Q8_0", "Q8_0"),
        ("F16", "F16"),
        ("F32", "F32"),
    ],
)
def test_logits_are_those_of_the_numbers_in_the_file(
    matrices: str, table: str, tmp_path: Path
) -> None:
    llama = tiny_llama(matrices, table)
    folder, _ = adopt(llama, tmp_path)
    wanted, _ = reference_decoder(
        IDS[0].tolist(), weights=llama.weights(), sizes=llama.sizes, form=FORMS["gqa"],
        positions=POSITIONS,
    )  # fmt: skip
    for name in FORMS:
        np.testing.assert_allclose(logits_of(folder, llama, name), wanted, atol=2e-4)


def test_an_output_matrix_of_its_own_is_used(tmp_path: Path) -> None:
    llama = tiny_llama("Q8_0")
    table = llama.tensors["token_embd.weight"]
    order = np.random.default_rng(1).permutation(len(table.numbers))
    own = replace(llama, tensors={
        **llama.tensors, "output.weight": Block("Q8_0", table.numbers[order])
    })  # fmt: skip
    tied, _ = adopt(llama, tmp_path, "tied")
    folder, _ = adopt(own, tmp_path, "own")
    expected = logits_of(tied, llama, "gqa")[:, order]
    np.testing.assert_allclose(logits_of(folder, own, "gqa"), expected, atol=1e-5)


def test_the_entry_is_one_that_the_service_reads(tmp_path: Path) -> None:
    folder, entry = adopt(tiny_llama(), tmp_path)
    manifest = parse_manifest(entry, "test")
    verify_files(folder, manifest)
    family = manifest.family
    assert family is not None
    assert list(family.variants) == ["gqa", "mha", "mqa", "mla"]
    assert family.default_variant == "gqa"
    assert [each.lossy for each in family.variants.values()] == [False, False, True, False]
    assert family.variants["gqa"].windowed == "gqa.windowed.onnx"
    assert {name: each.cache_elements for name, each in family.variants.items()} == {
        "gqa": 64, "mha": 128, "mqa": 32, "mla": 64
    }  # fmt: skip
    assert family.eos_ids == (len(trained_tokenizer().pieces.texts) - 1,)
    assert (manifest.licence, manifest.max_tokens, family.chat) == ("apache-2.0", 256, None)


@pytest.mark.parametrize(
    ("matrices", "table", "serving"),
    [("Q4_0", "Q8_0", "serving.onnx"), ("Q4_1", "Q4_1", None), ("Q8_0", "Q8_0", None)],
)
def test_a_graph_for_serving_needs_4_bits_and_one_table_of_8(
    matrices: str, table: str, serving: str | None, tmp_path: Path
) -> None:
    folder, entry = adopt(tiny_llama(matrices, table), tmp_path)
    assert entry["serving"] == serving
    assert (folder / "serving.onnx").exists() == (serving is not None)
    assert parse_manifest(entry, "test").family is not None


def test_what_the_format_lets_a_file_leave_out_has_its_usual_value(tmp_path: Path) -> None:
    llama = tiny_llama()
    optional = ("llama.rope.freq_base", "llama.rope.dimension_count")
    short = {key: each for key, each in llama.metadata.items() if key not in optional}
    _, entry = adopt(replace(llama, metadata=short), tmp_path)
    assert entry["rope_base"] == 10_000.0


def test_texts_are_split_as_the_files_own_tokenizer_splits_them(tmp_path: Path) -> None:
    folder, _ = adopt(tiny_llama(), tmp_path)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    for text in (
        "the order of tests",
        "naïve café 天气 😀",
        "  def encode(self):\n\n\n  return 12",
    ):
        assert tokenizer.encode(text).ids == trained_tokenizer().ids(text)


def test_scores_become_merges_the_highest_first() -> None:
    pieces = {"▁": -9.0, "h": -9.0, "e": -9.0, "l": -9.0, "o": -9.0, "he": -1.0, "ll": -2.0,
              "el": -0.5, "▁hell": -3.0, "hell": -2.5, "lo": -4.0, "▁hello": -5.0}  # fmt: skip
    fixed = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokens = [*fixed, *pieces]
    file = parse_gguf(
        file_bytes(
            {
                "tokenizer.ggml.model": "llama",
                "tokenizer.ggml.tokens": tokens,
                "tokenizer.ggml.scores": np.array(
                    [*[0.0] * len(fixed), *pieces.values()], np.float32
                ),
                "tokenizer.ggml.token_type": np.array(
                    [2, 3, 3, *[6] * 256, *[1] * len(pieces)], np.int32
                ),
            },
            {},
        )
    )
    tokenizer = Tokenizer.from_str(tokenizer_json(file, vocabulary=len(tokens)))
    # "el" is the best pair, so "he" never forms and neither does "hell"
    assert tokenizer.encode("hello", add_special_tokens=False).tokens == ["▁", "h", "el", "lo"]
    assert tokenizer.encode("é", add_special_tokens=False).tokens == ["▁", "<0xC3>", "<0xA9>"]
    assert tokenizer.decode(tokenizer.encode("hello é").ids) == "hello é"


Change = Callable[[TinyLlama], TinyLlama]


def said(**changes: Any) -> Change:
    """Return a change of metadata; dots are written as double underscores."""
    named = {key.replace("__", "."): value for key, value in changes.items()}
    return lambda llama: replace(llama, metadata=llama.metadata | named)


def without(key: str) -> Change:
    return lambda llama: replace(
        llama,
        metadata={name: each for name, each in llama.metadata.items() if name != key},
        tensors={name: each for name, each in llama.tensors.items() if name != key},
    )


def held(name: str, kind: str, *shape: int) -> Change:
    block = Block(kind, np.ones(shape, np.float32))
    return lambda llama: replace(llama, tensors=llama.tensors | {name: block})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (said(general__architecture="mamba"), "architecture"),
        (said(llama__block_count=10**6), "block_count"),
        (said(llama__attention__head_count=0), "head_count"),
        (said(llama__attention__head_count=7), "is to be a multiple"),
        (said(llama__rope__scaling__type="yarn"), "scales its positions"),
        (said(tokenizer__ggml__pre="unheard-of"), "unheard-of"),
        (said(tokenizer__ggml__model="wordpiece"), "wordpiece"),
        (said(tokenizer__ggml__tokens=["a", "b"]), "do not belong together"),
        (said(tokenizer__ggml__merges=["q zz"]), "not two known tokens"),
        (said(tokenizer__ggml__eos_token_id=10**6), "eos_token_id"),
        (without("tokenizer.ggml.tokens"), "tokens"),
        (without("tokenizer.ggml.token_type"), "token_type"),
        (without("blk.1.ffn_down.weight"), "blk.1.ffn_down.weight"),
        (without("token_embd.weight"), "token_embd.weight"),
        (held("rope_freqs.weight", "F32", 8), "rope_freqs.weight"),
        (held("blk.0.attn_q.bias", "F32", 64), "blk.0.attn_q.bias"),
        (held("blk.0.attn_k.weight", "F32", 64, 64), "blk.0.attn_k.weight"),
    ],
)
def test_what_cannot_be_the_same_model_is_refused(
    change: Change, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=reason):
        adopt(change(tiny_llama()), tmp_path)


def test_a_number_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    llama = tiny_llama("F32")
    llama.tensors["blk.0.attn_q.weight"].numbers[3, 5] = np.nan
    with pytest.raises(RecipeError, match=r"blk\.0\.attn_q\.weight"):
        adopt(llama, tmp_path)


def test_two_files_in_one_folder_ask_which(tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        tiny_llama().write(tmp_path / name)
    with pytest.raises(RecipeError, match=r"a\.gguf, b\.gguf"):
        catalogue.adopt(tmp_path, tmp_path, model_id="x", progress=_silent)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_is_refused_or_read_and_never_anything_else(data: st.DataObject) -> None:
    content = bytearray(file_bytes(_WHOLE.metadata, _WHOLE.tensors))
    header = len(content) - sum(block.numbers.nbytes // 8 for block in _WHOLE.tensors.values())
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        for _ in range(data.draw(st.integers(1, 4))):
            at = data.draw(st.integers(0, header))
            content[at] = data.draw(st.integers(0, 255))
    try:
        file = parse_gguf(bytes(content))
        llama = read_facts(file)
        tokenizer_json(file, vocabulary=llama.sizes.vocabulary)
    except RecipeError:
        pass
