"""Compute attention in float64, plainly: what every graph is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from service.numerics.attention.forms import Heads, Latents, LayerForm
from service.numerics.attention.positions import RopeTables, Rotation
from service.numerics.dtypes import Bools, Matrix32, Matrix64, Vector64


class Normaliser(StrEnum):
    """Name what makes weights of scores.

    `softmax`: e^s / Σ e^s. `l2`: e^s / √(Σ e^2s), rows of length 1; their sums differ from row to
    row, which lets a layer without positions tell how many keys it sees.
    """

    SOFTMAX = "softmax"
    L2 = "l2"


class Layout(StrEnum):
    """Name which numbers of a head turn together: m with m + d/2, or 2m with 2m + 1."""

    HALVES = "halves"
    INTERLEAVED = "interleaved"


class Path(StrEnum):
    """Name how a form is computed.

    `heads`: keys and values as given. `expanded`: made from the latent first. `absorbed`: queries
    are mapped into the latent instead, q W_kcᵀ, and it serves as key and value of one shared head.
    """

    HEADS = "heads"
    EXPANDED = "expanded"
    ABSORBED = "absorbed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """Hold what is done to the scores.

    Attributes:
        tables: of positions; None turns nothing.
        layout: of the pairs that turn.
        scale: (n,) what each row's q·k is multiplied by, 1/√d included.
        bias: broadcast to (batch, h, n, n) and added to the scaled scores; minus infinity hides a
            key. None adds nothing.
        causal: whether keys after the query are hidden.
        normaliser: what makes weights of scores.
    """

    tables: RopeTables | None
    layout: Layout = Layout.HALVES
    scale: Vector64
    bias: Matrix32 | None = None
    causal: bool = False
    normaliser: Normaliser = Normaliser.SOFTMAX


@dataclass(frozen=True, slots=True)
class Attended:
    """Hold what attention gives.

    Attributes:
        output: (batch, h, n, d_v).
        weights: (batch, h, n, n), a row for each query.
    """

    output: Matrix64
    weights: Matrix64


def attend(form: LayerForm, conditions: Conditions, *, path: Path) -> Attended:
    """Return softmax(scale · q kᵀ + bias) v of every head, in float64.

    Args:
        form: heads, or a latent.
        conditions: positions, scale, mask, noise, normaliser.
        path: how a latent is computed; the result is the same but for rounding.
    """
    scores = _turned_scores(form, conditions, path) * conditions.scale[:, np.newaxis]
    if conditions.bias is not None:
        scores = scores + conditions.bias
    if conditions.causal:
        scores = np.where(np.tril(np.ones(scores.shape[-2:], dtype=bool)), scores, -np.inf)
    weights = normalise(scores, conditions.normaliser)
    if isinstance(form, Heads):
        return Attended(weights @ _shared(form.values, form.queries.shape[1]), weights)
    latent, maps = form.latent[:, np.newaxis].astype(np.float64), form.value_maps.astype(np.float64)
    if path is Path.ABSORBED:
        return Attended((weights @ latent) @ maps, weights)
    return Attended(weights @ (latent @ maps), weights)


def normalise(scores: Matrix64, normaliser: Normaliser) -> Matrix64:
    """Return weights along the last axis, of rows that hold a finite score."""
    weights: Matrix64 = np.exp(scores - scores.max(axis=-1, keepdims=True))
    if normaliser is Normaliser.L2:
        weights /= np.sqrt((weights * weights).sum(axis=-1, keepdims=True))
    else:
        weights /= weights.sum(axis=-1, keepdims=True)
    return weights


def _turned_scores(form: LayerForm, conditions: Conditions, path: Path) -> Matrix64:
    tables, layout = conditions.tables, conditions.layout
    if tables is None:
        return _scores(form, path, layout, None, None)
    near = _scores(form, path, layout, tables.queries, tables.keys)
    if tables.far is None:
        return near
    far = _scores(form, path, layout, tables.far.queries, tables.far.keys)
    return np.where(tables.far.near, near, far)


def _scores(
    form: LayerForm, path: Path, layout: Layout, asked: Rotation | None, held: Rotation | None
) -> Matrix64:
    """Return q·k of every pair, (batch, h, n, n), unscaled."""
    queries = form.queries.astype(np.float64)
    if isinstance(form, Heads):
        keys = _shared(form.keys, queries.shape[1])
        return rotate(queries, asked, layout) @ rotate(keys, held, layout).swapaxes(-1, -2)
    content = _content_scores(form, path, layout, asked, held)
    if not form.decoupled:
        return content
    turning = form.rope_keys[:, np.newaxis].astype(np.float64)
    turned = rotate(form.rope_queries.astype(np.float64), asked, layout)
    return content + turned @ rotate(turning, held, layout).swapaxes(-1, -2)


def _content_scores(
    form: Latents, path: Path, layout: Layout, asked: Rotation | None, held: Rotation | None
) -> Matrix64:
    queries, maps = form.queries.astype(np.float64), form.key_maps.astype(np.float64)
    latent = form.latent[:, np.newaxis].astype(np.float64)
    if path is Path.ABSORBED:
        return (queries @ maps.swapaxes(-1, -2)) @ latent.swapaxes(-1, -2)
    keys = latent @ maps
    if not form.decoupled:
        queries, keys = rotate(queries, asked, layout), rotate(keys, held, layout)
    return queries @ keys.swapaxes(-1, -2)


def _shared(array: Matrix32, heads: int) -> Matrix64:
    """Return keys or values of every query head: head s reads group ⌊s g / h⌋."""
    return np.repeat(array.astype(np.float64), heads // array.shape[1], axis=1)


def rotate(vectors: Matrix64, rotation: Rotation | None, layout: Layout) -> Matrix64:
    """Return vectors with their first 2 · pairs numbers turned, (a, b) by (a c - b s, a s + b c).

    Args:
        vectors: (…, n, d).
        rotation: (n, pairs) cosines and sines, or None for no turn.
        layout: which numbers make a pair.
    """
    if rotation is None:
        return vectors
    cos, sin = rotation.cos.astype(np.float64), rotation.sin.astype(np.float64)
    size = 2 * cos.shape[-1]
    if layout is Layout.INTERLEAVED:
        first, second = slice(0, size, 2), slice(1, size, 2)
    else:
        first, second = slice(0, size // 2), slice(size // 2, size)
    turned = vectors.copy()
    a, b = vectors[..., first], vectors[..., second]
    turned[..., first] = a * cos - b * sin
    turned[..., second] = a * sin + b * cos
    return turned


def visible_keys(tokens: int, *, causal: bool, mask: Bools | None) -> Bools:
    """Return (n, n) true where a query sees a key."""
    visible = np.ones((tokens, tokens), dtype=bool) if mask is None else mask
    return np.tril(visible) if causal else visible
