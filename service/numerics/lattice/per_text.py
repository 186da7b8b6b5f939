"""Rank, measure and draw segmentations that need the whole lattice of one text at a time."""

from __future__ import annotations

import math

import numpy as np

from service.numerics.dtypes import Ids32, Ids64, Vector64
from service.numerics.lattice.logspace import measure_text
from service.numerics.lattice.paths import Paths, Sampled, log_masses
from service.numerics.lattice.ranking import rank_ways, read_ways
from service.numerics.lattice.viterbi_sampling_v1 import sample_text_v1
from service.numerics.lattice.vocabulary import Segments, Vocabulary
from service.numerics.lattice.without_replacement import draw_distinct


def measure(
    vocabulary: Vocabulary, segments: Segments, *, alpha: float
) -> tuple[Vector64, Vector64]:
    """Return the entropy in nats and the expected number of printed ids, (texts,) each."""
    texts = len(segments.groups) - 1
    entropies, expected = np.empty(texts), np.empty(texts)
    logs = vocabulary.log_weights(alpha)
    for text in range(texts):
        alone = segments.one(text)
        masses = log_masses(vocabulary, alone, logs)
        entropies[text], expected[text], _ = measure_one(vocabulary, alone, logs, masses)
    return entropies, expected


def measure_one(
    vocabulary: Vocabulary, segments: Segments, logs: Vector64, masses: Vector64
) -> tuple[float, float, Vector64]:
    """Return entropy, expected number of printed ids and A, (n + 1,), of one text."""
    cuts = np.empty(len(segments.data) + 1)
    entropy, expected = measure_text(
        segments.data,
        segments.bounds,
        segments.fixed,
        vocabulary.trie.units,
        logs,
        vocabulary.rules,
        len(vocabulary.byte_ids) > 0,
        masses,
        cuts,
    )
    return max(0.0, entropy), expected, cuts


def rank_paths(vocabulary: Vocabulary, segments: Segments, *, alpha: float, most: int) -> Sampled:
    """Return the best `most` paths of every text by Σ l, with their chances under P^α / Z.

    A text with fewer paths has counts of -1 at the end.
    """
    logs, scores = vocabulary.log_weights(alpha), vocabulary.log_weights(1.0)
    parts = _Parts(len(segments.groups) - 1, most)
    for text in range(parts.texts):
        alone = segments.one(text)
        masses = log_masses(vocabulary, alone, logs)
        size = len(alone.data)
        best = np.empty((size + 1, most))
        pieces, ends, ranks = (np.empty((size + 1, most), np.int32) for _ in range(3))
        rank_ways(
            alone.data,
            alone.bounds,
            alone.fixed,
            vocabulary.trie.units,
            scores,
            vocabulary.rules,
            most,
            best,
            pieces,
            ends,
            ranks,
        )
        ids, stops = _room(alone, most)
        row = parts.row(text)
        found = read_ways(
            alone.data,
            vocabulary.rules,
            vocabulary.byte_ids,
            most,
            best,
            pieces,
            ends,
            ranks,
            ids,
            stops,
            parts.counts[row],
        )
        parts.log_probs[row] = alpha * best[0] - masses[0]
        parts.add(text, ids[:found], stops[:found], masses[0])
    return parts.finish()


def distinct_paths(
    vocabulary: Vocabulary,
    segments: Segments,
    *,
    alpha: float,
    most: int,
    key: Ids64,
    names: Ids64,
) -> tuple[Sampled, Vector64]:
    """Draw up to `most` distinct paths a text, and the log chance of each to be among them."""
    logs = vocabulary.log_weights(alpha)
    parts = _Parts(len(segments.groups) - 1, most)
    inclusion = np.zeros(parts.texts * most)
    for text in range(parts.texts):
        alone = segments.one(text)
        masses = log_masses(vocabulary, alone, logs)
        if masses[0] == -math.inf:
            continue
        ids, stops = _room(alone, most)
        row = parts.row(text)
        noises = np.empty(most + 1)
        found = draw_distinct(
            alone.data,
            alone.bounds,
            alone.fixed,
            vocabulary.trie.units,
            logs,
            vocabulary.rules,
            vocabulary.byte_ids,
            masses,
            key,
            names[text],
            most,
            ids,
            stops,
            parts.counts[row],
            parts.log_probs[row],
            noises,
        )
        inclusion[row] = _log_inclusion(parts.log_probs[row], noises, parts.counts[row])
        parts.add(text, ids[:found], stops[:found], masses[0])
    return parts.finish(), inclusion


def first_version_paths(
    vocabulary: Vocabulary,
    segments: Segments,
    *,
    alpha: float,
    samples: int,
    key: Ids64,
    names: Ids64,
) -> Sampled:
    """Draw by the biased first rule; log-probabilities are those of the unbiased law."""
    logs = vocabulary.log_weights(alpha)
    parts = _Parts(len(segments.groups) - 1, samples)
    for text in range(parts.texts):
        alone = segments.one(text)
        masses = log_masses(vocabulary, alone, logs)
        if masses[0] == -math.inf:
            continue
        ids, stops = _room(alone, samples)
        row = parts.row(text)
        found = sample_text_v1(
            alone.data,
            alone.bounds,
            alone.fixed,
            vocabulary.trie.units,
            logs,
            vocabulary.rules,
            vocabulary.byte_ids,
            key,
            names[text],
            samples,
            ids,
            stops,
            parts.counts[row],
            parts.log_probs[row],
        )
        parts.log_probs[row] -= masses[0]
        parts.add(text, ids[:found], stops[:found], masses[0])
    return parts.finish()


def _log_inclusion(log_probs: Vector64, noises: Vector64, counts: Ids64) -> Vector64:
    """Return log(1 - exp(-exp(log p - κ))); 0 where nothing was left out."""
    there = counts >= 0
    logs = np.full(len(counts), -math.inf)
    if not there.all() or noises[-1] == -math.inf:
        logs[there] = 0.0
        return logs
    rates = np.exp(log_probs - noises[-1])
    logs[:] = np.log(-np.expm1(-rates))
    return logs


def _room(segments: Segments, samples: int) -> tuple[Ids32, Ids32]:
    room = samples * (len(segments.data) + len(segments.fixed))
    return np.empty(room, np.int32), np.empty(room, np.int32)


class _Parts:
    """Collect the paths of text after text.

    Args:
        texts: how many there are.
        most: paths a text.
    """

    def __init__(self, texts: int, most: int) -> None:
        self.texts = texts
        self._most = most
        self.counts = np.full(texts * most, -1, np.int64)
        self.log_probs = np.full(texts * most, -math.inf)
        self.log_partitions = np.full(texts, np.nan)
        self._ids: list[Ids32] = [np.empty(0, np.int32)]
        self._ends: list[Ids32] = [np.empty(0, np.int32)]

    def row(self, text: int) -> slice:
        """Return where the paths of a text stand."""
        return slice(text * self._most, (text + 1) * self._most)

    def add(self, text: int, ids: Ids32, ends: Ids32, log_partition: float) -> None:
        """Take what was found for a text."""
        self.log_partitions[text] = log_partition
        self._ids.append(ids)
        self._ends.append(ends)

    def finish(self) -> Sampled:
        """Return all of it."""
        paths = Paths(np.concatenate(self._ids), np.concatenate(self._ends), self.counts)
        return Sampled(paths, self.log_probs, self.log_partitions)
