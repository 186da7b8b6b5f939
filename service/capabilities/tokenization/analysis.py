"""Say all that the lattice of one text says, and what may follow where it breaks off."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from service.capabilities.tokenization.collection import Opened
from service.capabilities.tokenization.drawing import masses_of
from service.capabilities.tokenization.replies import (
    PathWriter,
    Reply,
    character_starts,
    path_slices,
)
from service.errors import Fault, InvalidInput
from service.numerics.dtypes import Ids64, Vector64
from service.numerics.lattice.cover import cover_end, first_open_place
from service.numerics.lattice.linear import LONGEST, UNKNOWN
from service.numerics.lattice.logspace import list_marginals, score_cuts
from service.numerics.lattice.per_text import measure_one, rank_paths
from service.numerics.lattice.vocabulary import Segments
from service.runtime.tokenizers.base import Kind, Prepared


def analyze(
    opened: Opened, text: str, alpha: float, nbest: int, segmentation: Sequence[str | int] | None
) -> Reply:
    """Return the analysis of one text.

    Raises:
        InvalidInput: no piece covers it, or the segmentation is none of its own.
    """
    vocabulary = opened.tokenizer.vocabulary
    prepared = opened.tokenizer.prepare([text])
    segments = prepared.segments.one(0)
    logs, masses = masses_of(opened, prepared, alpha)
    entropy, expected, cuts = measure_one(vocabulary, segments, logs, masses)
    writer = PathWriter(opened, prepared, [text], ("ids", "pieces"))
    places = _characters(segments)
    leads = character_starts(segments.data)
    reply: Reply = {
        "normalized": writer.normalized(0),
        "log_partition": float(masses[0]),
        "entropy": entropy,
        "expected_tokens": expected,
        "boundary_marginals": np.clip(cuts[leads], 0.0, 1.0),
        "pieces": _weighed(opened, segments, logs, masses, cuts, places),
        "nbest": _ranked(opened, prepared, writer, alpha, nbest),
    }
    if segmentation is not None:
        ends = _cuts_of(opened, segments, segmentation)
        total = score_cuts(
            segments.data,
            segments.bounds,
            segments.fixed,
            vocabulary.trie.units,
            logs,
            vocabulary.rules,
            ends,
        )
        if total == -math.inf:
            raise _no_segmentation(segmentation)
        log_prob = min(0.0, float(total - masses[0]))
        reply["score"] = {"log_prob": log_prob, "probability": math.exp(log_prob)}
    return reply


def continue_text(opened: Opened, text: str, backoff: str | int, top_k: int) -> Reply:
    """Return the stable part of a text, what was taken back, and what may come first after it.

    Raises:
        InvalidInput: no piece covers the text.
    """
    tokenizer = opened.tokenizer
    prepared = tokenizer.prepare([text], aligned=True, open_ended=True)
    segments = prepared.segments.one(0)
    best = tokenizer.best(prepared)
    if best.counts[0] < 0:
        masses_of(opened, prepared, 1.0)  # says why
    kept = _stable_count(opened, segments, best.ends, backoff)
    start = int(best.ends[kept - 1]) if kept else 0
    pieces, ends, chances = _covers(opened, segments, start)
    names = opened.pieces
    order = np.lexsort((pieces, -chances))
    scored = tokenizer.kind is Kind.UNIGRAM
    if not scored:
        order = np.argsort(pieces, kind="stable")
    writer = PathWriter(opened, prepared, [text], ())
    origin = int(prepared.origin_starts[start]) if start < len(segments.data) else None
    raw = text.encode()
    cut = len(raw) if origin is None else origin
    return {
        "stable_ids": best.ids[:kept],
        "stable_text": raw[:cut].decode("utf-8", "ignore"),
        "suffix": writer.surface(0, start, len(segments.data)),
        "removed_tokens": len(best.ids) - kept,
        "candidates": [
            {
                "id": int(pieces[place]),
                "piece": names[pieces[place]],
                "log_prob": min(0.0, float(chances[place])) if scored else None,
                "crosses": bool(ends[place] > len(segments.data)),
            }
            for place in order[:top_k].tolist()
        ],
        "allowed_ids": np.unique(pieces) if start < len(segments.data) else None,
    }


def _stable_count(opened: Opened, segments: Segments, ends: np.ndarray, backoff: str | int) -> int:
    """Return how many pieces from the start stay whatever follows."""
    if isinstance(backoff, int):
        return max(0, len(ends) - backoff)
    if not len(segments.fixed) or segments.fixed[-1] >= 0:
        return len(ends)
    vocabulary = opened.tokenizer.vocabulary
    place = first_open_place(
        segments.data,
        int(segments.bounds[-2]),
        int(vocabulary.rules[LONGEST]),
        vocabulary.trie.units,
    )
    return int(np.searchsorted(ends, place, side="right"))


def _covers(
    opened: Opened, segments: Segments, start: int
) -> tuple[np.ndarray, np.ndarray, Vector64]:
    """Return ids, ends and log chances of the pieces that may stand first from `start`."""
    vocabulary = opened.tokenizer.vocabulary
    last = int(segments.bounds[-2]) if len(segments.fixed) else 0
    # Words before the last are settled: what may come first there is their own piece.
    room = vocabulary.size + int(vocabulary.rules[LONGEST]) + 2
    pieces, ends = np.empty(room, np.int32), np.empty(room, np.int32)
    chances = np.empty(room)
    stop = len(segments.data)
    if start < last:
        following = segments.bounds[segments.bounds > start]
        stop = int(following[0])
    found = cover_end(
        segments.data[:stop],
        start,
        vocabulary.trie.units,
        vocabulary.log_weights(1.0),
        vocabulary.rules,
        np.empty(stop + 1),
        pieces,
        ends,
        chances,
    )
    kept = ends[:found] <= stop if start < last else np.ones(found, bool)
    pieces, ends, chances = pieces[:found][kept], ends[:found][kept], chances[:found][kept]
    unknown = pieces < 0
    if unknown.any():
        byte_ids = vocabulary.byte_ids
        pieces[unknown] = (
            byte_ids[segments.data[start]] if len(byte_ids) else vocabulary.rules[UNKNOWN]
        )
    return pieces, ends, chances


def _characters(segments: Segments) -> Ids64:
    """Return the character that each byte, and the end, belongs to."""
    leads = character_starts(segments.data)
    places: Ids64 = np.cumsum(leads, dtype=np.int64) - 1
    return places


def _weighed(  # noqa: PLR0917 - what the kernel takes
    opened: Opened,
    segments: Segments,
    logs: Vector64,
    masses: Vector64,
    cuts: Vector64,
    places: Ids64,
) -> list[Reply]:
    vocabulary = opened.tokenizer.vocabulary
    room = 4 * len(segments.data) + 16
    while True:
        pieces, starts, ends = (np.empty(room, np.int32) for _ in range(3))
        chances = np.empty(room)
        found = list_marginals(
            segments.data,
            segments.bounds,
            segments.fixed,
            vocabulary.trie.units,
            logs,
            vocabulary.rules,
            masses,
            cuts,
            pieces,
            starts,
            ends,
            chances,
        )
        if found <= room:
            break
        room = found
    names, unknown = opened.pieces, int(vocabulary.rules[UNKNOWN])
    raw = segments.data.tobytes()
    return [
        {
            "id": piece if piece >= 0 else unknown,
            "piece": names[piece] if piece >= 0 else raw[start:end].decode("utf-8", "replace"),
            "start": int(places[start]),
            "end": int(places[end]),
            "probability": min(1.0, chance),
        }
        for piece, start, end, chance in zip(
            pieces[:found].tolist(),
            starts[:found].tolist(),
            ends[:found].tolist(),
            chances[:found].tolist(),
            strict=True,
        )
        if chance > 0.0
    ]


def _ranked(
    opened: Opened, prepared: Prepared, writer: PathWriter, alpha: float, nbest: int
) -> list[Reply]:
    if nbest == 0:
        return []
    vocabulary = opened.tokenizer.vocabulary
    ranked = rank_paths(vocabulary, prepared.segments, alpha=alpha, most=nbest)
    replies: list[Reply] = []
    for number, where in enumerate(path_slices(ranked.paths)):
        if where is None:
            break
        path = writer.write(0, ranked.paths.ids[where], ranked.paths.ends[where])
        path["log_prob"] = min(0.0, float(ranked.log_probs[number]))
        replies.append(path)
    return replies


def _cuts_of(opened: Opened, segments: Segments, given: Sequence[str | int]) -> Ids64:
    """Return the ends of the pieces of a given segmentation, every unknown character alone.

    Raises:
        InvalidInput: they do not spell the text.
    """
    vocabulary = opened.tokenizer.vocabulary
    names = opened.pieces
    raw = segments.data.tobytes()
    unknown = int(vocabulary.rules[UNKNOWN])
    bytes_of = {int(piece): byte for byte, piece in enumerate(vocabulary.byte_ids.tolist())}
    cuts: list[int] = []
    place = 0
    for each in given:
        if isinstance(each, int) and not 0 <= each < len(names):
            raise _no_segmentation(given)
        if each == unknown:
            place = _after_unknown(raw, place)
        elif isinstance(each, int) and each in bytes_of:
            if place >= len(raw) or raw[place] != bytes_of[each]:
                raise _no_segmentation(given)
            place += 1
        else:
            spelled = opened.tokenizer.spell(each)
            if not spelled or not raw.startswith(spelled, place):
                raise _no_segmentation(given)
            place += len(spelled)
        if place == len(raw) or raw[place] & 0xC0 != 0x80:  # noqa: PLR2004 - a character begins
            cuts.append(place)
    return np.array(cuts, np.int64)


def _after_unknown(raw: bytes, place: int) -> int:
    """Return the end of the character at a place."""
    place += 1
    while place < len(raw) and raw[place] & 0xC0 == 0x80:  # noqa: PLR2004 - inside a character
        place += 1
    return place


def _no_segmentation(given: Sequence[str | int]) -> InvalidInput:
    return InvalidInput(
        f"{list(given)!r:.80} is no segmentation of the text into pieces of this tokenizer.",
        faults=(Fault("/segmentation", "does not spell the normalised text"),),
    )
