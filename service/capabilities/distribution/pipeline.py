"""Check what belongs together, and compute in the pool."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from service.capabilities.distribution.analysis import Analysis
from service.capabilities.distribution.limits import require_at_most
from service.capabilities.distribution.settings import DistributionSettings
from service.errors import DimensionMismatch, EmptyInput, Fault, InvalidInput
from service.numerics.distributions.choice import Distribution, ProbabilityMap, map_logits
from service.numerics.distributions.contexts import Merged, Pooling, merge_contexts
from service.numerics.distributions.divergences import (
    multi_label_probabilities,
    one_hot,
    semantic_transport,
    symmetric_kl_terms,
)
from service.numerics.distributions.draws import draw_with_replacement, draw_without_replacement
from service.numerics.distributions.logits import require_logits, shifted
from service.numerics.distributions.softmax import softmax
from service.numerics.dtypes import Ids64, Logits, Matrix32, Matrix64, Progress, Vector64
from service.numerics.seeds import generator
from service.runtime.engine import Engine


@dataclass(frozen=True, slots=True)
class Sampling:
    """Say how to draw.

    Attributes:
        noise: which noise perturbs the logits.
        divisor: what logits are divided by: temperature times scale.
        draws: a row.
        replace: whether an entry can be drawn again.
        seed: of everything.
    """

    noise: str
    divisor: float
    draws: int
    replace: bool
    seed: int


@dataclass(frozen=True, slots=True)
class Sampled:
    """Hold draws: indices (rows, draws) int64 and perturbed scores (rows, draws) float64."""

    indices: Ids64
    perturbed: Matrix64


class DistributionPipeline:
    """Answer this room's requests.

    Args:
        engine: compute threads.
        analysis: concentration, densities and calibrations.
        settings: limits.
    """

    def __init__(self, engine: Engine, analysis: Analysis, settings: DistributionSettings) -> None:
        self.analysis = analysis
        self._engine = engine
        self._settings = settings

    async def probabilities(
        self, logits: Logits, chosen: ProbabilityMap, *, progress: Progress
    ) -> Distribution:
        """Return the probabilities of rows of logits.

        Raises:
            TooManyItems: more numbers than one call may carry.
            NotFinite: a logit is NaN or infinite, or a row is masked everywhere.
        """
        self._require_small(logits, "/logits")
        return await self._engine.compute(partial(map_logits, logits, chosen, progress=progress))

    async def sample(self, logits: Logits, how: Sampling, *, progress: Progress) -> Sampled:
        """Return draws from each row; a row's draws depend on the seed and its place alone.

        Raises:
            TooManyItems: more numbers or draws than one call may carry.
            NotFinite: a logit is NaN or infinite, or a row is masked everywhere.
            InvalidInput: fewer entries than draws without replacement.
        """
        self._require_small(logits, "/logits")
        require_at_most(how.draws * len(logits), self._settings.max_draws, "/draws", what="draws")
        return await self._engine.compute(_sample, logits, how, progress)

    async def merge(
        self,
        conditional: Logits,
        unconditional: Logits,
        *,
        beta: float,
        eta: float,
        mass: float,
        pooling: Pooling,
        previous: int | None,
    ) -> Merged:
        """Return the distribution of the next token given several contexts.

        Raises:
            DimensionMismatch: the rows have different lengths.
            InvalidInput: there is no such previous context, or no token is left.
            NotFinite: a logit is NaN or infinite, or a row is masked everywhere.
        """
        self._require_small(conditional, "/conditional")
        if conditional.shape[1] != len(unconditional):
            raise DimensionMismatch(
                f"The conditional rows have {conditional.shape[1]} entries and the unconditional "
                f"row has {len(unconditional)}; all must be over one vocabulary.",
                faults=(Fault("/unconditional", f"has {len(unconditional)} entries"),),
            )
        if previous is not None and previous >= len(conditional):
            raise InvalidInput(
                f"previous_index is {previous} and there are {len(conditional)} contexts, "
                "counted from 0.",
                faults=(Fault("/previous_index", f"is {previous}"),),
            )
        work = partial(_merge, beta=beta, eta=eta, mass=mass, pooling=pooling, previous=previous)
        return await self._engine.compute(work, conditional, unconditional)

    async def symmetric_kl(self, s: Logits, t: Logits | None, *, link: str) -> Matrix64:
        """Return the terms of the symmetric KL divergence, (rows, n).

        Raises:
            EmptyInput: t is missing.
            DimensionMismatch: s and t have different shapes.
            InvalidInput: an entry is masked on one side only.
        """
        self._require_small(s, "/s")
        if t is None:
            raise EmptyInput(
                f"The kind {link!r} compares s with t, and there is no t.",
                faults=(Fault("/t", "is missing"),),
            )
        _require_same_shape(s, t)
        return await self._engine.compute(_symmetric_kl, s, t, link)

    async def transport(
        self,
        s: Logits,
        t: Logits | None,
        *,
        targets: list[int],
        embeddings: Matrix32 | None,
    ) -> Vector64:
        """Return the cost of moving softmax(s) to a target, (rows,).

        Raises:
            EmptyInput: embeddings, or both kinds of target, are missing.
            InvalidInput: both kinds of target were given, or a target is no entry.
            DimensionMismatch: lengths do not fit.
        """
        self._require_small(s, "/s")
        if embeddings is None:
            raise EmptyInput(
                "The kind 'emo' needs embeddings, one vector an entry of s.",
                faults=(Fault("/embeddings", "is missing"),),
            )
        if len(embeddings) != s.shape[1]:
            raise DimensionMismatch(
                f"There are {len(embeddings)} embeddings and the rows of s have {s.shape[1]} "
                "entries; each entry needs one.",
                faults=(Fault("/embeddings", f"holds {len(embeddings)} vectors"),),
            )
        if (t is None) == (not targets):
            raise InvalidInput(
                "The kind 'emo' needs exactly one of t and targets.",
                faults=(Fault("/targets", "is needed where there is no t, and only there"),),
            )
        if targets:
            return await self._engine.compute(
                _transport_to_one, s, _require_targets(targets, s), embeddings
            )
        assert t is not None  # exactly one was given
        _require_same_shape(s, t)
        return await self._engine.compute(_transport_to_many, s, t, embeddings)

    async def multi_label(self, s: Logits) -> Matrix64:
        """Return the probability of each label, (rows, n)."""
        self._require_small(s, "/s")
        return await self._engine.compute(_multi_label, s)

    def _require_small(self, rows: Logits, pointer: str) -> None:
        require_at_most(rows.size, self._settings.max_numbers, pointer, what="numbers")


def _sample(logits: Logits, how: Sampling, progress: Progress) -> Sampled:
    require_logits(logits)
    indices = np.empty((len(logits), how.draws), dtype=np.int64)
    perturbed = np.empty(indices.shape)
    for row in range(len(logits)):
        scores = shifted(logits[row : row + 1], scale=how.divisor)[0]
        rng = generator(how.seed, "distribution", row)
        if how.replace:
            drawn = draw_with_replacement(
                scores, rng, noise=how.noise, draws=how.draws, progress=progress
            )
        else:
            drawn = draw_without_replacement(scores, rng, noise=how.noise, draws=how.draws)
        indices[row], perturbed[row] = drawn.indices, drawn.perturbed
        progress("rows", row + 1, len(logits))
    return Sampled(indices, perturbed)


def _merge(
    conditional: Logits,
    unconditional: Logits,
    *,
    beta: float,
    eta: float,
    mass: float,
    pooling: Pooling,
    previous: int | None,
) -> Merged:
    require_logits(conditional, pointer="/conditional")
    require_logits(unconditional[np.newaxis], pointer="/unconditional")
    return merge_contexts(
        conditional,
        unconditional,
        beta=beta,
        eta=eta,
        mass=mass,
        pooling=pooling,
        previous=previous,
    )


def _symmetric_kl(s: Logits, t: Logits, link: str) -> Matrix64:
    require_logits(s, pointer="/s")
    require_logits(t, pointer="/t")
    return symmetric_kl_terms(s, t, link=link)


def _transport_to_one(s: Logits, targets: Ids64, embeddings: Matrix32) -> Vector64:
    require_logits(s, pointer="/s")
    return semantic_transport(softmax(s), one_hot(targets, n=s.shape[1]), embeddings)


def _transport_to_many(s: Logits, t: Logits, embeddings: Matrix32) -> Vector64:
    require_logits(s, pointer="/s")
    require_logits(t, pointer="/t")
    return semantic_transport(softmax(s), softmax(t), embeddings)


def _multi_label(s: Logits) -> Matrix64:
    require_logits(s, pointer="/s")
    return multi_label_probabilities(s)


def _require_same_shape(s: Logits, t: Logits) -> None:
    if s.shape != t.shape:
        raise DimensionMismatch(
            f"s has the shape {s.shape} and t has {t.shape}; they must be the same.",
            faults=(Fault("/t", f"has the shape {t.shape}"),),
        )


def _require_targets(targets: list[int], s: Logits) -> Ids64:
    if len(targets) != len(s):
        raise DimensionMismatch(
            f"There are {len(targets)} targets and {len(s)} rows; each row needs one.",
            faults=(Fault("/targets", f"holds {len(targets)} targets"),),
        )
    for row, target in enumerate(targets):
        if target >= s.shape[1]:
            raise InvalidInput(
                f"Target {row} is {target} and the rows of s have {s.shape[1]} entries, counted "
                "from 0.",
                faults=(Fault(f"/targets/{row}", f"is {target}"),),
            )
    return np.array(targets, dtype=np.int64)
