"""Turn a position scheme and a scale into the tables that the network reads.

The tables come from the arithmetic that serves requests too: one code at training, test and
serving time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.training.recipe import Recipe
from models.training.shape import Shape
from service.numerics.attention.positions import RopeScheme, Rotation, rope_tables
from service.numerics.attention.scales import ScaleName, ScaleScheme, row_scale


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Hold the cosine and sine of every position's angles, each (n, rotary_dim / 2) float32."""

    cosine: Tensor
    sine: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Far:
    """Hold how queries and keys turn where `near`, (n, n) bool, is false."""

    query: Turn
    key: Turn
    near: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Hold all that depends on positions: turns, and a factor (n, 1) for each row's scores."""

    near: Turn
    row_scale: Tensor
    far: Far | None


def place(
    shape: Shape, recipe: Recipe, *, length: int, scheme: RopeScheme, scale: ScaleName
) -> Placement:
    """Return the tables of positions 0 … length - 1; log n is 1 at the training length."""
    positions = np.arange(length)
    tables = rope_tables(
        scheme,
        queries=positions,
        keys=positions,
        rope_dim=shape.rotary_dim,
        base=recipe.rope_base,
    )
    factors = row_scale(
        ScaleScheme(name=scale, length=recipe.length), positions + 1, head_dim=shape.score_dim
    )
    far = tables.far and Far(
        query=_turn(tables.far.queries),
        key=_turn(tables.far.keys),
        near=torch.from_numpy(tables.far.near),
    )
    return Placement(
        near=_turn(tables.queries),
        row_scale=torch.from_numpy(factors[:, np.newaxis].astype(np.float32)),
        far=far,
    )


def _turn(rotation: Rotation) -> Turn:
    return Turn(cosine=torch.from_numpy(rotation.cos), sine=torch.from_numpy(rotation.sin))
