"""Bring what one attention layer is given into one of two forms: heads, or a latent and its maps.

```
hidden ─ W_q, W_k, W_v ──────────────► Heads    q (h), k, v (g)            mha, gqa, mqa
q, k, v ─ mean over heads of keys ───► Heads    q (h), k, v (1)            mqa, lossy
q, k, v ─ truncated SVD of [k, v] ───► Latents  q (h), c, maps             mla, lossy when cut
hidden ─ W_qc, W_qr, W_c, W_kr ──────► Latents  q (h), c, k_r, maps        mla, mla_absorbed
```
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from service.errors import DimensionMismatch, Fault, NotFinite
from service.numerics.dtypes import Matrix32, Matrix64

# Products of three such numbers and a few thousand terms stay far within float32.
MOST_MAGNITUDE = 1e8


@dataclass(frozen=True, slots=True)
class Heads:
    """Hold queries, keys and values, not turned by position yet.

    Attributes:
        queries: (batch, h, n, d_k) float32.
        keys: (batch, g, n, d_k) float32; g divides h.
        values: (batch, g, n, d_v) float32.
    """

    queries: Matrix32
    keys: Matrix32
    values: Matrix32

    @property
    def kept(self) -> tuple[Matrix32, ...]:
        """Return the arrays that a cache holds between steps."""
        return self.keys, self.values


@dataclass(frozen=True, slots=True)
class Latents:
    """Hold queries, the latent c that keys and values are made of, and the maps that make them.

    k^(s) = [c W_kc^(s), k_r] and v^(s) = c W_v^(s); k_r is shared by all heads, and it alone turns
    with position. Without k_r (d_r = 0) whole keys turn after they are made.

    Attributes:
        queries: (batch, h, n, d_k) float32.
        rope_queries: (batch, h, n, d_r) float32.
        latent: (batch, n, d_c) float32.
        rope_keys: (batch, n, d_r) float32.
        key_maps: (h, d_c, d_k) float32.
        value_maps: (h, d_c, d_v) float32.
    """

    queries: Matrix32
    rope_queries: Matrix32
    latent: Matrix32
    rope_keys: Matrix32
    key_maps: Matrix32
    value_maps: Matrix32

    @property
    def kept(self) -> tuple[Matrix32, ...]:
        """Return the arrays that a cache holds between steps."""
        return self.latent, self.rope_keys

    @property
    def decoupled(self) -> bool:
        """Return whether positions have a key of their own."""
        return bool(self.rope_keys.shape[-1])


LayerForm: TypeAlias = Heads | Latents


@dataclass(frozen=True, slots=True)
class GroupedWeights:
    """Hold the projections of mha, gqa and mqa.

    Attributes:
        w_q: (h, hidden, d_k) float32.
        w_k: (g, hidden, d_k) float32.
        w_v: (g, hidden, d_v) float32.
    """

    w_q: Matrix32
    w_k: Matrix32
    w_v: Matrix32


@dataclass(frozen=True, slots=True)
class LatentWeights:
    """Hold the projections of mla; d_r may be 0.

    Attributes:
        w_qc: (h, hidden, d_k) float32, queries that meet the latent.
        w_qr: (h, hidden, d_r) float32, queries that turn.
        w_kv_down: (hidden, d_c) float32, W_c.
        w_kc: (h, d_c, d_k) float32, keys from the latent.
        w_kr: (hidden, d_r) float32, the shared key that turns; it reads the hidden states.
        w_v: (h, d_c, d_v) float32, values from the latent.
    """

    w_qc: Matrix32
    w_qr: Matrix32
    w_kv_down: Matrix32
    w_kc: Matrix32
    w_kr: Matrix32
    w_v: Matrix32


def head_size(form: LayerForm) -> int:
    """Return d, whose root divides the scores: d_k, or d_k + d_r of a decoupled latent."""
    size: int = form.queries.shape[-1]
    return size if isinstance(form, Heads) else size + form.rope_queries.shape[-1]


def rope_size(form: LayerForm) -> int:
    """Return how many numbers of a head can turn: d_r where positions have a key of their own."""
    turning = form.rope_queries if isinstance(form, Latents) and form.decoupled else form.queries
    size: int = turning.shape[-1]
    return size


def project_heads(hidden: Matrix32, weights: GroupedWeights) -> Heads:
    """Return q = x W_q, k = x W_k, v = x W_v of every head.

    Args:
        hidden: (batch, n, hidden) float32.
        weights: one matrix a head.

    Raises:
        DimensionMismatch: a matrix does not fit the hidden states, or the others.
        NotFinite: a projected number is too large for the scores to stay finite.
    """
    fits = {
        "w_q": (weights.w_q, (None, hidden.shape[-1], None)),
        "w_k": (weights.w_k, (None, hidden.shape[-1], weights.w_q.shape[-1])),
        "w_v": (weights.w_v, (len(weights.w_k), hidden.shape[-1], None)),
    }
    _require_shapes(fits)
    return Heads(*(_applied(hidden, array, f"x {name}") for name, (array, _) in fits.items()))


def project_latents(hidden: Matrix32, weights: LatentWeights) -> Latents:
    """Return the latent c = x W_c, the turning parts x W_qr and x W_kr, and q = x W_qc.

    Args:
        hidden: (batch, n, hidden) float32.
        weights: of multi-head latent attention.

    Raises:
        DimensionMismatch: a matrix does not fit the hidden states, or the others.
        NotFinite: a projected number is too large for the scores to stay finite.

    Source: DeepSeek-V2, arXiv:2405.04434, section 2.1; kexue.fm article 10091.
    """
    width, heads = hidden.shape[-1], len(weights.w_qc)
    rank = weights.w_kv_down.shape[-1]
    _require_shapes(
        {
            "w_qc": (weights.w_qc, (None, width, None)),
            "w_qr": (weights.w_qr, (heads, width, None)),
            "w_kv_down": (weights.w_kv_down, (width, None)),
            "w_kc": (weights.w_kc, (heads, rank, weights.w_qc.shape[-1])),
            "w_kr": (weights.w_kr, (width, weights.w_qr.shape[-1])),
            "w_v": (weights.w_v, (heads, rank, None)),
        }
    )
    latent = _applied(hidden, weights.w_kv_down[np.newaxis], "x w_kv_down")[:, 0]
    for name, maps in (("w_kc", weights.w_kc), ("w_v", weights.w_v)):
        _applied(latent, maps, f"x w_kv_down {name}")  # must stay within bounds too
    return Latents(
        queries=_applied(hidden, weights.w_qc, "x w_qc"),
        rope_queries=_applied(hidden, weights.w_qr, "x w_qr"),
        latent=latent,
        rope_keys=_applied(hidden, weights.w_kr[np.newaxis], "x w_kr")[:, 0],
        key_maps=weights.w_kc,
        value_maps=weights.w_v,
    )


def _require_shapes(fits: Mapping[str, tuple[Matrix32, tuple[int | None, ...]]]) -> None:
    for name, (array, wanted) in fits.items():
        sides = zip(array.shape, wanted, strict=False)
        if len(array.shape) != len(wanted) or any(b not in {a, None} for a, b in sides):
            shape = ", ".join("any" if side is None else str(side) for side in wanted)
            raise DimensionMismatch(
                f"{name} has the shape {array.shape}; beside the hidden states and the other "
                f"weights it must be ({shape}).",
                faults=(Fault(f"/weights/{name}", f"has the shape {array.shape}"),),
            )


def _applied(rows: Matrix32, maps: Matrix32, what: str) -> Matrix32:
    """Return (batch, heads, n, d) float32, summed in float64."""
    found: Matrix64 = np.matmul(rows[:, np.newaxis].astype(np.float64), maps.astype(np.float64))
    require_bounded(found, what)
    projected: Matrix32 = found.astype(np.float32)
    return projected


def require_bounded(array: Matrix64 | Matrix32, what: str) -> None:
    """Check that numbers are small enough for their products to stay finite in float32.

    Raises:
        NotFinite: one is larger.
    """
    most = float(np.abs(array).max(initial=0.0))
    if most > MOST_MAGNITUDE:
        raise NotFinite(
            f"{what} holds a number of size {most:.3g}; above {MOST_MAGNITUDE:g} scores would not "
            "stay finite. Scale the input down.",
            faults=(Fault("", f"{what} reaches {most:.3g}"),),
        )


def pool_heads(heads: Heads) -> Heads:
    """Return one head of keys and values, the mean of those given: mqa of weights not made for it.

    What the heads do not share is lost.
    """
    keys, values = (
        array.mean(axis=1, keepdims=True, dtype=np.float64).astype(np.float32)
        for array in (heads.keys, heads.values)
    )
    return Heads(heads.queries, keys, values)


@dataclass(frozen=True, slots=True)
class Compressed:
    """Hold keys and values as a latent of few numbers.

    Attributes:
        latents: the form.
        rank: d_c.
        error: what is lost, ‖[k, v] - c [W_k, W_v]‖ / ‖[k, v]‖ in the Frobenius norm.
    """

    latents: Latents
    rank: int
    error: float


def compress(heads: Heads, *, rank: int | None) -> Compressed:
    """Return the latent of a rank that keeps most of keys and values: a truncated SVD.

    [k^(1) … k^(g), v^(1) … v^(g)] ≈ U_r S_r V_rᵀ over all tokens; c = U_r S_r and the maps are the
    columns of V_rᵀ, one block a head.

    Args:
        heads: as given.
        rank: d_c; None means what loses nothing.

    Raises:
        DimensionMismatch: the rank is above the numbers of a token, or above the tokens.

    Source: kexue.fm article 10091 (grouped heads are a low-rank projection already).
    """
    batch, groups, tokens, key_size = heads.keys.shape
    value_size = heads.values.shape[-1]
    rows = np.concatenate([_rows(heads.keys), _rows(heads.values)], axis=1)
    full = min(rows.shape)
    wanted = full if rank is None else rank
    if wanted > full:
        raise DimensionMismatch(
            f"kv_rank is {wanted}; {rows.shape[0]} tokens of {rows.shape[1]} numbers have a rank "
            f"of at most {full}.",
            faults=(Fault("/kv_rank", f"is {wanted}, at most {full} is possible"),),
        )
    left, sizes, right = np.linalg.svd(rows, full_matrices=False)
    lost = float(np.sqrt((sizes[wanted:] ** 2).sum() / max((sizes**2).sum(), 1e-300)))
    latent = (left[:, :wanted] * sizes[:wanted]).reshape(batch, tokens, wanted)
    shared = heads.queries.shape[1] // groups
    split = groups * key_size
    maps = [
        np.repeat(part.reshape(wanted, groups, size).swapaxes(0, 1), shared, axis=0)
        for part, size in (
            (right[:wanted, :split], key_size),
            (right[:wanted, split:], value_size),
        )
    ]
    latents = Latents(
        queries=heads.queries,
        rope_queries=np.zeros((*heads.queries.shape[:-1], 0), dtype=np.float32),
        latent=latent.astype(np.float32),
        rope_keys=np.zeros((batch, tokens, 0), dtype=np.float32),
        key_maps=maps[0].astype(np.float32),
        value_maps=maps[1].astype(np.float32),
    )
    return Compressed(latents, wanted, lost)


def _rows(array: Matrix32) -> Matrix64:
    """Return (batch · n, heads · d) float64: one row a token."""
    tokens = array.shape[0] * array.shape[2]
    return array.swapaxes(1, 2).reshape(tokens, -1).astype(np.float64)


@dataclass(frozen=True, slots=True)
class Part:
    """Hold some heads of a layer, and where they lie.

    Attributes:
        batch: first and last + 1 of the batch.
        heads: the same of the query heads.
        form: their queries, and the keys and values or maps that they read.
    """

    batch: slice
    heads: slice
    form: LayerForm


def parts(form: LayerForm, *, most_scores: int) -> Iterator[Part]:
    """Split a layer so that the scores of a part are few; in order, batch first.

    Args:
        form: a layer.
        most_scores: n² times heads and batch of one part, where a single group is not larger.
    """
    batch, heads, tokens, _ = form.queries.shape
    shared = heads // form.keys.shape[1] if isinstance(form, Heads) else 1
    if batch * heads * tokens**2 <= most_scores:
        yield Part(slice(0, batch), slice(0, heads), form)
        return
    step = shared * max(1, most_scores // (shared * tokens**2))
    for each in range(batch):
        for first in range(0, heads, step):
            at = slice(each, each + 1), slice(first, min(first + step, heads))
            yield Part(*at, _taken(form, *at, shared))


def _taken(form: LayerForm, batch: slice, heads: slice, shared: int) -> LayerForm:
    if isinstance(form, Heads):
        groups = slice(heads.start // shared, heads.stop // shared)
        return Heads(
            form.queries[batch, heads], form.keys[batch, groups], form.values[batch, groups]
        )
    return Latents(
        queries=form.queries[batch, heads],
        rope_queries=form.rope_queries[batch, heads],
        latent=form.latent[batch],
        rope_keys=form.rope_keys[batch],
        key_maps=form.key_maps[heads],
        value_maps=form.value_maps[heads],
    )


def values_by_head(form: LayerForm) -> Matrix32:
    """Return the values that each query head reads, (batch, h, n, d_v)."""
    if isinstance(form, Heads):
        return np.repeat(form.values, form.queries.shape[1] // form.values.shape[1], axis=1)
    made: Matrix32 = np.matmul(form.latent[:, np.newaxis], form.value_maps)
    return made
