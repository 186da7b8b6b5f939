"""Small tokenizers and language models, made in a moment, on which healing can be enumerated."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from scipy.special import log_softmax
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from service.numerics.dtypes import Vector64
from service.numerics.healing.pieces import Pieces, sort_pieces
from service.numerics.healing.reopening import Stem

_LETTERS = {
    number: byte
    for byte, number in zip(
        [*range(33, 127), *range(161, 173), *range(174, 256), *range(33), *range(127, 161), 173],
        [*range(33, 127), *range(161, 173), *range(174, 256), *range(256, 324)],
        strict=True,
    )
}


class SmallTokenizer:
    """A byte-level tokenizer with its pieces in bytes; the last id is a special token."""

    def __init__(self, tokenizer: Tokenizer, pieces: Pieces) -> None:
        self.tokenizer = tokenizer
        self.pieces = pieces

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text."""
        return [each.ids for each in self.tokenizer.encode_batch(list(texts))]

    def ids(self, text: str) -> list[int]:
        """Return the ids of one text."""
        return self.encode([text])[0]

    def text(self, ids: Sequence[int]) -> bytes:
        """Return the bytes that ids stand for."""
        return b"".join(self.pieces.texts[each] for each in ids)


@cache
def trained_tokenizer() -> SmallTokenizer:
    """Return a tokenizer trained on this checkout's own words, split as GPT-2 splits."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    more = (
        "def encode(self, texts):\n        return texts\n\n\n\n" * 3 + "naïve café 天气 😀😀 " * 3
    )
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=2,
    )
    tokenizer.train_from_iterator([text, more], trainer)
    tokenizer.add_special_tokens(["<end>"])
    return SmallTokenizer(tokenizer, _pieces(tokenizer, special="<end>"))


@cache
def letter_tokenizer() -> SmallTokenizer:
    """Return byte pairs over a, b and c, few enough to enumerate."""
    pairs = [("a", "b"), ("b", "c"), ("ab", "c"), ("c", "ab"), ("a", "a"), ("bc", "a")]
    names = ["a", "b", "c", *(left + right for left, right in pairs)]
    tokenizer = Tokenizer(models.BPE({name: at for at, name in enumerate(names)}, pairs))
    tokenizer.add_special_tokens(["<end>"])
    return SmallTokenizer(tokenizer, _pieces(tokenizer, special="<end>"))


def _pieces(tokenizer: Tokenizer, *, special: str) -> Pieces:
    names = sorted(tokenizer.get_vocab().items(), key=lambda each: each[1])
    return sort_pieces(
        [b"" if name == special else bytes(_LETTERS[ord(c)] for c in name) for name, _ in names]
    )


def next_logits(ids: Sequence[int], size: int) -> Vector64:
    """Return the logits of a made-up language model that depends on every id before."""
    digest = hashlib.blake2b(repr(tuple(ids)).encode(), digest_size=8).digest()
    return np.random.default_rng(int.from_bytes(digest, "little")).normal(scale=2.0, size=size)


def enumerate_covers(
    pieces: Pieces, kept: Sequence[int], removed: bytes, stems: set[Stem] | None
) -> Iterator[tuple[Stem, float]]:
    """Yield every row of pieces that reaches or crosses the end of `removed`, and its log chance.

    Args:
        pieces: the vocabulary.
        kept: ids before.
        removed: what is to be covered.
        stems: rows that may stand before the last piece; None for all.
    """

    def extend(stem: Stem, rest: bytes, weight: float) -> Iterator[tuple[Stem, float]]:
        chances = log_softmax(next_logits([*kept, *stem], len(pieces.texts)))
        for piece, text in enumerate(pieces.texts):
            longer, total = (*stem, piece), weight + float(chances[piece])
            if len(text) > len(rest) and text.startswith(rest):
                yield longer, total
            elif text and rest.startswith(text) and (stems is None or longer in stems):
                if len(text) == len(rest):
                    yield longer, total
                else:
                    yield from extend(longer, rest[len(text) :], total)

    yield from extend((), removed, 0.0)
