"""Answer one question over several contexts that are never read together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from service.capabilities.generation.pipeline.events import ContextUsed
from service.numerics.distributions.contexts import Pooling, merge_contexts
from service.numerics.dtypes import Matrix32, Vector32


@dataclass(frozen=True, slots=True)
class Merging:
    """Say how the distributions of contexts become one.

    Attributes:
        beta: how much the row without a context is subtracted.
        eta: nats by which the context of the token before is preferred.
        mass: of the nucleus that each row is cut to.
        pooling: how rows become one.
    """

    beta: float
    eta: float
    mass: float
    pooling: Pooling


class MergedLaw:
    """Merge the rows of contexts and the last one, which has none, token by token."""

    def __init__(self, merging: Merging) -> None:
        self._merging = merging
        self._previous: int | None = None

    def row(self, logits: Matrix32) -> tuple[Vector32, ContextUsed | None]:
        """Return the merged log probabilities.

        Raises:
            InvalidInput: no token has mass in every context.
        """
        how = self._merging
        merged = merge_contexts(
            logits[:-1],
            logits[-1],
            beta=how.beta,
            eta=how.eta,
            mass=how.mass,
            pooling=how.pooling,
            previous=self._previous,
        )
        self._previous = merged.chosen
        used = ContextUsed(merged.chosen, merged.entropies.tolist())
        return merged.log_probabilities.astype(np.float32), used

    def take(self, token_id: int) -> None:
        """Need not know."""
