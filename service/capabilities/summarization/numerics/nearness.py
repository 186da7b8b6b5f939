"""Tell what counts as near in an encoder's space, and which statements are about an aspect."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from service.numerics.dtypes import Bools, Ids64, Matrix32, Vector64

# Standard deviations above sentences about other things: 1 sentence in 200 about something else
# came this close to a seed, over 15 topics and two encoders.
CLOSE = 4.0
# Of pairs about different things, this share is left as near as support.
_UNRELATED = 0.01
# A longer seed describes; only a short one can be named word by word.
_MOST_WORDS = 3


def support_radius(background: Matrix32, subjects: Ids64) -> float:
    """Return the angle that 1 in 100 pairs of sentences about different things comes within.

    Encoders differ: for one it lies at a cosine of 0.49, for another at 0.92. A path is never
    shorter than the angle, so what a geodesic of this length reaches is at least as near.

    Args:
        background: (b, d) float32 of length 1.
        subjects: (b,) what each speaks of; at least two different ones.

    Returns:
        Radians.
    """
    cosines = background.astype(np.float64) @ background.T
    different = subjects[:, np.newaxis] != subjects
    bar = np.quantile(cosines[different], 1 - _UNRELATED)
    return float(np.arccos(np.clip(bar, -1.0, 1.0)))


def closeness(vectors: Matrix32, seeds: Matrix32, background: Matrix32) -> Vector64:
    """Return for each statement its likeness to the nearest seed, in standard deviations.

    z = max over seeds s of (cos(x, s) - m(s)) / sd(s), where m and sd are those of the cosines of
    background sentences to s: what counts as near differs from encoder to encoder and seed to seed.

    Args:
        vectors: (n, d) float32 of length 1.
        seeds: (s, d) float32 of length 1.
        background: (b, d) float32 of length 1, sentences about all sorts of things.

    Returns:
        (n,) float64.
    """
    usual = background.astype(np.float64) @ seeds.T
    spread = np.maximum(usual.std(axis=0), 1e-6)
    cosines = vectors.astype(np.float64) @ seeds.T
    nearest: Vector64 = ((cosines - usual.mean(axis=0)) / spread).max(axis=1)
    return nearest


def names_seed(stems: Sequence[Sequence[str]], seeds: Sequence[Sequence[str]]) -> Bools:
    """Return for each statement whether it holds all words of a seed of at most three words.

    Args:
        stems: of each statement.
        seeds: stems of each seed.
    """
    short = [frozenset(seed) for seed in seeds if 0 < len(seed) <= _MOST_WORDS]
    return np.array([any(seed <= set(each) for seed in short) for each in stems], dtype=np.bool_)
