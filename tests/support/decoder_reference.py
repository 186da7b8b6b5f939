"""Compute a decoder in plain NumPy, float64, head by head and row by row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.decoder.description import Form, Sizes

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Positions:
    """Angles a position, and where near ends.

    `near` and `far` give the angle of a query at t and a key at i, in this order: (t, i) to
    (angle of the query, angle of the key), each (rope_dim/2,).
    """

    near: Callable[[int, int], tuple[Array, Array]]
    far: Callable[[int, int], tuple[Array, Array]] | None = None
    window: int = 0
    row_scale: Callable[[int], float] = field(default=lambda _: 1.0)


def direct(width: int, *, base: float, factor: float = 1.0) -> Positions:
    """Return plain rotation, or position interpolation where `factor` is above 1."""
    speeds = base ** (-2 * np.arange(width // 2) / width) / factor
    return Positions(lambda t, i: (t * speeds, i * speeds))


def leaky(width: int, *, base: float, window: int, factor: float) -> Positions:
    """Return leaky ReRoPE: distance d beyond w counts as w + (d - w)/k."""
    speeds = base ** (-2 * np.arange(width // 2) / width)

    def far(t: int, i: int) -> tuple[Array, Array]:
        return ((t - window) / factor + window) * speeds, i / factor * speeds

    return Positions(lambda t, i: (t * speeds, i * speeds), far, window)


def reference_decoder(
    ids: list[int], *, weights: Mapping[str, Any], sizes: Sizes, form: Form, positions: Positions
) -> tuple[Array, Array]:
    """Return logits (S, vocabulary) and entropies (layers, q_heads, S)."""
    wide = {name: array.astype(np.float64) for name, array in weights.items()}
    hidden = wide["embedding"][ids]
    entropies = []
    for layer in range(sizes.layers):
        own = {
            name.removeprefix(f"layers.{layer}/"): array
            for name, array in wide.items()
            if name.startswith(f"layers.{layer}/")
        }
        normed = _norm(hidden, own["attention/norm"], sizes)
        context, entropy = _attention(normed, own, sizes=sizes, form=form, positions=positions)
        entropies.append(entropy)
        hidden = hidden + context @ own["attention/output"]
        normed = _norm(hidden, own["feed_forward/norm"], sizes)
        gate = normed @ own["feed_forward/gate"]
        inner = gate / (1 + np.exp(-gate)) * (normed @ own["feed_forward/up"])
        hidden = hidden + inner @ own["feed_forward/down"]
    logits: Array = _norm(hidden, wide["norm"], sizes) @ wide["embedding"].T
    return logits, np.array(entropies)


def _attention(
    rows: Array, own: Mapping[str, Array], *, sizes: Sizes, form: Form, positions: Positions
) -> tuple[Array, Array]:
    contexts, entropies = [], []
    for head in range(sizes.q_heads):
        content, rotated, value = _operands(rows, own, sizes=sizes, form=form, head=head)
        context, entropy = _one_head(
            content, rotated, value, form=form, positions=positions, pairs=sizes.interleaved
        )
        contexts.append(context)
        entropies.append(entropy)
    return np.hstack(contexts), np.array(entropies)


def _operands(
    rows: Array, own: Mapping[str, Array], *, sizes: Sizes, form: Form, head: int
) -> tuple[tuple[Array, Array] | None, tuple[Array, Array], Array]:
    """Return (query, key) not rotated or None, (query, key) to rotate, and values of one head."""
    group = head // (sizes.q_heads // form.kv_heads)

    def block(part: str, index: int, width: int) -> Array:
        return rows @ own[f"attention/{part}"][:, index * width : (index + 1) * width]

    query = block("query", head, sizes.head_dim)
    if form.kv_rank is None:
        key = block("key", group, sizes.head_dim)
        return None, (query, key), block("value", group, sizes.head_dim)
    latent = rows @ own["attention/latent"]
    key = latent @ own["attention/key_up"][group]
    value = latent @ own["attention/value_up"][group]
    if form.rope_dim is None:
        return None, (query, key), value
    rotated = block("query_rope", head, form.rope_dim), rows @ own["attention/rope_key"]
    return (query, key), rotated, value


def _one_head(
    content: tuple[Array, Array] | None,
    rotated: tuple[Array, Array],
    value: Array,
    *,
    form: Form,
    positions: Positions,
    pairs: int,
) -> tuple[Array, Array]:
    contexts, entropies = [], []
    for t in range(len(value)):
        scores = np.zeros(t + 1)
        for i in range(t + 1):
            if content is not None:
                scores[i] += content[0][t] @ content[1][i]
            near = positions.far is None or t - i < positions.window
            angles = positions.near if near or positions.far is None else positions.far
            query_angle, key_angle = angles(t, i)
            scores[i] += _turn(rotated[0][t], query_angle, pairs) @ _turn(
                rotated[1][i], key_angle, pairs
            )
        scores *= form.score_scale * positions.row_scale(t)
        shares = np.exp(scores - scores.max())
        shares /= shares.sum()
        entropies.append(-np.sum(shares * np.log(np.maximum(shares, 1e-300))))
        if form.normaliser == "l2":
            shares /= np.sqrt((shares**2).sum())
        contexts.append(shares @ value[: t + 1])
    return np.array(contexts), np.array(entropies)


def _turn(vector: Array, angles: Array, pairs: int) -> Array:
    numbers = vector[::2] + 1j * vector[1::2] if pairs else _halves(vector)
    turned = numbers * np.exp(1j * angles)
    if not pairs:
        return np.concatenate([turned.real, turned.imag])
    out = np.empty_like(vector)
    out[::2], out[1::2] = turned.real, turned.imag
    return out


def _halves(vector: Array) -> NDArray[np.complex128]:
    half = len(vector) // 2
    return vector[:half] + 1j * vector[half:]


def _norm(rows: Array, scale: Array, sizes: Sizes) -> Array:
    return rows / np.sqrt((rows**2).mean(axis=-1, keepdims=True) + sizes.epsilon) * scale
