"""Measure what a trained model makes of its held-out text, at and beyond its training length.

Perplexity is exp of the mean negative log likelihood of a byte: the number of bytes the model is,
on average, undecided between.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from models.training.network import Weights, byte_losses
from models.training.placement import place
from models.training.recipe import Recipe
from models.training.shape import VARIANTS, Shape
from models.training.text import ByteText, windows
from service.numerics.attention.positions import RopeName, RopeScheme
from service.numerics.attention.scales import ScaleName

EXTENSION = 8  # times the training length
# Distances up to half the training length stay true; a leaky slope of 1/16 brings the farthest
# of 1,024 positions to 64 + 960 / 16 = 124, within the 128 that were trained.
WINDOW = 64
LEAK = 16
TRAINED_WINDOWS = 128
EXTENDED_WINDOWS = 16
PASS_TOKENS = 2048

SCHEMES: tuple[RopeScheme, ...] = (
    RopeScheme(name=RopeName.DIRECT),
    RopeScheme(name=RopeName.PI, factor=EXTENSION),
    RopeScheme(name=RopeName.NTK, factor=EXTENSION),
    RopeScheme(name=RopeName.NTK_FIXED, factor=EXTENSION),
    RopeScheme(name=RopeName.NTK_MIXED, factor=EXTENSION),
    RopeScheme(name=RopeName.REROPE, window=WINDOW),
    RopeScheme(name=RopeName.LEAKY_REROPE, window=WINDOW, factor=LEAK),
)
# what may help a model that was trained with 1/√d alone
WITH_DAGGER = (RopeName.DIRECT, RopeName.NTK_MIXED, RopeName.REROPE)


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


def cases(shape: Shape) -> Iterator[tuple[RopeScheme, ScaleName]]:
    """Yield each position scheme with each scale that a variant is measured with, far out."""
    for scheme in SCHEMES:
        yield scheme, ScaleName(shape.scale)
        if shape.scale == ScaleName.SQRT and scheme.name in WITH_DAGGER:
            yield scheme, ScaleName.LOG_N_DAGGER


def evaluate(folder: Path, text: ByteText) -> list[Measurement]:
    """Return the perplexities of the run in `folder`: the trained length first, then 8 times."""
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    recipe = Recipe(**run["recipe"])
    shape = VARIANTS[run["variant"]]
    weights = load_file(folder / "weights.safetensors")
    measured = [
        (recipe.length, RopeScheme(name=RopeName.DIRECT), ScaleName(shape.scale), TRAINED_WINDOWS)
    ]
    measured += [
        (recipe.length * EXTENSION, scheme, scale, EXTENDED_WINDOWS)
        for scheme, scale in cases(shape)
    ]
    found = []
    for length, scheme, scale, most in measured:
        ids = windows(text.held_out, length=length, most=most)
        nll = losses(weights, ids, shape=shape, recipe=recipe, scheme=scheme, scale=scale)
        found.append(
            Measurement(
                variant=shape.variant,
                seed=run["seed"],
                length=length,
                windows=len(ids),
                rope=scheme.name.value,
                scale=scale.value,
                perplexity=float(np.exp(nll.mean())),
                last_half=float(np.exp(nll[:, length // 2 :].mean())),
            )
        )
    return found


def losses(
    weights: Weights,
    ids: NDArray[np.int64],
    *,
    shape: Shape,
    recipe: Recipe,
    scheme: RopeScheme,
    scale: ScaleName,
) -> NDArray[np.float32]:
    """Return the loss of each predicted byte, (windows, length) float32, nats."""
    length = ids.shape[1] - 1
    placement = place(shape, recipe, length=length, scheme=scheme, scale=scale)
    at_once = max(1, PASS_TOKENS // length)
    with torch.no_grad():
        parts = [
            byte_losses(weights, rows, shape=shape, recipe=recipe, placement=placement)
            for rows in torch.from_numpy(ids).split(at_once)
        ]
    return torch.cat(parts).numpy()
