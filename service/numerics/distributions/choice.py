"""Choose a probability map by name, with the parameters that it reads."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from service.numerics.distributions.logits import (
    entropies,
    require_logits,
    row_blocks,
    shifted,
)
from service.numerics.distributions.maps import matched_scale, noise_map
from service.numerics.distributions.softmax import softmax_and_entropy
from service.numerics.distributions.sparse import entmax, entmax15, min_p, sparsemax, top_k, top_p
from service.numerics.dtypes import Ids64, Logits, Matrix64, Progress, Vector64

_HALF_WAY = 1.5
_QUADRATIC = 2


class MapName(StrEnum):
    """Name the ways from logits to probabilities."""

    SOFTMAX = "softmax"
    GAUSSIAN = "gaussian"
    LOGISTIC = "logistic"
    EXPONENTIAL = "exponential"
    UNIFORM = "uniform"
    SPARSEMAX = "sparsemax"
    ENTMAX = "entmax"
    TOP_K = "top_k"
    TOP_P = "top_p"
    MIN_P = "min_p"


NOISE_MAPS = frozenset({MapName.GAUSSIAN, MapName.LOGISTIC, MapName.EXPONENTIAL, MapName.UNIFORM})


@dataclass(frozen=True, slots=True)
class ProbabilityMap:
    """Choose a map and its parameters; a map reads only its own.

    Attributes:
        name: which map.
        temperature: of every map, above 0; logits are divided by it.
        scale: of the noise of a noise map, above 0.
        match_variance: whether the noise first gets the standard deviation of Gumbel noise.
        nodes: of a noise map's quadrature; None for the number that is exact for two logits.
        alpha: of entmax, at least 1.
        k: of top-k.
        p: of top-p, above 0, at most 1.
        min_p: of min-p, above 0, at most 1.
    """

    name: MapName = MapName.SOFTMAX
    temperature: float = 1.0
    scale: float = 1.0
    match_variance: bool = False
    nodes: int | None = None
    alpha: float = _HALF_WAY
    k: int = 50
    p: float = 0.95
    min_p: float = 0.05

    @property
    def divisor(self) -> float:
        """Return what logits are divided by: temperature, times the scale of a noise map."""
        if self.name not in NOISE_MAPS:
            return self.temperature
        matched = matched_scale(self.name) if self.match_variance else 1.0
        return self.temperature * self.scale * matched


@dataclass(frozen=True, slots=True)
class Distribution:
    """Hold the probabilities of rows of logits.

    Attributes:
        probabilities: (rows, n); float64, or softmax's in the precision of its logits.
        entropies: (rows,) float64, nats.
        support: (rows,) how many probabilities are not 0.
        mass_defect: (rows,) float64, the quadrature's error; None for maps in closed form.
    """

    probabilities: Logits
    entropies: Vector64
    support: Ids64
    mass_defect: Vector64 | None


def map_logits(logits: Logits, chosen: ProbabilityMap, *, progress: Progress) -> Distribution:
    """Return the probabilities that a map gives to rows of logits.

    Args:
        logits: (rows, n) float32 or float64; minus infinity where masked.
        chosen: the map.
        progress: told now and then.

    Raises:
        NotFinite: a logit is NaN or plus infinity, or a row is masked everywhere.
    """
    require_logits(logits)
    if chosen.name is MapName.SOFTMAX:
        probabilities, found = softmax_and_entropy(logits, temperature=chosen.temperature)
        progress("map", len(logits), len(logits))
        return Distribution(probabilities, found, _support(probabilities), None)
    wide = np.empty(logits.shape)
    defects = np.zeros(len(logits)) if chosen.name in NOISE_MAPS else None
    for block in row_blocks(logits):
        scores = shifted(logits[block], scale=chosen.divisor)
        if defects is None:
            wide[block] = _sparse(scores, chosen)
        else:
            mapped = noise_map(scores, noise=chosen.name, nodes=chosen.nodes)
            wide[block], defects[block] = mapped.probabilities, mapped.mass_defect
        progress("map", min(block.stop, len(logits)), len(logits))
    return Distribution(wide, entropies(wide), _support(wide), defects)


def _support(probabilities: Logits) -> Ids64:
    return np.array([np.count_nonzero(row) for row in probabilities], dtype=np.int64)


def _sparse(scores: Matrix64, chosen: ProbabilityMap) -> Matrix64:
    if chosen.name is MapName.TOP_K:
        return top_k(scores, k=chosen.k)
    if chosen.name is MapName.TOP_P:
        return top_p(scores, p=chosen.p)
    if chosen.name is MapName.MIN_P:
        return min_p(scores, share=chosen.min_p)
    if chosen.name is MapName.SPARSEMAX or chosen.alpha == _QUADRATIC:
        return sparsemax(scores)
    if chosen.alpha == _HALF_WAY:
        return entmax15(scores)
    return entmax(scores, alpha=chosen.alpha)
