"""Compute losses and logits of trained weights in torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from models.training.evaluation import PARITY_SCHEMES
from models.training.family import read_variant
from models.training.network import Weights, byte_losses, forward
from models.training.placement import place
from models.training.recipe import Recipe
from models.training.shape import VARIANTS, Shape
from service.numerics.attention.positions import RopeScheme
from service.numerics.attention.scales import ScaleName

TOKENS_AT_ONCE = 2048


def score(
    weights: Weights,
    ids: NDArray[np.int64],
    *,
    shape: Shape,
    recipe: Recipe,
    scheme: RopeScheme,
    scale: ScaleName,
) -> NDArray[np.float32]:
    """Return the loss of each predicted byte of ids (windows, length + 1), in nats."""
    length = ids.shape[1] - 1
    placement = place(shape, recipe, length=length, scheme=scheme, scale=scale)
    with torch.no_grad():
        parts = [
            byte_losses(weights, rows, shape=shape, recipe=recipe, placement=placement)
            for rows in torch.from_numpy(ids).split(max(1, TOKENS_AT_ONCE // length))
        ]
    found: NDArray[np.float32] = torch.cat(parts).numpy()
    return found


def committed_logits(folder: Path, out: Path, *, every: int) -> None:
    """Add the logits of a family's variants to a file that holds `ids` (n,) int64.

    `<variant>` is read with direct positions and `<variant>.windowed` with ReRoPE, both at the
    scale of training; each is (n / every, 256) float32.
    """
    ids = np.load(out)["ids"]
    found = {"ids": ids}
    for name, shape in VARIANTS.items():
        weights = {
            key: torch.from_numpy(value) for key, value in read_variant(folder, shape).items()
        }
        for suffix, scheme in PARITY_SCHEMES.items():
            placement = place(
                shape, Recipe(), length=len(ids), scheme=scheme, scale=ScaleName(shape.scale)
            )
            with torch.no_grad():
                rows = forward(
                    weights,
                    torch.from_numpy(ids)[None],
                    shape=shape,
                    recipe=Recipe(),
                    placement=placement,
                )
            found[name + suffix] = rows[0, ::every].numpy()
    np.savez_compressed(out, **found)
