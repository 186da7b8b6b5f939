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
from service.numerics.attention.positions import FarTables, RopeScheme, Rotation, rope_tables
from service.numerics.attention.scales import ScaleName, ScaleScheme, row_scale


@dataclass(frozen=True, slots=True, kw_only=True)
class Far:
    """Hold how queries and keys turn where `near`, (n, n) bool, is false; see `Placement`."""

    query: Tensor
    key: Tensor
    near: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Hold all that depends on positions.

    Attributes:
        near: (n, rotary_dim / 2) complex64, e^(iφ) of every angle φ.
        far: what turns distant pairs, or None where `near` turns all.
        row_scale: (n, 1) float32, multiplies the scores of each row.
        hidden: (n, n) float32, -∞ where the key comes after the query, 0 elsewhere.
    """

    near: Tensor
    row_scale: Tensor
    hidden: Tensor
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
    return Placement(
        near=_turn(tables.queries),
        row_scale=torch.from_numpy(factors[:, np.newaxis].astype(np.float32)),
        hidden=torch.full((length, length), -torch.inf).triu(1),
        far=None if tables.far is None else _far(tables.far),
    )


def _far(tables: FarTables) -> Far:
    near = torch.from_numpy(tables.near)
    return Far(query=_turn(tables.queries), key=_turn(tables.keys), near=near)


def _turn(rotation: Rotation) -> Tensor:
    return torch.complex(torch.from_numpy(rotation.cos), torch.from_numpy(rotation.sin))
