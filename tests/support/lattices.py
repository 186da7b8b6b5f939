"""Enumerate every segmentation of a short text, the slow and obvious way."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from scipy import stats

from service.numerics.lattice.paths import Sampled, sample_paths
from service.numerics.lattice.vocabulary import Segments, Vocabulary, make_vocabulary
from service.runtime.tokenizers.base import PieceTokenizer
from service.runtime.tokenizers.opening import open_piece_tokenizer

SHIPPED = Path(__file__).parents[2] / "models" / "tokenizers" / "isotrope-unigram-32k.model"
# A vocabulary small enough to enumerate and odd enough to matter: ties, a character of three bytes,
# one that no piece covers (z), overlapping pieces.
SCORES: Mapping[str, float] = {
    "a": -2.0, "b": -2.5, "c": -2.5, "ab": -3.0, "bc": -3.2, "abc": -4.0, "ca": -3.1,
    "cab": -4.9, "bca": -5.0, "天": -4.0, "气": -4.2, "天气": -5.5, "a天": -6.0,
}  # fmt: skip
UNKNOWN_SCORE = -16.0


@dataclass(frozen=True, slots=True)
class Way:
    """Hold one segmentation: where pieces end, in bytes, and Σ l."""

    ends: tuple[int, ...]
    pieces: tuple[str, ...]
    score: float


@cache
def shipped() -> PieceTokenizer:
    """Return the shipped tokenizer."""
    return open_piece_tokenizer(SHIPPED.read_bytes())


def small_vocabulary(
    scores: Mapping[str, float] = SCORES, *, unknown: float | None = UNKNOWN_SCORE
) -> Vocabulary:
    """Return a vocabulary of these pieces; ids follow the order, the last id is unknown."""
    keys = [piece.encode() for piece in scores]
    return make_vocabulary(
        keys,
        np.arange(len(keys), dtype=np.int32),
        np.array([*scores.values(), 0.0]),
        unknown_id=len(keys),
        unknown_score=unknown,
    )


def segments_of(*texts: str | bytes) -> Segments:
    """Return texts as they are, one segment each."""
    raw = [text if isinstance(text, bytes) else text.encode() for text in texts]
    bounds = np.concatenate([[0], np.cumsum([len(each) for each in raw])]).astype(np.int64)
    return Segments(
        np.frombuffer(bytearray().join(raw), dtype=np.uint8),
        bounds,
        np.full(len(raw), -1, np.int32),
        np.arange(len(raw) + 1, dtype=np.int64),
    )


def enumerate_ways(
    text: str, scores: Mapping[str, float], unknown: float | None = UNKNOWN_SCORE
) -> list[Way]:
    """Return every segmentation; a character without a piece of its own is an unknown one."""

    def rest(place: int) -> Iterator[tuple[tuple[str, ...], float]]:
        if place == len(text):
            yield (), 0.0
            return
        for stop in range(place + 1, len(text) + 1):
            piece = text[place:stop]
            if piece in scores:
                score = scores[piece]
            elif stop == place + 1 and unknown is not None:
                score = unknown
            else:
                continue
            for pieces, total in rest(stop):
                yield (piece, *pieces), score + total

    ways = []
    for pieces, score in rest(0):
        ends = tuple(np.cumsum([len(piece.encode()) for piece in pieces]).tolist())
        ways.append(Way(ends, pieces, score))
    return ways


def law(ways: Sequence[Way], alpha: float) -> tuple[np.ndarray, float]:
    """Return the probability of each way, and log Z."""
    logs = np.array([alpha * way.score for way in ways])
    top = logs.max()
    log_z = top + math.log(math.fsum(np.exp(logs - top)))
    return np.exp(logs - log_z), log_z


def draw(vocabulary: Vocabulary, text: str, *, alpha: float, seed: int, samples: int) -> Sampled:
    """Return samples of one text."""
    return sample_paths(
        vocabulary,
        segments_of(text),
        alpha=alpha,
        weights=vocabulary.weights(alpha),
        samples=samples,
        key=np.array([seed, 77], np.uint64),
        names=np.zeros(1, np.uint64),
    )


def masks(ends: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return each path as one number with a bit for every place where a piece ends."""
    begins = np.concatenate([[0], np.cumsum(counts)])[:-1]
    return np.add.reduceat(np.left_shift(np.int64(1), ends.astype(np.int64)), begins)


def printed_mask(way: Way, scores: Mapping[str, float]) -> int:
    """Return the mask of a way as it is printed: neighbouring unknown characters are one piece."""
    kept: list[int] = []
    after_unknown = False
    for end, piece in zip(way.ends, way.pieces, strict=True):
        unknown = piece not in scores
        if unknown and after_unknown:
            kept[-1] = end
        else:
            kept.append(end)
        after_unknown = unknown
    return sum(1 << end for end in kept)


def p_value(observed: Mapping[int, int], expected: Mapping[int, float], draws: int) -> float:
    """Return the chi-square p of counts against a law; cells below 8 expected are pooled.

    0 where something was drawn that the law does not have.
    """
    if set(observed) - set(expected):
        return 0.0
    pairs = sorted(
        (probability * draws, observed.get(key, 0)) for key, probability in expected.items()
    )
    cells: list[list[float]] = [[0.0, 0.0]]
    for wanted, seen in pairs:
        if cells[-1][0] >= 8:
            cells.append([0.0, 0.0])
        cells[-1][0] += wanted
        cells[-1][1] += seen
    if len(cells) > 1 and cells[-1][0] < 8:
        last = cells.pop()
        cells[-1] = [cells[-1][0] + last[0], cells[-1][1] + last[1]]
    if len(cells) < 2:
        return 1.0
    wanted_, seen_ = np.array(cells).T
    statistic = float(((seen_ - wanted_) ** 2 / wanted_).sum())
    return float(stats.chi2.sf(statistic, len(cells) - 1))


def holm_rejects(p_values: Sequence[float], level: float = 0.001) -> list[int]:
    """Return which tests Holm's procedure rejects at a family-wise level."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    rejected = []
    for rank, place in enumerate(order):
        if p_values[place] > level / (len(order) - rank):
            break
        rejected.append(place)
    return rejected
