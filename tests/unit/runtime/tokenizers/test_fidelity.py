"""Ids equal to those of the original libraries, tokenizer by tokenizer."""

from __future__ import annotations

import base64
import io
import json
import random
from functools import cache
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from service.runtime.tokenizers.base import PieceTokenizer
from service.runtime.tokenizers.opening import open_piece_tokenizer
from tests.support.lattices import SHIPPED, shipped

ROOT = Path(__file__).parents[4]
HAN = "今天天气不错我们去公园玩吧机场白云广州的了是在有这中大来上国个到说们为子和你地出道也时年"
KANA = "こんにちは世界ひらがなカタカナテキスト日本語ガパ"
ODD = (
    "", " ", "   ", "a", " a ", "\t\n", "ﬁ ½ ①", "ＡＢＣ　ｄｅｆ", "e\u0301 a\u0300\u0301 ﷺ",
    "\u200b\ufeff x\ty\n\nz", "🙂🙃👨\u200d👩\u200d👧", "한국어 ｶﾞ が", "\x01 \x7f", "a" * 99,
    "<unk> <s> </s> <0x41>", "▁▁ ▁x", "ΑΒΓ ё й", "㍿ ㌔ Ⅷ", "a\u0308\u0323", "２.３３３", "2.333",
)  # fmt: skip


@cache
def corpus() -> tuple[str, ...]:
    """Return English from this project, made-up Chinese and Japanese."""
    rng = random.Random(4)
    english = [
        line
        for path in sorted(ROOT.glob("*.md"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    made = [
        "".join(rng.choices(alphabet + "，。 a1", k=rng.randint(1, 40)))
        for alphabet in (HAN, KANA)
        for _ in range(300)
    ]
    return (*filter(str.strip, english), *made)


@cache
def lines() -> tuple[str, ...]:
    """Return the corpus, noise, and odd strings."""
    rng = random.Random(5)
    noise = ["".join(chr(rng.choice((rng.randint(32, 0x2FF), rng.randint(0x300, 0xD7FF),
             rng.randint(0xE000, 0x1F9FF)))) for _ in range(rng.randint(1, 30)))
             for _ in range(300)]  # fmt: skip
    return (*corpus(), *noise, *ODD)


def ids_of(tokenizer: PieceTokenizer, texts: tuple[str, ...]) -> list[list[int]]:
    best = tokenizer.best(tokenizer.prepare(texts))
    bounds = [0, *accumulate(best.counts.tolist())]
    flat = best.ids.tolist()
    return [flat[bounds[place] : bounds[place + 1]] for place in range(len(texts))]


@cache
def trained(**options: object) -> bytes:
    content = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus() * 2),
        model_writer=content,
        minloglevel=2,
        hard_vocab_limit=False,
        **options,
    )
    return content.getvalue()


def test_the_shipped_unigram_model() -> None:
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(SHIPPED))
    assert ids_of(shipped(), lines()) == theirs.encode(list(lines()))


@pytest.mark.parametrize(
    "options",
    [
        {"model_type": "unigram", "vocab_size": 900, "user_defined_symbols": "<sep>,the,天气"},
        {"model_type": "unigram", "vocab_size": 700, "normalization_rule_name": "identity",
         "add_dummy_prefix": False, "remove_extra_whitespaces": False},
        {"model_type": "unigram", "vocab_size": 700, "treat_whitespace_as_suffix": True},
        {"model_type": "bpe", "vocab_size": 1200, "character_coverage": 0.98},
        {"model_type": "bpe", "vocab_size": 1500, "byte_fallback": True,
         "character_coverage": 0.98, "user_defined_symbols": "<sep>,the"},
    ],
)  # fmt: skip
def test_trained_sentencepiece_models(options: dict[str, object]) -> None:
    content = trained(**options)
    theirs = sentencepiece.SentencePieceProcessor(model_proto=content)
    texts = (*lines(), "a<sep>b the others", "<sep><sep>", "thethe 天气天气")
    tokenizer = open_piece_tokenizer(content)
    assert ids_of(tokenizer, texts) == theirs.encode(list(texts))
    found = theirs.encode(list(texts))
    assert [tokenizer.decode(ids) for ids in found] == theirs.decode(found)


def unigram() -> Tokenizer:
    made = Tokenizer(models.Unigram())
    made.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.train_from_iterator(
        corpus(),
        trainers.UnigramTrainer(vocab_size=800, unk_token="<unk>", special_tokens=["<unk>", "<s>"],
                                show_progress=False),
    )  # fmt: skip
    return made


