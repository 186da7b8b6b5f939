"""Merge the next-token distributions of several contexts into one."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from service.errors import Fault, InvalidInput
from service.numerics.distributions.logits import entropies
from service.numerics.distributions.softmax import log_softmax
from service.numerics.distributions.sparse import nucleus
from service.numerics.dtypes import Logits, Matrix64, Vector64


class Pooling(StrEnum):
    """Say how the rows of the contexts become one."""

    MIN_ENTROPY = "min_entropy"
    MEAN = "mean"
    MAX = "max"


@dataclass(frozen=True, slots=True)
class Merged:
    """Hold a merged distribution.

    Attributes:
        log_probabilities: (n,) float64, nats; minus infinity where no mass is left.
        chosen: the context that answered, None where all were pooled.
        entropies: (contexts,) float64 in nats, of the truncated rows, before eta.
    """

    log_probabilities: Vector64
    chosen: int | None
    entropies: Vector64


def merge_contexts(
    conditional: Logits,
    unconditional: Logits,
    *,
    beta: float = 0.25,
    eta: float = 0.1,
    mass: float = 0.95,
    pooling: Pooling = Pooling.MIN_ENTROPY,
    previous: int | None = None,
) -> Merged:
    """Return the distribution of the next token given all contexts, as if they were independent.

    Each row is normalised, cut to its nucleus (tails are unreliable, and -β log p₀ amplifies them)
    and normalised again to l. With H the entropies of the conditional rows, that of the previous
    step's context less η, and k the smallest (of equal ones the first):

        out = (1 + β) l_k - β l₀ where l₀ is finite, else l_k,   then normalised.

    `mean` and `max` take the mean or the largest of all l in place of l_k. With `mean`, β one less
    than the number of contexts and no cut this is naive Bayes: Σ l - (n - 1) l₀.

    Args:
        conditional: (contexts, n) logits, one row a context, checked.
        unconditional: (n,) logits without any context, checked.
        beta: β ≥ -1; 0 ignores the unconditional row.
        eta: η ≥ 0, nats by which the previous context is preferred.
        mass: of the nucleus, above 0 and at most 1; 1 cuts nothing.
        pooling: how rows become one.
        previous: index of the context of the previous step.

    Raises:
        InvalidInput: no token has mass in every context (`mean`).

    Source: Su Jianlin, Naive Bayes-based Context Extension, 2023, spaces.ac.cn/archives/9617. Ours:
    entropies are those of the cut rows, normalised again.
    """
    rows = _cut(np.vstack([conditional, unconditional[np.newaxis]]), mass)
    contexts, background = rows[:-1], rows[-1]
    found = entropies(np.exp(contexts))
    chosen: int | None = None
    if pooling is Pooling.MIN_ENTROPY:
        ranked = found.copy()
        if previous is not None:
            ranked[previous] -= eta
        chosen = int(ranked.argmin())
        pooled = contexts[chosen]
    else:
        pooled = contexts.mean(axis=0) if pooling is Pooling.MEAN else contexts.max(axis=0)
    if not (pooled > -np.inf).any():
        raise InvalidInput(
            f"No token has mass in all {len(contexts)} contexts after the cut to {mass:g}. "
            "Raise top_p, or pool by min_entropy or max.",
            faults=(Fault("/pooling", "mean leaves no token"),),
        )
    both = (background > -np.inf) & (pooled > -np.inf)
    merged = pooled.copy()
    merged[both] = (1 + beta) * pooled[both] - beta * background[both]
    return Merged(log_softmax(merged[np.newaxis])[0], chosen, found)


def _cut(logits: Logits, mass: float) -> Matrix64:
    """Return log probabilities (rows, n) of each row's nucleus."""
    logs = log_softmax(logits)
    if mass >= 1:
        return logs
    kept = np.full_like(logs, -np.inf)
    for row, cut in zip(logs, kept, strict=True):
        places = nucleus(np.exp(row), mass=mass)
        cut[places] = row[places]
    return log_softmax(kept)
