"""Count ids other than the original libraries', and test laws of sampling against enumeration.

```
python -m benchmarks.tokenization_exact [--data FOLDER]
```

Ids: 10,000 lines for each kind of tokenizer: those of FOLDER as far as they go, made-up ones and
odd strings after them. Laws: every segmentation of a text is enumerated, and 100,000 draws of a
sampler are compared with the law by chi-square, at a family-wise level of 0.001 (Holm). The same
test must reject the first Viterbi Sampling and the sampler of Hugging Face at α 0.1. Writes
`results/tokenization_exact.json`.
"""

from __future__ import annotations

import argparse
import io
import math
import os
import random
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
import sentencepiece
from scipy import stats
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from benchmarks import results
from benchmarks.results import Bar
from benchmarks.tokenization import MODEL, read_lines
from service.numerics.lattice.paths import sample_paths
from service.numerics.lattice.per_text import first_version_paths
from service.runtime.tokenizers.base import PieceTokenizer
from service.runtime.tokenizers.opening import open_piece_tokenizer

LINES = 10_000
DRAWS = 100_000
LEVEL = 0.001
_LEAST_EXPECTED = 8  # draws in a cell of the chi-square test; rarer ones are pooled
# Small enough to enumerate, with overlaps, ties and a character of three bytes.
SCORES: Mapping[str, float] = {
    "<unk>": 0.0, "a": -2.0, "b": -2.5, "c": -2.5, "ab": -3.0, "bc": -3.2, "abc": -4.0,
    "ca": -3.1, "cab": -4.9, "bca": -5.0, "天": -4.0, "气": -4.2, "天气": -5.5, "a天": -6.0,
}  # fmt: skip
TEXTS = ("abcabca", "天气a天气", "abcabcabcab", "cabcab天气", "bcabca天")
ALPHAS = (0.0, 0.1, 0.3, 0.5, 1.0, 2.0)
_KANA = "こんにちは世界ひらがなカタカナテキスト日本語ガパがｶﾞ"
_ODD = (
    "", " ", "   ", " a ", "\t\n", "ﬁ ½ ①", "ＡＢＣ　ｄｅｆ", "e\u0301 a\u0300\u0301 ﷺ", "a" * 99,
    "\u200b\ufeff x\ty\n\nz", "🙂🙃👨\u200d👩\u200d👧", "한국어", "\x01 \x7f", "<unk> <s> </s> <0x41>",
    "▁▁ ▁x", "ΑΒΓ ё й", "㍿ ㌔ Ⅷ", "a\u0308\u0323", "２.３３３",
)  # fmt: skip


def all_lines(folder: Path | None) -> list[str]:
    """Return 10,000 lines of English, Chinese, Japanese, noise and odd strings."""
    rng = random.Random(2)
    latin, han = read_lines(folder)
    known = [*latin[:4000], *han[:4000], *_ODD]
    while len(known) < LINES:
        known.append("".join(rng.choices(_KANA, k=rng.randint(1, 40))))
        size = rng.randint(1, 30)
        known.append("".join(chr(rng.choice((rng.randint(32, 0x2FF), rng.randint(0x300, 0xD7FF),
                                             rng.randint(0xE000, 0x1F9FF)))) for _ in range(size)))  # fmt: skip
        known.append(" ".join(rng.choices(latin[0].split() + ["  x", "aaaa", "é"], k=size)))
    return known[:LINES]


def trained_piece_model(lines: Sequence[str], **options: object) -> bytes:
    """Return a SentencePiece model trained on the lines."""
    content = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=content,
        minloglevel=2,
        hard_vocab_limit=False,
        num_threads=1,
        **options,
    )
    return content.getvalue()


def trained_json(lines: Sequence[str]) -> Iterator[tuple[str, Tokenizer]]:
    """Yield one `tokenizer.json` of each kind, trained on the lines."""
    unigram = Tokenizer(models.Unigram())
    unigram.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    unigram.pre_tokenizer = pre_tokenizers.Metaspace()
    unigram.train_from_iterator(lines, trainers.UnigramTrainer(
        vocab_size=4000, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False))  # fmt: skip
    yield "Unigram", unigram
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.train_from_iterator(lines, trainers.BpeTrainer(
        vocab_size=4000, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))  # fmt: skip
    yield "byte-level BPE", bpe
    words = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    words.normalizer = normalizers.BertNormalizer()
    words.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    words.train_from_iterator(lines, trainers.WordPieceTrainer(
        vocab_size=4000, special_tokens=["[UNK]"], show_progress=False))  # fmt: skip
    yield "WordPiece", words


