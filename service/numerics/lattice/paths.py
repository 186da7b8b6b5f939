"""Segment batches of texts into flat arrays, and keep the scratch of each thread."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from service.numerics.dtypes import Ids32, Ids64, Vector32, Vector64
from service.numerics.lattice.best import best_texts, longest_texts
from service.numerics.lattice.linear import sample_texts
from service.numerics.lattice.logspace import filter_log, sample_text_log
from service.numerics.lattice.vocabulary import MOST_PIECE_BYTES, Segments, Vocabulary


class Paths(NamedTuple):
    """Hold segmentations, one after another.

    Attributes:
        ids: int32, of all paths.
        ends: int32, where each piece ends, in normalised bytes from the start of its text.
        counts: (paths,) int64, ids of each path.
    """

    ids: Ids32
    ends: Ids32
    counts: Ids64


class Sampled(NamedTuple):
    """Hold sampled segmentations.

    Attributes:
        paths: text by text, `samples` paths each.
        log_probs: (texts * samples,) nats.
        log_partitions: (texts,) log Z; NaN where no piece covers a text.
    """

    paths: Paths
    log_probs: Vector64
    log_partitions: Vector64


@dataclass(frozen=True, slots=True)
class _Scratch:
    """Hold what the kernels write on the way.

    Attributes:
        mass: of each place of a text.
        single: best sum at each place, where it is kept as float32.
        firsts: first arc of each place.
        ways: best way to each place.
        parts: running sums over arcs.
        arcs: the arcs.
    """

    mass: Vector64
    single: Vector32
    firsts: Ids32
    ways: Ids64
    parts: Vector64
    arcs: Ids64


class _Kept(threading.local):
    """Keep one scratch a thread: a short text should not pay for memory."""

    scratch: _Scratch | None = None


_KEPT = _Kept()
_KEPT_BYTES = 16_384  # texts up to here share the kept scratch
_ARCS_A_BYTE = (
    8  # measured: 2 to 5 in English and Chinese; more is asked for where it is not enough
)


def _make_scratch(places: int, arcs: int) -> _Scratch:
    return _Scratch(
        np.empty(places, np.float64),
        np.empty(places, np.float32),
        np.empty(places, np.int32),
        np.empty(places, np.int64),
        np.empty(arcs, np.float64),
        np.empty(arcs, np.int64),
    )


def _scratch(segments: Segments, arcs_a_byte: int = _ARCS_A_BYTE) -> _Scratch:
    """Return scratch for the longest text; pages that are not touched cost nothing."""
    places = len(segments.data) + 1
    if places > _KEPT_BYTES:
        places = int(np.diff(segments.starts).max()) + 1
    if places > _KEPT_BYTES or arcs_a_byte > _ARCS_A_BYTE:
        return _make_scratch(places, arcs_a_byte * places + MOST_PIECE_BYTES)
    if _KEPT.scratch is None:
        room = _ARCS_A_BYTE * _KEPT_BYTES + MOST_PIECE_BYTES
        _KEPT.scratch = _make_scratch(_KEPT_BYTES, room)
    return _KEPT.scratch


def best_paths(vocabulary: Vocabulary, segments: Segments) -> Paths:
    """Return the best segmentation of every text; a text that no piece covers has count -1."""
    scratch = _scratch(segments)
    room = len(segments.data) + len(segments.fixed)
    ids, ends = np.empty(room, np.int32), np.empty(room, np.int32)
    counts = np.empty(len(segments.groups) - 1, np.int64)
    size = best_texts(
        segments.data,
        segments.bounds,
        segments.fixed,
        segments.groups,
        vocabulary.trie.units,
        vocabulary.best_scores,
        vocabulary.rules,
        vocabulary.byte_ids,
        scratch.single if vocabulary.best_scores.dtype == np.float32 else scratch.mass,
        scratch.ways,
        ids,
        ends,
        counts,
    )
    return Paths(ids[:size], ends[:size], counts)


def longest_paths(vocabulary: Vocabulary, segments: Segments) -> Paths:
    """Return the segmentation of every text that takes the longest piece each time."""
    room = len(segments.data) + len(segments.fixed)
    ids, ends = np.empty(room, np.int32), np.empty(room, np.int32)
    counts = np.empty(len(segments.groups) - 1, np.int64)
    size = longest_texts(
        segments.data,
        segments.bounds,
        segments.fixed,
        segments.groups,
        vocabulary.trie.units,
        vocabulary.rules,
        ids,
        ends,
        counts,
    )
    return Paths(ids[:size], ends[:size], counts)


def sample_paths(
    vocabulary: Vocabulary,
    segments: Segments,
    *,
    alpha: float,
    weights: Vector64,
    samples: int,
    key: Ids64,
    names: Ids64,
) -> Sampled:
    """Draw from P(path)^α / Z, `samples` times a text.

    Args:
        vocabulary: pieces and scores.
        segments: the texts.
        alpha: 0 or more; 0 is uniform over paths, 1 the model's own law.
        weights: `vocabulary.weights(alpha)`.
        samples: at least 1.
        key: (2,) uint64, of the random streams.
        names: (texts,) uint64, stream of each text: its sample k depends on this, k and the key.
    """
    texts = len(segments.groups) - 1
    room = samples * (len(segments.data) + len(segments.fixed))
    ids, ends = np.empty(room, np.int32), np.empty(room, np.int32)
    counts = np.empty(texts * samples, np.int64)
    log_probs = np.empty(texts * samples, np.float64)
    log_partitions = np.empty(texts, np.float64)
    size, failed = 0, texts
    arcs_a_byte = _ARCS_A_BYTE
    while vocabulary.fits_linear(alpha):
        scratch = _scratch(segments, arcs_a_byte)
        size, failed = sample_texts(
            segments.data,
            segments.bounds,
            segments.fixed,
            segments.groups,
            vocabulary.trie.units,
            weights,
            vocabulary.scores,
            vocabulary.rules,
            vocabulary.byte_ids,
            key,
            names,
            samples,
            alpha,
            scratch.mass,
            scratch.firsts,
            scratch.parts,
            scratch.arcs,
            ids,
            ends,
            counts,
            log_probs,
            log_partitions,
        )
        if size >= 0:
            break
        arcs_a_byte *= 4
    paths = Paths(ids[:size], ends[:size], counts)
    found = Sampled(paths, log_probs, log_partitions)
    if not failed:
        return found
    if failed == texts:
        counts[:] = 0
        log_partitions[:] = math.nan
    return _sample_in_logs(
        vocabulary, segments, found, alpha=alpha, samples=samples, key=key, names=names
    )


def log_masses(vocabulary: Vocabulary, segments: Segments, logs: Vector64) -> Vector64:
    """Return L of one text, (n + 1,); L[0] is log Z, -inf where no piece covers the text."""
    masses = np.empty(len(segments.data) + 1, np.float64)
    filter_log(
        segments.data,
        segments.bounds,
        segments.fixed,
        vocabulary.trie.units,
        logs,
        vocabulary.rules,
        masses,
    )
    return masses


def _sample_in_logs(
    vocabulary: Vocabulary,
    segments: Segments,
    sampled: Sampled,
    *,
    alpha: float,
    samples: int,
    key: Ids64,
    names: Ids64,
) -> Sampled:
    """Draw again, in logarithms, what plain numbers had no range for."""
    logs = vocabulary.log_weights(alpha)
    counts, log_probs = sampled.paths.counts, sampled.log_probs
    log_partitions = sampled.log_partitions
    begins = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    parts: list[tuple[Ids32, Ids32]] = []
    for text in range(len(segments.groups) - 1):
        row = slice(text * samples, (text + 1) * samples)
        if not math.isnan(log_partitions[text]):
            taken = slice(begins[row.start], begins[row.stop])
            parts.append((sampled.paths.ids[taken], sampled.paths.ends[taken]))
            continue
        alone = segments.one(text)
        masses = log_masses(vocabulary, alone, logs)
        if masses[0] == -math.inf:
            continue
        log_partitions[text] = masses[0]
        room = samples * (len(alone.data) + len(alone.fixed))
        ids, ends = np.empty(room, np.int32), np.empty(room, np.int32)
        size = sample_text_log(
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
            samples,
            ids,
            ends,
            counts[row],
            log_probs[row],
        )
        parts.append((ids[:size], ends[:size]))
    empty = np.empty(0, np.int32)
    ids = np.concatenate([empty, *(part[0] for part in parts)])
    ends = np.concatenate([empty, *(part[1] for part in parts)])
    return Sampled(Paths(ids, ends, counts), log_probs, log_partitions)
