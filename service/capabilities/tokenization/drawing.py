"""Draw, rank and measure segmentations of prepared texts: one call a piece of pool work."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from service.capabilities.tokenization.collection import Opened
from service.errors import Fault, InvalidInput
from service.numerics.dtypes import Ids32, Ids64, Vector64
from service.numerics.lattice.paths import Paths, log_masses, sample_paths
from service.numerics.lattice.per_text import (
    distinct_paths,
    first_version_paths,
    measure,
    rank_paths,
)
from service.numerics.seeds import stream_key
from service.runtime.tokenizers.base import Dropout, Kind, Prepared

POSSIBLE: dict[Kind, tuple[str, ...]] = {
    Kind.UNIGRAM: (
        "sample",
        "sample_without_replacement",
        "nbest",
        "uniform",
        "viterbi_sampling_v1",
    ),
    Kind.BPE: ("bpe_dropout", "uniform"),
    Kind.WORDPIECE: ("uniform",),
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Describe what is to be drawn.

    Attributes:
        method: one of the request's methods.
        alpha: exponent of the law; 0 for `uniform`.
        dropout: probability of passing over a merge.
        samples: paths a text.
        seed: of all streams.
        by_content: whether a text's stream hangs on its content instead of its place.
        measured: whether entropy and expected tokens are wanted.
        aligned: whether pieces are wanted with their places in the original text.
    """

    method: str
    alpha: float
    dropout: float
    samples: int
    seed: int
    by_content: bool
    measured: bool
    aligned: bool


@dataclass(frozen=True, slots=True)
class Drawn:
    """Hold the paths of some texts.

    Attributes:
        prepared: the texts.
        paths: text by text; a count of -1 stands for a path that does not exist.
        log_probs: of each path, NaN where the method has no law.
        inclusion: log chance of each path to be included, empty for other methods.
        log_partitions: (texts,) log Z, NaN where the method has no law.
        entropies: (texts,) nats, empty where not wanted.
        expected: (texts,) printed ids, empty where not wanted.
    """

    prepared: Prepared
    paths: Paths
    log_probs: Vector64
    inclusion: Vector64
    log_partitions: Vector64
    entropies: Vector64
    expected: Vector64


def draw(opened: Opened, texts: Sequence[str], first: int, wanted: Wanted) -> Drawn:
    """Return paths of texts; `first` is the place of the first one in the request.

    Raises:
        InvalidInput: no piece covers some text.
    """
    prepared = opened.tokenizer.prepare(texts, aligned=wanted.aligned)
    key = _key(opened, wanted)
    names = _names(texts, first, by_content=wanted.by_content)
    if wanted.method == "bpe_dropout":
        dropout = Dropout(wanted.dropout, wanted.samples, key, names)
        return _without_law(prepared, opened.tokenizer.drop_merges(prepared, dropout))
    drawn = _draw_from_law(opened, prepared, wanted, key, names)
    if np.isnan(drawn.log_partitions).any() or np.isneginf(drawn.log_partitions).any():
        bad = int(np.flatnonzero(~np.isfinite(drawn.log_partitions))[0])
        raise InvalidInput(
            f"No row of pieces covers text {first + bad}: the vocabulary lacks some of its bytes.",
            faults=(Fault(f"/texts/{first + bad}", "no piece covers all of it"),),
        )
    return drawn


def _draw_from_law(
    opened: Opened, prepared: Prepared, wanted: Wanted, key: Ids64, names: Ids64
) -> Drawn:
    vocabulary, segments = opened.tokenizer.vocabulary, prepared.segments
    inclusion = np.empty(0)
    if wanted.method in ("sample", "uniform"):
        sampled = sample_paths(
            vocabulary,
            segments,
            alpha=wanted.alpha,
            weights=opened.weights(wanted.alpha),
            samples=wanted.samples,
            key=key,
            names=names,
        )
    elif wanted.method == "nbest":
        sampled = rank_paths(vocabulary, segments, alpha=wanted.alpha, most=wanted.samples)
    elif wanted.method == "sample_without_replacement":
        sampled, inclusion = distinct_paths(
            vocabulary, segments, alpha=wanted.alpha, most=wanted.samples, key=key, names=names
        )
    else:
        sampled = first_version_paths(
            vocabulary, segments, alpha=wanted.alpha, samples=wanted.samples, key=key, names=names
        )
    entropies = expected = np.empty(0)
    if wanted.measured:
        entropies, expected = measure(vocabulary, segments, alpha=wanted.alpha)
    return Drawn(
        prepared,
        sampled.paths,
        sampled.log_probs,
        inclusion,
        sampled.log_partitions,
        entropies,
        expected,
    )


def _without_law(prepared: Prepared, paths: Paths) -> Drawn:
    none = np.empty(0)
    texts = len(prepared.segments.groups) - 1
    unknown = np.full(len(paths.counts), math.nan)
    return Drawn(prepared, paths, unknown, none, np.full(texts, math.nan), none, none)


def _key(opened: Opened, wanted: Wanted) -> Ids64:
    """Return the key of this request's streams: seed, method, law and tokenizer."""
    law = repr(wanted.dropout if wanted.method == "bpe_dropout" else wanted.alpha)
    scope = ("tokenization", wanted.method, law, opened.sha256)
    return np.array(stream_key(wanted.seed, *scope), np.uint64)


def _names(texts: Sequence[str], first: int, *, by_content: bool) -> Ids64:
    """Return the name of each text's stream: its place, or a digest of its content."""
    if not by_content:
        return np.arange(first, first + len(texts), dtype=np.uint64)
    digests = b"".join(blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(bytearray(digests), dtype="<u8").astype(np.uint64)


def masses_of(opened: Opened, prepared: Prepared, alpha: float) -> tuple[Vector64, Vector64]:
    """Return α l and L of one text.

    Raises:
        InvalidInput: no piece covers it.
    """
    vocabulary = opened.tokenizer.vocabulary
    logs = vocabulary.log_weights(alpha)
    masses = log_masses(vocabulary, prepared.segments, logs)
    if masses[0] == -math.inf:
        raise InvalidInput(
            "No row of pieces covers the text: the vocabulary lacks some of its bytes.",
            faults=(Fault("/text", "no piece covers all of it"),),
        )
    return logs, masses


def piece_starts(ends: Ids32) -> Ids32:
    """Return where each piece of a path begins: where the one before ends."""
    starts = np.zeros_like(ends)
    starts[1:] = ends[:-1]
    return starts