def best_ids(tokenizer: PieceTokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Return our ids of every text."""
    best = tokenizer.best(tokenizer.prepare(texts))
    flat, bounds = best.ids.tolist(), [0, *accumulate(best.counts.tolist())]
    return [flat[start:stop] for start, stop in pairwise(bounds)]


def fidelity_bars(lines: Sequence[str]) -> Iterator[Bar]:
    """Yield, for each kind of tokenizer, in how many lines ids differ from its library's."""
    some = lines[: LINES // 2 : 2]
    files = {
        "SentencePiece Unigram, the shipped one": MODEL.read_bytes(),
        "SentencePiece Unigram, user-defined pieces": trained_piece_model(
            some, model_type="unigram", vocab_size=4000, user_defined_symbols="<sep>,the,天气"
        ),
        "SentencePiece BPE": trained_piece_model(
            some, model_type="bpe", vocab_size=4000, byte_fallback=True, character_coverage=0.98
        ),
    }
    texts = list(lines)
    for name, content in files.items():
        theirs = sentencepiece.SentencePieceProcessor(model_proto=content)
        yield difference(name, content, texts, theirs.encode(texts))
    for kind, other in trained_json(some):
        found = [each.ids for each in other.encode_batch(texts, add_special_tokens=False)]
        yield difference(f"tokenizer.json {kind}", other.to_str().encode(), texts, found)


def difference(name: str, content: bytes, texts: list[str], wanted: list[list[int]]) -> Bar:
    """Return how many lines have other ids than wanted."""
    ours = best_ids(open_piece_tokenizer(content), texts)
    count = sum(mine != other for mine, other in zip(ours, wanted, strict=True))
    return Bar(f"{name}: lines with other ids", float(count), None, "<=", 0.0, "", f"{len(texts)} lines")  # fmt: skip


def enumerated_law(text: str, alpha: float) -> dict[tuple[int, ...], float]:
    """Return the chance of every segmentation, by ids."""
    ids = {piece: place for place, piece in enumerate(SCORES)}

    def rest(place: int) -> Iterator[tuple[tuple[int, ...], float]]:
        if place == len(text):
            yield (), 0.0
        for stop in range(place + 1, len(text) + 1):
            piece = text[place:stop]
            if piece in SCORES:
                yield from (((ids[piece], *after), SCORES[piece] + score) for after, score in rest(stop))  # fmt: skip

    ways = dict(rest(0))
    total = math.fsum(math.exp(alpha * score) for score in ways.values())
    return {way: math.exp(alpha * score) / total for way, score in ways.items()}


def p_value(drawn: Counter[tuple[int, ...]], law: Mapping[tuple[int, ...], float]) -> float:
    """Return the chi-square p of counts against a law; 0 for a draw that the law does not have."""
    if set(drawn) - set(law):
        return 0.0
    draws = drawn.total()
    cells = [[0.0, 0.0]]
    for chance, seen in sorted((law[way] * draws, float(drawn[way])) for way in law):
        if cells[-1][0] >= _LEAST_EXPECTED:
            cells.append([0.0, 0.0])
        cells[-1][0] += chance
        cells[-1][1] += seen
    expected, observed = np.array(cells).T
    statistic = float(((observed - expected) ** 2 / expected).sum())
    return float(stats.chi2.sf(statistic, len(cells) - 1)) if len(cells) > 1 else 1.0


def count_paths(ids: Sequence[int], counts: Sequence[int]) -> Counter[tuple[int, ...]]:
    """Return how often each path was drawn."""
    return Counter(tuple(ids[start:stop]) for start, stop in pairwise([0, *accumulate(counts)]))


def hugging_face() -> Tokenizer:
    """Return the small vocabulary as the library holds it."""
    return Tokenizer(models.Unigram(list(SCORES.items()), unk_id=0, byte_fallback=False))


def ours_drawn(
    tokenizer: PieceTokenizer, text: str, alpha: float, seed: int, *, first_rule: bool
) -> Counter[tuple[int, ...]]:
    """Return how often our exact sampler, or the first rule, drew each path."""
    vocabulary, segments = tokenizer.vocabulary, tokenizer.prepare([text]).segments
    key, names = np.array([seed, 9], np.uint64), np.zeros(1, np.uint64)
    if first_rule:
        drawn = first_version_paths(
            vocabulary, segments, alpha=alpha, samples=DRAWS, key=key, names=names
        )
    else:
        drawn = sample_paths(
            vocabulary,
            segments,
            alpha=alpha,
            weights=vocabulary.weights(alpha),
            samples=DRAWS,
            key=key,
            names=names,
        )
    return count_paths(drawn.paths.ids.tolist(), drawn.paths.counts.tolist())


def theirs_drawn(text: str, alpha: float) -> Counter[tuple[int, ...]]:
    """Return how often Hugging Face's sampler drew each path."""
    sampler = hugging_face()
    sampler.model.alpha = alpha
    encodings = sampler.encode_batch_fast([text] * DRAWS, add_special_tokens=False)
    return Counter(tuple(encoding.ids) for encoding in encodings)


def law_bars() -> Iterator[Bar]:
    """Yield what the chi-square test says of our sampler, the first rule and Hugging Face's."""
    tokenizer = open_piece_tokenizer(hugging_face().to_str().encode())
    ours = sorted(
        p_value(ours_drawn(tokenizer, text, alpha, seed, first_rule=False), enumerated_law(text, alpha))
        for text in TEXTS
        for alpha in ALPHAS
        for seed in (1, 2)
    )  # fmt: skip
    adjusted = min(value * (len(ours) - rank) for rank, value in enumerate(ours))
    yield Bar("ours: smallest p over all cells, Holm-corrected", adjusted, None, ">=", LEVEL, "",
              f"{len(ours)} cells of {DRAWS} draws")  # fmt: skip
    text = TEXTS[2]
    law = enumerated_law(text, 0.1)
    first = p_value(ours_drawn(tokenizer, text, 0.1, 1, first_rule=True), law)
    yield Bar("first Viterbi Sampling at α 0.1: p", first, None, "<=", LEVEL)
    yield Bar("Hugging Face at α 0.1: p", p_value(theirs_drawn(text, 0.1), law), None, "<=", LEVEL)
    exact = p_value(theirs_drawn(text, 1.0), enumerated_law(text, 1.0))
    yield Bar("Hugging Face at α 1, where it is exact: p", exact)


def main() -> None:
    """Print and write every bar."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path)
    options = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    load = os.getloadavg()
    bars = [*fidelity_bars(all_lines(options.data)), *law_bars()]
    results.write(
        "tokenization_exact",
        settings={"lines": LINES, "draws": DRAWS, "data": options.data is not None},
        rounds=[],
        bars=bars,
        load_average_before=load,
    )
    sys.stdout.write(results.report(["tokenization_exact"]))


if __name__ == "__main__":
    main()
