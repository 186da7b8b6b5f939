"""Texts to ids: what stands around them, what is cut, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from service.errors import ArtefactDamaged, DimensionMismatch, EmptyInput, SequenceTooLong
from service.runtime.manifest import read_manifest
from service.runtime.tokenizer import TextTokenizer, Truncate, open_tokenizer
from tests.fakes.artefacts import AFTER, BEFORE, VOCABULARY, tokenizer_json

THE, CAT, SAT, UNKNOWN = (VOCABULARY[word] for word in ("the", "cat", "sat", "[UNK]"))


def opened(
    folder: Path, *, max_tokens: int = 6, prefix: str = "", special: bool = True
) -> TextTokenizer:
    path = folder / "tokenizer.json"
    path.write_text(tokenizer_json(special=special), encoding="utf-8")
    return open_tokenizer(path, max_tokens=max_tokens, prefix=prefix)


def ids_of(tokenizer: TextTokenizer, text: str) -> list[int]:
    return tokenizer.encode_texts([text], Truncate.ERROR)[0].ids


def test_special_pieces_stand_around_a_text(tmp_path: Path) -> None:
    tokenizer = opened(tmp_path)
    assert ids_of(tokenizer, "The cat") == [BEFORE, THE, CAT, AFTER]
    assert ids_of(tokenizer, "") == [BEFORE, AFTER]
    assert ids_of(tokenizer, "zebra") == [BEFORE, UNKNOWN, AFTER]


def test_many_texts_give_what_each_gives_alone(tmp_path: Path) -> None:
    tokenizer = opened(tmp_path)
    texts = ["the cat", "", "sat", "cat cat cat the the the the"]
    together = tokenizer.encode_texts(texts, Truncate.RIGHT)
    assert together == [tokenizer.encode_texts([text], Truncate.RIGHT)[0] for text in texts]


@pytest.mark.parametrize(
    ("truncate", "kept"),
    [(Truncate.RIGHT, [THE, CAT, SAT, THE]), (Truncate.LEFT, [SAT, THE, CAT, CAT])],
)
def test_the_end_that_is_cut(tmp_path: Path, truncate: Truncate, kept: list[int]) -> None:
    tokenizer = opened(tmp_path)  # 6 pieces, two of them special
    found = tokenizer.encode_texts(["the cat sat the cat cat"], truncate)[0]
    assert found.ids == [BEFORE, *kept, AFTER]
    assert found.dropped_tokens == 2


@pytest.mark.parametrize("truncate", list(Truncate))
def test_what_fits_exactly_is_whole(tmp_path: Path, truncate: Truncate) -> None:
    found = opened(tmp_path).encode_texts(["the cat sat the"], truncate)[0]
    assert found.ids == [BEFORE, THE, CAT, SAT, THE, AFTER]
    assert found.dropped_tokens == 0


def test_one_piece_too_many_is_an_error_where_that_is_wished(tmp_path: Path) -> None:
    with pytest.raises(SequenceTooLong, match="5 tokens and the model reads 4"):
        opened(tmp_path).encode_texts(["cat", "the cat sat the cat"], Truncate.ERROR)


def test_the_prefix_comes_first_and_counts(tmp_path: Path) -> None:
    tokenizer = opened(tmp_path, prefix="query: ")
    wanted = [BEFORE, VOCABULARY["query"], VOCABULARY[":"], CAT, AFTER]
    assert ids_of(tokenizer, "cat") == wanted
    long, short = tokenizer.encode_texts(["cat cat cat", "cat"], Truncate.RIGHT)
    assert long.ids == [*wanted[:-1], CAT, AFTER]
    assert long.dropped_tokens == 1
    assert short.ids == wanted


def test_ids_are_wrapped_without_prefix(tmp_path: Path) -> None:
    tokenizer = opened(tmp_path, prefix="query: ")
    found = tokenizer.wrap_ids([[CAT], [THE] * 6], Truncate.LEFT)
    assert [each.ids for each in found] == [[BEFORE, CAT, AFTER], [BEFORE, *[THE] * 4, AFTER]]
    assert [each.dropped_tokens for each in found] == [0, 2]
    with pytest.raises(SequenceTooLong):
        tokenizer.wrap_ids([[THE] * 5], Truncate.ERROR)


@pytest.mark.parametrize("wrong", [-1, len(VOCABULARY), 2**70])
def test_ids_outside_the_vocabulary_are_named(tmp_path: Path, wrong: int) -> None:
    with pytest.raises(DimensionMismatch, match=f"{wrong} is not one of"):
        opened(tmp_path).wrap_ids([[CAT], [THE, wrong]], Truncate.RIGHT)


def test_no_id_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EmptyInput):
        opened(tmp_path).wrap_ids([[CAT], []], Truncate.RIGHT)


def test_a_model_without_special_pieces(tmp_path: Path) -> None:
    tokenizer = opened(tmp_path, special=False)
    assert ids_of(tokenizer, "the cat") == [THE, CAT]
    assert tokenizer.encode_texts(["the cat " * 4], Truncate.RIGHT)[0].dropped_tokens == 2
    with pytest.raises(EmptyInput):  # nothing to run is not a vector
        tokenizer.encode_texts(["cat", ""], Truncate.RIGHT)


def test_the_file_s_own_truncation_is_off(tmp_path: Path) -> None:
    # the file says 4; the manifest's 16 is what holds
    assert '"max_length": 4' in tokenizer_json()
    assert len(ids_of(opened(tmp_path, max_tokens=16), "the cat " * 7)) == 16


def test_a_file_that_is_no_tokenizer_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    for content in (b"{", b"{}", b"\xff\xfe", tokenizer_json().encode()[:-40]):
        path.write_bytes(content)
        with pytest.raises(ArtefactDamaged, match=r"tokenizer\.json"):
            open_tokenizer(path, max_tokens=8, prefix="")
    with pytest.raises(ArtefactDamaged):
        open_tokenizer(tmp_path / "absent.json", max_tokens=8, prefix="")


def test_a_tokenizer_that_fails_on_plain_text_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(tokenizer_json(words={"the": 0}), encoding="utf-8")  # no [UNK]
    with pytest.raises(ArtefactDamaged):
        open_tokenizer(path, max_tokens=8, prefix="")


def test_a_vocabulary_of_another_script(tmp_path: Path) -> None:
    # pieces without an unknown one: what it lacks vanishes, "a" too
    content = json.loads(tokenizer_json())
    content["model"] = {
        "type": "BPE",
        "vocab": {"[CLS]": 2, "[SEP]": 3, "中": 4, "文": 5},
        "merges": [],
    }
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    tokenizer = open_tokenizer(path, max_tokens=8, prefix="")
    assert ids_of(tokenizer, "中文") == [2, 4, 5, 3]
    assert ids_of(tokenizer, "abc") == [2, 3]


@pytest.fixture(scope="module")
def real(models_dir: Path) -> TextTokenizer:
    folder = models_dir / "all-MiniLM-L6-v2"
    manifest = read_manifest(folder)
    return open_tokenizer(
        folder / "tokenizer.json", max_tokens=manifest.max_tokens, prefix=manifest.prefix
    )


@pytest.mark.parametrize(
    ("text", "inner"),
    [
        ("", []),
        ("\0", []),
        (" \t\r\n ", []),
        ("\u200b", []),
        ("a", [1037]),
        ("a\0b", [11113]),  # control characters vanish, as in the reference tokeniser
        ("😀", [100]),
        ("Hello, World!", [7592, 1010, 2088, 999]),
        ("café", [7668]),
        ("中文", [1746, 1861]),
    ],
)
def test_the_real_tokenizer(real: TextTokenizer, text: str, inner: list[int]) -> None:
    assert ids_of(real, text) == [101, *inner, 102]


def test_a_megabyte_is_cut_and_counted(real: TextTokenizer) -> None:
    found = real.encode_texts(["word " * 200_000], Truncate.RIGHT)[0]
    assert len(found.ids) == 256
    assert found.dropped_tokens == 200_000 - 254
