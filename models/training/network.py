"""Run the small decoder in torch: weights in, logits out, no state.

A layer is x ← x + attention(norm(x)), x ← x + ffn(norm(x)), or with DeepNorm x ← norm(α x + f(x)).
Weights are a plain mapping of names to tensors, which is what safetensors keeps.

Sources: Su et al. 2021 (RoPE), Shazeer 2019 (MQA) and 2020 (SwiGLU), Ainslie et al. 2023 (GQA),
DeepSeek-AI 2024 (latent attention with a rotated part of its own).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from models.training.placement import Placement
from models.training.recipe import DEEP_NORM, Recipe, deviation, residual_scale
from models.training.shape import EPSILON, Shape

Weights = Mapping[str, Tensor]


def draw_weights(shape: Shape, recipe: Recipe, *, seed: int) -> dict[str, Tensor]:
    """Return fresh weights: norms 1, everything else normal with `deviation`; seeded."""
    source = torch.Generator().manual_seed(seed)
    weights = {}
    for name, size in shape.tensors().items():
        if len(size) == 1:
            weights[name] = torch.ones(size)
        else:
            spread = deviation(recipe, name, (size[0], size[1]), layers=shape.layers)
            weights[name] = torch.randn(size, generator=source) * spread
    return weights


def forward(
    weights: Weights, ids: Tensor, *, shape: Shape, recipe: Recipe, placement: Placement
) -> Tensor:
    """Return the logits (rows, n, 256) that predict the byte after each of `ids` (rows, n)."""
    x = weights["embedding"][ids]
    alpha = residual_scale(recipe, layers=shape.layers)
    for index in range(shape.layers):
        layer = {name: weights[f"layers.{index}/{name}"] for name in shape.layer()}
        if recipe.residual == DEEP_NORM:
            x = normalize(alpha * x + attend(layer, x, shape, placement), layer["attention/norm"])
            x = normalize(alpha * x + feed(layer, x), layer["feed_forward/norm"])
        else:
            x = x + attend(layer, normalize(x, layer["attention/norm"]), shape, placement)
            x = x + feed(layer, normalize(x, layer["feed_forward/norm"]))
    return normalize(x, weights["norm"]) @ weights["embedding"].T


def normalize(x: Tensor, weight: Tensor) -> Tensor:
    """Return x / √(mean x² + ε) · weight, over the last axis."""
    return functional.rms_norm(x, (x.shape[-1],), weight, EPSILON)


def feed(layer: Weights, x: Tensor) -> Tensor:
    """Return (silu(x G) ⊙ x U) D."""
    gated = functional.silu(x @ layer["feed_forward/gate"]) * (x @ layer["feed_forward/up"])
    return gated @ layer["feed_forward/down"]


def attend(layer: Weights, x: Tensor, shape: Shape, placement: Placement) -> Tensor:
    """Return causal attention over x (rows, n, d), projected back to (rows, n, d)."""
    scale = placement.row_scale / math.sqrt(shape.score_dim)
    if shape.latent is None:
        shared = shape.heads // shape.kv_heads
        query = heads(x @ layer["attention/query"], shape.heads) * scale
        key = heads(x @ layer["attention/key"], shape.kv_heads).repeat_interleave(shared, 1)
        value = heads(x @ layer["attention/value"], shape.kv_heads).repeat_interleave(shared, 1)
        scores = turned_scores(query, key, placement)
    else:
        latent = x @ layer["attention/latent"]
        query = heads(x @ layer["attention/query"], shape.heads) * scale
        key = heads(latent @ layer["attention/key_up"], shape.heads)
        value = heads(latent @ layer["attention/value_up"], shape.heads)
        turned = turned_scores(
            heads(x @ layer["attention/query_rope"], shape.heads) * scale,
            heads(x @ layer["attention/rope_key"], 1),
            placement,
        )
        scores = query @ key.transpose(-1, -2) + turned
    mixed = shares(scores + placement.hidden, shape.normalization) @ value
    return mixed.transpose(1, 2).flatten(2) @ layer["attention/output"]


def heads(x: Tensor, count: int) -> Tensor:
    """Return (rows, n, count · size) as (rows, count, n, size)."""
    return x.unflatten(-1, (count, -1)).transpose(1, 2)


def turned_scores(query: Tensor, key: Tensor, placement: Placement) -> Tensor:
    """Return query · key after turning both by their positions, unscaled."""
    near = turn(query, placement.near) @ turn(key, placement.near).transpose(-1, -2)
    if placement.far is None:
        return near
    far = turn(query, placement.far.query) @ turn(key, placement.far.key).transpose(-1, -2)
    return torch.where(placement.far.near, near, far)


def turn(x: Tensor, by: Tensor) -> Tensor:
    """Return x with each pair (x[2i], x[2i+1]), read as a complex number, times `by`[i]."""
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * by).flatten(-2)


def shares(shown: Tensor, normalization: str) -> Tensor:
    """Return what each row gives to the keys it sees: of sum 1, or with `l2` of length 1."""
    weights = torch.softmax(shown, -1)
    if normalization == "l2":
        return weights / torch.linalg.vector_norm(weights, dim=-1, keepdim=True)
    return weights


def byte_losses(
    weights: Weights, ids: Tensor, *, shape: Shape, recipe: Recipe, placement: Placement
) -> Tensor:
    """Return the negative log likelihood, nats, of each byte after the first: (rows, n)."""
    logits = forward(weights, ids[:, :-1], shape=shape, recipe=recipe, placement=placement)
    return functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
