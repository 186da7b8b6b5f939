"""Hold what a training run is told: steps, batch, learning rate, initialisation.

Sources: Loshchilov & Hutter 2017 (cosine decay), 2019 (AdamW); Wang et al. 2022, "DeepNet:
Scaling Transformers to 1,000 Layers" (DeepNorm, decoder-only).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

TRAINED_LENGTH = 128
PRE_NORM = "pre_norm"
DEEP_NORM = "deep_norm"
RESIDUALS = (PRE_NORM, DEEP_NORM)
# the tensors that DeepNorm draws smaller; queries and keys keep gain 1
DEEP_NORM_SCALED = (
    "attention/value",
    "attention/value_up",
    "attention/output",
    "feed_forward/gate",
    "feed_forward/up",
    "feed_forward/down",
)
RESIDUAL_OUTPUTS = ("attention/output", "feed_forward/down")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Hold the settings of one run; `length` is the training length in bytes."""

    steps: int = 600
    rows: int = 4
    length: int = TRAINED_LENGTH
    peak_rate: float = 5e-3
    last_rate: float = 1e-4
    warmup_steps: int = 50
    weight_decay: float = 0.1
    gradient_norm: float = 1.0
    embedding_deviation: float = 0.1
    rope_base: float = 10_000.0
    residual: str = PRE_NORM


def learning_rate(recipe: Recipe, step: int) -> float:
    """Return the rate of one step, counted from 0: a linear rise, then half a cosine.

    The peak is reached at step `warmup_steps - 1`, `last_rate` at the last step.
    """
    if step < recipe.warmup_steps:
        return recipe.peak_rate * (step + 1) / recipe.warmup_steps
    span = max(1, recipe.steps - recipe.warmup_steps)
    done = (step + 1 - recipe.warmup_steps) / span
    fall = (1.0 + math.cos(math.pi * done)) / 2.0
    return recipe.last_rate + (recipe.peak_rate - recipe.last_rate) * fall


def residual_scale(recipe: Recipe, *, layers: int) -> float:
    """Return α of x ← norm(α x + f(x)): (2 layers)^¼ for DeepNorm; 1 for x ← x + f(norm(x))."""
    return (2.0 * layers) ** 0.25 if recipe.residual == DEEP_NORM else 1.0


def deviation(recipe: Recipe, name: str, size: tuple[int, int], *, layers: int) -> float:
    """Return the standard deviation with which the matrix `name` is drawn.

    A product of size (in, out) gets Glorot's √(2 / (in + out)) times a gain. Under DeepNorm the
    gain is β = (8 layers)^-¼ for values, outputs and the feed-forward part and 1 for queries and
    keys. Otherwise it is (2 layers)^-½ for the two products that end on the residual, 1 elsewhere.
    """
    if name == "embedding":
        return recipe.embedding_deviation
    glorot = math.sqrt(2.0 / sum(size))
    if recipe.residual == DEEP_NORM:
        return glorot * ((8.0 * layers) ** -0.25 if name.endswith(DEEP_NORM_SCALED) else 1.0)
    return glorot * ((2.0 * layers) ** -0.5 if name.endswith(RESIDUAL_OUTPUTS) else 1.0)
