"""Decide what is measured of a trained model, at and beyond its training length.

Perplexity is exp of the mean negative log likelihood of a byte: the number of bytes the model is,
on average, undecided between. What computes likelihoods is handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.training.recipe import TRAINED_LENGTH
from models.training.shape import Shape
from models.training.text import ByteText, windows
from service.numerics.attention.positions import RopeName, RopeScheme
from service.numerics.attention.scales import ScaleName

EXTENSION = 8  # times the training length
# Distances up to half the training length stay true; a leaky slope of 1/16 brings the farthest
# of 1,024 positions to 64 + 960 / 16 = 124, within the 128 that were trained.
WINDOW = 64
LEAK = 16
TRAINED_WINDOWS = 128
EXTENDED_WINDOWS = 8

DIRECT = RopeScheme(name=RopeName.DIRECT)
SCHEMES: tuple[RopeScheme, ...] = (
    DIRECT,
    RopeScheme(name=RopeName.PI, factor=EXTENSION),
    RopeScheme(name=RopeName.NTK, factor=EXTENSION),
    RopeScheme(name=RopeName.NTK_FIXED, factor=EXTENSION),
    RopeScheme(name=RopeName.NTK_MIXED, factor=EXTENSION),
    RopeScheme(name=RopeName.REROPE, window=WINDOW),
    RopeScheme(name=RopeName.LEAKY_REROPE, window=WINDOW, factor=LEAK),
)
# what may help a model that was trained with 1/√d alone
WITH_DAGGER = (RopeName.DIRECT, RopeName.NTK_MIXED, RopeName.REROPE)
# what torch and the graphs are compared at: a graph's suffix and its positions
PARITY_SCHEMES = {"": DIRECT, ".windowed": RopeScheme(name=RopeName.REROPE, window=16)}

# ids (windows, length + 1), a position scheme and a scale, to losses (windows, length) in nats
Score = Callable[[NDArray[np.int64], RopeScheme, ScaleName], NDArray[np.float32]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Say under which conditions one perplexity is measured."""

    length: int
    most_windows: int
    scheme: RopeScheme
    scale: ScaleName


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Hold one perplexity; `last_half` is that of the second half of every window."""

    variant: str
    seed: int
    length: int
    windows: int
    rope: str
    scale: str
    perplexity: float
    last_half: float


def cases(shape: Shape) -> Iterator[Case]:
    """Yield what one variant is measured at: its training length, then 8 times that."""
    trained = ScaleName(shape.scale)
    yield Case(length=TRAINED_LENGTH, most_windows=TRAINED_WINDOWS, scheme=DIRECT, scale=trained)
    for scheme in SCHEMES:
        yield _extended(scheme, trained)
        if trained is ScaleName.SQRT and scheme.name in WITH_DAGGER:
            yield _extended(scheme, ScaleName.LOG_N_DAGGER)


def _extended(scheme: RopeScheme, scale: ScaleName) -> Case:
    return Case(
        length=TRAINED_LENGTH * EXTENSION,
        most_windows=EXTENDED_WINDOWS,
        scheme=scheme,
        scale=scale,
    )


def measure(shape: Shape, text: ByteText, *, seed: int, score: Score) -> list[Measurement]:
    """Return one perplexity for each case, over evenly spread windows of the held-out text."""
    found = []
    for case in cases(shape):
        ids = windows(text.held_out, length=case.length, most=case.most_windows)
        losses = score(ids, case.scheme, case.scale).astype(np.float64)
        found.append(
            Measurement(
                variant=shape.variant,
                seed=seed,
                length=case.length,
                windows=len(ids),
                rope=case.scheme.name.value,
                scale=case.scale.value,
                perplexity=float(np.exp(losses.mean())),
                last_half=float(np.exp(losses[:, case.length // 2 :].mean())),
            )
        )
    return found
