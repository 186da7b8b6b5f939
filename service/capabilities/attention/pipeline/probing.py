"""Probe what attention can tell about positions, and how many of its rows are independent."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np

from service.numerics.attention.forms import Heads
from service.numerics.attention.measures import Rank, rank
from service.numerics.attention.positions import RopeName, RopeScheme, rope_tables
from service.numerics.attention.reference import Conditions, Normaliser, Path, attend
from service.numerics.attention.scales import ScaleScheme, row_scale
from service.numerics.dtypes import Matrix32, Vector64
from service.numerics.seeds import generator
from service.runtime.engine import Engine

_BASE = 10_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeJob:
    """Hold the sizes and conditions of the probes.

    Attributes:
        tokens: of each probe.
        heads: each with random weights of its own.
        head_dim: numbers of a head, even.
        rope: how positions become angles.
        scale: what multiplies the scores.
        seed: of the random numbers.
    """

    tokens: int
    heads: int
    head_dim: int
    rope: RopeScheme
    scale: ScaleScheme
    seed: int


@dataclass(frozen=True, slots=True)
class PositionFinding:
    """Hold the spread of the outputs of equal tokens under one set of conditions.

    Attributes:
        normaliser: what makes weights of scores.
        causal: whether later keys are hidden.
        marker: whether the first token is another one.
        variance: over rows, relative to the mean square of the outputs.
    """

    normaliser: Normaliser
    causal: bool
    marker: bool
    variance: float


@dataclass(frozen=True, slots=True)
class RankFinding:
    """Hold how many rows of the weights of random tokens are independent.

    Attributes:
        causal: whether later keys are hidden.
        rank: numerical rank and singular values of each head.
        log_determinant: (heads,) ln |det A|; of causal weights the sum of ln a_tt.
    """

    causal: bool
    rank: Rank
    log_determinant: Vector64


@dataclass(frozen=True, slots=True)
class ProbeAnswer:
    """Hold both probes."""

    position: tuple[PositionFinding, ...]
    rank: tuple[RankFinding, ...]


class Probing:
    """Answer `/v1/attention/probe`.

    Args:
        engine: compute threads.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def run(self, job: ProbeJob) -> ProbeAnswer:
        """Return both probes, computed in float64.

        Raises:
            DimensionMismatch: the head is too small for the position scheme.
        """
        return await self._engine.compute(partial(probe, job))


def probe(job: ProbeJob) -> ProbeAnswer:
    """Return how far equal tokens are told apart, and the rank of the weights of random ones.

    Where every value is the same vector v and the weights of a row sum to 1, every output is v:
    softmax attention with relative positions cannot count. Rows of length 1 have sums that differ,
    and a different first token is seen from different distances; both can.

    Causal weights are triangular with a positive diagonal, so their determinant is never 0. Those
    of scores near 0 are well-conditioned too, while bidirectional ones, made from scores of rank d,
    lose their rank there. Of large scores the smallest causal singular values fall exponentially
    with n, and the bidirectional ones keep theirs.

    Source: kexue.fm articles 9105 (positions) and 9529 (rank).
    """
    choices = product(Normaliser, (False, True), (False, True))
    return ProbeAnswer(
        tuple(_position(job, *choice) for choice in choices),
        tuple(_rank(job, causal=causal) for causal in (True, False)),
    )


def _position(job: ProbeJob, normaliser: Normaliser, causal: bool, marker: bool) -> PositionFinding:
    heads = Heads(*(_repeated(job, name, marker=marker) for name in ("q", "k", "v")))
    output = attend(heads, _conditions(job, normaliser, causal=causal), path=Path.HEADS).output
    equal = output[0, :, int(marker) :]
    spread = ((equal - equal.mean(axis=1, keepdims=True)) ** 2).mean()
    return PositionFinding(normaliser, causal, marker, float(spread / (equal**2).mean()))


def _repeated(job: ProbeJob, name: str, *, marker: bool) -> Matrix32:
    """Return (1, heads, n, d): the same random row for every token, but for a marker."""
    shape = (job.heads, 1, job.head_dim)
    rows = np.repeat(_normal(job, shape, name), job.tokens, axis=1)
    if marker:
        rows[:, :1] = _normal(job, shape, name, "marker")
    return rows[np.newaxis]


def _rank(job: ProbeJob, *, causal: bool) -> RankFinding:
    shape = (1, job.heads, job.tokens, job.head_dim)
    heads = Heads(*(_normal(job, shape, name, "rank") for name in ("q", "k", "v")))
    weights = attend(
        heads, _conditions(job, Normaliser.SOFTMAX, causal=causal), path=Path.HEADS
    ).weights[0]
    # products of the diagonal, whose logarithms keep what slogdet loses where they are minute
    with np.errstate(divide="ignore"):
        diagonal = np.log(np.diagonal(weights, axis1=-2, axis2=-1)).sum(axis=-1)
    logs = diagonal if causal else np.linalg.slogdet(weights)[1]
    return RankFinding(causal, rank(weights), logs)


def _normal(job: ProbeJob, shape: tuple[int, ...], *scope: str) -> Matrix32:
    drawn: Matrix32 = generator(job.seed, "probe", *scope).standard_normal(shape, dtype=np.float32)
    return drawn


def _conditions(job: ProbeJob, normaliser: Normaliser, *, causal: bool) -> Conditions:
    places = np.arange(job.tokens)
    lengths = places + 1 if causal else np.full(job.tokens, job.tokens)
    tables = None
    if job.rope.name is not RopeName.NONE:
        tables = rope_tables(
            job.rope, queries=places, keys=places, rope_dim=job.head_dim, base=_BASE
        )
    scale = row_scale(job.scale, lengths, head_dim=job.head_dim) / np.sqrt(job.head_dim)
    return Conditions(tables=tables, scale=scale, causal=causal, normaliser=normaliser)
