"""Draw from logits by perturbing them: argmax(x + e) is exact and needs no integral."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from service.errors import Fault, InvalidInput
from service.numerics.dtypes import Ids64, Matrix64, Progress, Vector64

_BLOCK = 2**18


def _gumbel(rng: np.random.Generator, shape: tuple[int, int]) -> Matrix64:
    """Return -log of exponential draws, which are kept off 0 where the logarithm ends."""
    return -np.log(np.maximum(rng.standard_exponential(shape), np.finfo(np.float64).tiny))


_NOISES: dict[str, Callable[[np.random.Generator, tuple[int, int]], Matrix64]] = {
    "gumbel": _gumbel,
    "gaussian": lambda rng, shape: rng.standard_normal(shape),
    "logistic": lambda rng, shape: rng.logistic(size=shape),
    "exponential": lambda rng, shape: rng.standard_exponential(shape),
    "uniform": lambda rng, shape: rng.random(shape),
}


@dataclass(frozen=True, slots=True)
class Draws:
    """Hold what was drawn from one row.

    Attributes:
        indices: (draws,) int64.
        perturbed: (draws,) float64; each drawn entry's score with its noise, in units of the noise.
    """

    indices: Ids64
    perturbed: Vector64


def draw_with_replacement(
    scores: Vector64, rng: np.random.Generator, *, noise: str, draws: int, progress: Progress
) -> Draws:
    """Return independent draws argmax(x + e), each with noise of its own.

    With Gumbel noise a draw has the law softmax(x); with another noise that of its map.

    Args:
        scores: (n,) float64 in units of the noise; minus infinity is never drawn.
        rng: where the noise comes from.
        noise: gumbel, gaussian, logistic, exponential or uniform.
        draws: at least 1.
        progress: told after every block of draws.

    Source: Gumbel 1954; Maddison, Tarlow and Minka 2014, arXiv:1411.0030.
    """
    indices = np.empty(draws, dtype=np.int64)
    perturbed = np.empty(draws)
    step = max(1, _BLOCK // len(scores))
    for start in range(0, draws, step):
        stop = min(start + step, draws)
        noisy = _NOISES[noise](rng, (stop - start, len(scores)))
        noisy += scores
        best = noisy.argmax(axis=1)
        indices[start:stop] = best
        perturbed[start:stop] = noisy[np.arange(stop - start), best]
        progress("draw", stop, draws)
    return Draws(indices, perturbed)


def draw_without_replacement(
    scores: Vector64, rng: np.random.Generator, *, noise: str, draws: int
) -> Draws:
    """Return the entries with the largest perturbed scores, the largest first.

    With Gumbel noise this is sampling from softmax without replacement (Plackett-Luce), in order;
    with another noise it is the ranking of that noise's model.

    Args:
        scores: (n,) float64 in units of the noise; minus infinity is never drawn.
        rng: where the noise comes from.
        noise: gumbel, gaussian, logistic, exponential or uniform.
        draws: at least 1.

    Raises:
        InvalidInput: fewer entries are open than draws are wanted.

    Source: Kool, van Hoof and Welling 2019, arXiv:1903.06059.
    """
    open_ = int(np.count_nonzero(scores > -np.inf))
    if draws > open_:
        raise InvalidInput(
            f"{draws} draws without replacement were asked for and a row has {open_} open "
            "entries. Ask for fewer, or draw with replacement.",
            faults=(Fault("/draws", f"is {draws}, at most {open_} entries can be drawn"),),
        )
    noisy = _NOISES[noise](rng, (1, len(scores)))[0]
    noisy += scores
    largest = np.argpartition(-noisy, draws - 1)[:draws]
    order = largest[np.lexsort((largest, -noisy[largest]))].astype(np.int64)
    return Draws(order, noisy[order])