def byte_level_bpe() -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.train_from_iterator(
        corpus(),
        trainers.BpeTrainer(vocab_size=1500, special_tokens=["<|end|>"], show_progress=False,
                            initial_alphabet=pre_tokenizers.ByteLevel.alphabet()),
    )  # fmt: skip
    return made


def suffixed_bpe() -> Tokenizer:
    made = Tokenizer(models.BPE(unk_token="[UNK]", fuse_unk=True, end_of_word_suffix="</w>"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.train_from_iterator(
        corpus()[:200],
        trainers.BpeTrainer(vocab_size=700, special_tokens=["[UNK]"], end_of_word_suffix="</w>",
                            show_progress=False),
    )  # fmt: skip
    return made


def wordpiece() -> Tokenizer:
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.train_from_iterator(
        corpus(),
        trainers.WordPieceTrainer(vocab_size=900, special_tokens=["[UNK]", "[MASK]"],
                                  show_progress=False),
    )  # fmt: skip
    return made


@pytest.mark.parametrize("make", [unigram, byte_level_bpe, suffixed_bpe, wordpiece])
def test_tokenizer_json_files(make: object) -> None:
    theirs: Tokenizer = make()  # type: ignore[operator]
    tokenizer = open_piece_tokenizer(theirs.to_str().encode())
    texts = (*lines(), "a [MASK] b<|end|>c", "x" * 120 + " y")
    found = theirs.encode_batch(list(texts), add_special_tokens=False)
    assert ids_of(tokenizer, texts) == [encoding.ids for encoding in found]
    prepared = tokenizer.prepare(texts, aligned=True)
    best = tokenizer.best(prepared)
    bounds = [0, *accumulate(best.counts.tolist())]
    for number, encoding in enumerate(found):
        at = [0, *accumulate(len(character.encode()) for character in texts[number])]
        ends = best.ends[bounds[number] : bounds[number + 1]]
        origin = int(prepared.segments.starts[number])
        starts = [0, *ends[:-1].tolist()]
        spans = [
            (
                int(prepared.origin_starts[origin + start]),
                int(prepared.origin_stops[origin + end - 1]),
            )
            for start, end in zip(starts, ends.tolist(), strict=False)
        ]
        assert spans == [(at[start], at[end]) for start, end in encoding.offsets]


def byte_piece_model() -> bytes:
    rng = random.Random(8)
    counts = {bytes([byte]): rng.randint(1, 50) for byte in range(256)}
    raw = "".join(lines()).encode()
    for _ in range(3000):
        begin = rng.randrange(len(raw) - 12)
        counts[raw[begin : begin + rng.randint(2, 9)]] = rng.randint(50, 5000)
    described = {
        base64.b64encode(piece).decode(): [number + 3, piece.decode("utf-8", "ignore"), count]
        for number, (piece, count) in enumerate(counts.items())
    }
    return json.dumps(described).encode()


def test_bytepiece_against_its_rule() -> None:
    # An independent reading of the rule: best path over bytes, longest first among equals.
    content = byte_piece_model()
    described = {base64.b64decode(key): value for key, value in json.loads(content).items()}
    total = np.log(sum(value[-1] for value in described.values()))
    scores = {key: np.log(value[-1]) - total for key, value in described.items()}
    longest = max(map(len, scores))

    def best(line: bytes) -> list[int]:
        marks = [0.0] + [-np.inf] * len(line)
        backs = [0] * (len(line) + 1)
        for end in range(1, len(line) + 1):
            for start in range(max(0, end - longest), end):
                if line[start:end] in scores:
                    score = marks[start] + scores[line[start:end]]
                    if score > marks[end]:
                        marks[end], backs[end] = score, start
        ids, end = [], len(line)
        while end:
            ids.append(described[line[backs[end] : end]][0])
            end = backs[end]
        return ids[::-1]

    texts = lines()[:120] + ODD
    wanted = []
    for text in texts:
        import re
        import unicodedata

        parts = re.findall(".*\n+|.+", unicodedata.normalize("NFC", text))
        wanted.append([piece for part in parts for piece in best(part.encode())])
    tokenizer = open_piece_tokenizer(content)
    assert ids_of(tokenizer, texts) == wanted
    for text, ids in zip(texts, wanted, strict=True):
        assert tokenizer.decode(ids) == unicodedata.normalize("NFC", text)


def test_decoding_restores_the_normalised_text() -> None:
    tokenizer = shipped()
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(SHIPPED))
    for ids in ids_of(tokenizer, lines()):
        assert tokenizer.decode(ids) == theirs.decode(ids)
