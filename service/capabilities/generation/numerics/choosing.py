"""Choose one token from a row of logits: bend, truncate, map, draw."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from service.errors import InvalidModelOutput
from service.numerics.distributions.choice import (
    NOISE_MAPS,
    MapName,
    ProbabilityMap,
    map_logits,
)
from service.numerics.distributions.draws import draw_with_replacement
from service.numerics.distributions.logits import shifted
from service.numerics.distributions.sparse import largest, nucleus, ranked
from service.numerics.dtypes import Ids64, Vector32, Vector64
from service.numerics.seeds import generator


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Say how tokens are chosen.

    Attributes:
        temperature: T ≥ 0, of the truncations and of the map; 0 takes the likeliest token.
        top_k: keep so many of the likeliest; None keeps all.
        top_p: keep the likeliest whose probability reaches this share; 1 keeps all.
        min_p: keep what is at least so many times as probable as the likeliest; 0 keeps all.
        mapping: from what is kept to probabilities; its own temperature is not read.
        presence_penalty: taken off the logits of tokens that were generated.
        frequency_penalty: taken off as often as they were.
        logit_bias: added to the logit of an id.
        top_log_probs: how many of the likeliest tokens to report.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0
    mapping: ProbabilityMap = field(default_factory=ProbabilityMap)
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    top_log_probs: int = 0


@dataclass(frozen=True, slots=True)
class Stream:
    """Name the random numbers of one sequence; token t has a stream of its own.

    Attributes:
        seed: of the request.
        index: of the sequence in it.
    """

    seed: int
    index: int = 0

    def at(self, position: int) -> np.random.Generator:
        """Return the numbers of the token at a position, whatever was drawn before it."""
        return generator(self.seed, "generation", self.index, position)


@dataclass(frozen=True, slots=True)
class Chosen:
    """Hold one chosen token.

    Attributes:
        id: its id.
        log_prob: nats that the model gives it, before temperature, truncation and penalties.
        top: the likeliest ids with their log probabilities, the likeliest first.
    """

    id: int
    log_prob: float
    top: tuple[tuple[int, float], ...]


def choose(
    logits: Vector32,
    sampling: Sampling,
    rng: np.random.Generator,
    *,
    counts: Mapping[int, int],
) -> Chosen:
    """Return the next token.

    The logits are bent (penalties, bias), divided by T, truncated by top-k, top-p and min-p in
    this order, each over what the one before it left, and mapped to the probabilities that one
    draw is taken from.

    Args:
        logits: (vocabulary,) float32; minus infinity where a token cannot come.
        sampling: how.
        rng: numbers of this token alone.
        counts: how often each id was generated.

    Raises:
        InvalidModelOutput: a logit is NaN or plus infinity.
    """
    highest = float(logits.max())
    if not np.isfinite(highest):
        raise InvalidModelOutput(f"The largest logit is {highest}; it must be a number.")
    bent = _bent(logits, sampling, counts)
    greedy = sampling.temperature == 0
    found = int(bent.argmax()) if greedy else _draw(bent, sampling, rng)
    return _described(found, logits, highest, top=sampling.top_log_probs)


def _bent(logits: Vector32, sampling: Sampling, counts: Mapping[int, int]) -> Vector32:
    """Return x - presence·[count > 0] - frequency·count + bias."""
    penalised = bool(counts) and (sampling.presence_penalty != 0 or sampling.frequency_penalty != 0)
    if not penalised and not sampling.logit_bias:
        return logits
    bent = logits.copy()
    if penalised:
        for piece_id, count in counts.items():
            bent[piece_id] -= sampling.presence_penalty + count * sampling.frequency_penalty
    for piece_id, bias in sampling.logit_bias.items():
        bent[piece_id] += bias
    return bent


def _draw(scores: Vector32, sampling: Sampling, rng: np.random.Generator) -> int:
    """Return the place of one draw among scores."""
    kept = _truncated(scores, sampling)
    left = scores if kept is None else scores[kept]
    mapping = sampling.mapping
    if mapping.name in NOISE_MAPS:
        scale = sampling.temperature * mapping.divisor / mapping.temperature
        wide = shifted(left[np.newaxis], scale=scale)[0]
        drawn = draw_with_replacement(wide, rng, noise=mapping.name, draws=1, progress=_unwatched)
        place = int(drawn.indices[0])
    else:
        if mapping.name is MapName.SOFTMAX:
            weights = _weights(left, sampling.temperature)
        else:
            wide = shifted(left[np.newaxis], scale=sampling.temperature)
            weights = map_logits(wide, mapping, progress=_unwatched).probabilities[0]
        place = _inverse(weights, rng.random())
    return place if kept is None else int(kept[place])


def _unwatched(_stage: str, _done: int, _total: int) -> None:
    """Take progress of work that is over in a moment."""


# Below it a float32 quotient of two ordinary logits may overflow to 0 / 0.
_NARROW = 1e-30


def _weights(scores: Vector32, temperature: float) -> Vector32:
    """Return e^((x - max x) / T) in float32, the largest 1."""
    distance = scores - scores.max()
    with np.errstate(over="ignore", under="ignore"):
        if temperature < _NARROW:
            distance = (distance.astype(np.float64) / temperature).astype(np.float32)
        else:
            distance /= np.float32(temperature)
        weights: Vector32 = np.exp(distance, out=distance)
    return weights


def _inverse(weights: Vector32 | Vector64, share: float) -> int:
    """Return the first place where the running sum exceeds a share, 0 to 1, of the whole."""
    sums = np.cumsum(weights, dtype=np.float64)
    place = int(np.searchsorted(sums, share * sums[-1], side="right"))
    if place < len(sums):
        return place
    return int(np.flatnonzero(weights)[-1])  # the product was rounded up to the whole sum


def _truncated(scores: Vector32, sampling: Sampling) -> Ids64 | None:
    """Return the places that stay, rising; None where all do."""
    kept: Ids64 | None = None
    for cut in (_likeliest, _nucleus, _near):
        left = scores if kept is None else scores[kept]
        places = cut(left, sampling)
        if places is not None:
            kept = places if kept is None else kept[places]
    return kept


def _likeliest(scores: Vector32, sampling: Sampling) -> Ids64 | None:
    if sampling.top_k is None or sampling.top_k >= len(scores):
        return None
    return largest(scores, sampling.top_k)


def _nucleus(scores: Vector32, sampling: Sampling) -> Ids64 | None:
    """Return the places of the nucleus, rising; None where it is everything.

    Entries below (1 - p) / n have a sum below 1 - p, so none of them is needed to reach p: only
    the others, few, are sorted.
    """
    if sampling.top_p >= 1:
        return None
    probabilities = _weights(scores, sampling.temperature).astype(np.float64)
    probabilities /= probabilities.sum()
    candidates = np.flatnonzero(probabilities >= (1 - sampling.top_p) / len(scores))
    return candidates[nucleus(probabilities[candidates], mass=sampling.top_p)]


def _near(scores: Vector32, sampling: Sampling) -> Ids64 | None:
    if sampling.min_p == 0:
        return None
    least = float(scores.max()) + sampling.temperature * math.log(sampling.min_p)
    return np.flatnonzero(scores >= least)


def _described(found: int, logits: Vector32, highest: float, *, top: int) -> Chosen:
    """Return a token with what the model thinks of it, and of the likeliest."""
    with np.errstate(under="ignore"):
        total = float(np.exp(logits - np.float32(highest)).sum(dtype=np.float64))
    level = highest + float(np.log(total))
    open_ = int(np.count_nonzero(logits > -np.inf)) if top else 0
    places = ranked(logits, min(top, open_)) if top else ()
    return Chosen(
        found,
        float(logits[found]) - level,
        tuple((int(place), float(logits[place]) - level) for place in places),
    )
