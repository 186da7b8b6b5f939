"""Run byte-pair merges over texts: cut into symbols, merge, print what is unknown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from service.numerics.dtypes import Ids32, Ids64, Vector64
from service.numerics.lattice.linear import UNKNOWN
from service.numerics.lattice.merging import merge_symbols
from service.numerics.lattice.paths import Paths
from service.numerics.lattice.vocabulary import Segments, Vocabulary
from service.runtime.tokenizers.base import Dropout

_PAIR = 1 << 32
_NOT_KNOWN = -1


@dataclass(frozen=True, slots=True)
class MergeTable:
    """Hold what merges.

    Attributes:
        symbols: id of each single character; some stand only for a step on the way to a piece and
            have ids beyond the vocabulary.
        frozen: id of each string that is kept whole.
        whole: id of each word that is taken as it is, before any merge.
        suffix: marks the end of a word, part of its last character.
        pairs: sorted, left * 2^32 + right.
        ranks: of each pair, lower first.
        joined: id that each pair becomes.
    """

    symbols: Mapping[str, int]
    frozen: Mapping[str, int]
    whole: Mapping[str, int]
    suffix: str
    pairs: Ids64
    ranks: Vector64
    joined: Ids32


def make_table(
    symbols: Mapping[str, int],
    merges: Mapping[tuple[int, int], tuple[float, int]],
    *,
    frozen: Mapping[str, int] | None = None,
    whole: Mapping[str, int] | None = None,
    suffix: str = "",
) -> MergeTable:
    """Return a table; `merges` maps a pair of ids to its rank and the id that it becomes."""
    keys = np.array([left * _PAIR + right for left, right in merges], np.int64)
    order = np.argsort(keys)
    ranks = np.array([rank for rank, _ in merges.values()], np.float64)
    joined = np.array([piece for _, piece in merges.values()], np.int32)
    return MergeTable(
        symbols, frozen or {}, whole or {}, suffix, keys[order], ranks[order], joined[order]
    )


def spell_merges(
    pieces: Mapping[str, int],
    *,
    ranks: Mapping[int, float],
    frozen: Mapping[str, int],
    first_free_id: int,
) -> MergeTable:
    """Return the table in which any two symbols merge whose texts together are a piece."""
    symbols = {piece: piece_id for piece, piece_id in pieces.items() if len(piece) == 1}
    for character in sorted({each for piece in pieces for each in piece}):
        if character not in symbols:
            symbols[character] = first_free_id + len(symbols)
    known = {**symbols, **pieces}
    merges = {
        (known[piece[:cut]], known[piece[cut:]]): (ranks[piece_id], piece_id)
        for piece, piece_id in pieces.items()
        for cut in range(1, len(piece))
        if piece[:cut] in known and piece[cut:] in known
    }
    return make_table(symbols, merges, frozen=frozen)


def merge_texts(
    vocabulary: Vocabulary, table: MergeTable, segments: Segments, dropout: Dropout
) -> Paths:
    """Return one path a text and sample, by merging each segment."""
    ids: list[int] = []
    ends: list[int] = []
    counts: list[int] = []
    splitter = _splitter(table)
    raw = segments.data.tobytes()
    for text in range(len(segments.groups) - 1):
        words = range(int(segments.groups[text]), int(segments.groups[text + 1]))
        origin = int(segments.bounds[words.start])
        split = [
            _split(raw[segments.bounds[word] : segments.bounds[word + 1]].decode(), table, splitter)
            if segments.fixed[word] < 0
            else (np.array([segments.fixed[word]], np.int32), _length(segments, word))
            for word in words
        ]
        name = dropout.names[text] if len(dropout.names) else np.uint64(0)
        for sample in range(dropout.samples):
            begin = len(ids)
            for number, (symbols, stops) in enumerate(split):
                shift = int(segments.bounds[words.start + number]) - origin
                merged, cuts = symbols.copy(), stops.copy()
                size = merge_symbols(
                    merged,
                    cuts,
                    table.pairs,
                    table.ranks,
                    table.joined,
                    dropout.probability,
                    dropout.key,
                    name,
                    np.uint64(sample),
                    np.uint64(number),
                )
                _print(merged[:size], cuts[:size], shift, raw, origin, vocabulary, ids, ends)
            counts.append(len(ids) - begin)
    return Paths(np.array(ids, np.int32), np.array(ends, np.int32), np.array(counts, np.int64))


def _length(segments: Segments, word: int) -> Ids32:
    return np.array([segments.bounds[word + 1] - segments.bounds[word]], np.int32)


def _splitter(table: MergeTable) -> re.Pattern[str]:
    """Return a pattern that finds kept strings, the longest first, or one character."""
    kept = sorted(table.frozen, key=len, reverse=True)
    return re.compile("|".join([*map(re.escape, kept), "."]), re.DOTALL)


def _split(word: str, table: MergeTable, splitter: re.Pattern[str]) -> tuple[Ids32, Ids32]:
    """Return the symbols of a word and where each ends, in bytes."""
    if word in table.whole:
        found = [table.whole[word]]
        return np.array(found, np.int32), np.array([len(word.encode())], np.int32)
    bare = word.removesuffix(table.suffix) if table.suffix else word
    parts = splitter.findall(bare)
    if parts and table.suffix:
        parts[-1] += table.suffix
    ids = [table.frozen.get(part, table.symbols.get(part, _NOT_KNOWN)) for part in parts]
    ends = np.cumsum([len(part.encode()) for part in parts], dtype=np.int64).astype(np.int32)
    return np.array(ids, np.int32), ends


def _print(  # noqa: PLR0917 - one loop's state
    symbols: Ids32,
    cuts: Ids32,
    shift: int,
    raw: bytes,
    origin: int,
    vocabulary: Vocabulary,
    ids: list[int],
    ends: list[int],
) -> None:
    """Append a word's ids; an unknown symbol is printed as bytes, or fused with the one before."""
    start = 0
    after_unknown = False
    for symbol, cut in zip(symbols.tolist(), cuts.tolist(), strict=True):
        if 0 <= symbol < vocabulary.size:
            ids.append(symbol)
            ends.append(shift + cut)
            after_unknown = False
        elif len(vocabulary.byte_ids):
            for place in range(start, cut):
                ids.append(int(vocabulary.byte_ids[raw[origin + shift + place]]))
                ends.append(shift + place + 1)
        elif after_unknown:
            ends[-1] = shift + cut
        else:
            ids.append(int(vocabulary.rules[UNKNOWN]))
            ends.append(shift + cut)
            after_unknown = True
        start = cut
