"""Turn bodies of requests on layers into what the pipeline reads."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from service.capabilities.attention.option_schemas import (
    RopeField,
    rope_scheme,
    scale_scheme,
)
from service.capabilities.attention.pipeline.given import Hidden
from service.capabilities.attention.pipeline.job import LayerJob, Noise
from service.capabilities.attention.pipeline.taps import TappedLayer, Taps
from service.capabilities.attention.pipeline.variants import Deployment
from service.capabilities.attention.schemas import (
    CacheSizeRequest,
    LayerRequest,
    LayerRope,
    LayerWeights,
)
from service.capabilities.attention.tensors import Array32
from service.errors import DimensionMismatch, Fault, InvalidInput
from service.numerics.attention.cache import HeadSizes, Variant
from service.numerics.attention.forms import GroupedWeights, Heads, LatentWeights
from service.numerics.attention.positions import RopeScheme
from service.numerics.attention.reference import Layout, Normaliser
from service.numerics.dtypes import Matrix32

_SOURCES = (("q", "k", "v"), ("hidden", "weights"), ("layer", "text"))
_GROUPED = ("w_q", "w_k", "w_v")
_LATENT = ("w_qc", "w_kv_down", "w_kc", "w_v")
_TURNING = ("w_qr", "w_kr")


async def tap_layer(body: LayerRequest, taps: Taps, *, deadline: float) -> TappedLayer | None:
    """Return the layer of a model that a request names, None where it brings its own arrays.

    Raises:
        InvalidInput: not exactly one source came.
        ServiceError: the layer cannot be read; see `Taps.layer`.
    """
    _require_one_source(body)
    if body.layer is None or body.text is None:
        return None
    return await taps.layer(body.model, layer=body.layer, text=body.text, deadline=deadline)


def read_layer(
    body: LayerRequest, tapped: TappedLayer | None, *, more: Collection[str] = ()
) -> LayerJob:
    """Return what a layer is asked to do.

    Args:
        body: the request.
        tapped: the layer of a model that it names.
        more: names of what a picture needs beside what was asked for.

    Raises:
        InvalidInput: a set of weights is incomplete.
        DimensionMismatch: queries, keys and values do not fit each other.
    """
    scheme, turning = _rope(body, tapped)
    return LayerJob(
        brought=_brought(body) if tapped is None else tapped.heads,
        variant=Variant(body.variant),
        kv_rank=body.kv_rank,
        rope=scheme,
        base=turning.base,
        rope_dim=turning.dim,
        layout=Layout(turning.layout),
        scale=scale_scheme(body.scale),
        normaliser=Normaliser(body.normaliser),
        causal=body.causal,
        mask=body.mask,
        noise=None if body.noise is None else Noise(body.noise.sigma, body.noise.seed),
        wanted=frozenset({*body.return_, *more}),
    )


def _rope(body: LayerRequest, tapped: TappedLayer | None) -> tuple[RopeScheme, LayerRope]:
    """Return the scheme, and base, size and layout of what turns: a model's own by default."""
    given: RopeField = "direct" if tapped and "rope" not in body.model_fields_set else body.rope
    scheme = rope_scheme(given)
    chosen = given if isinstance(given, LayerRope) else LayerRope(name=scheme.name.value)
    if tapped is None:
        return scheme, chosen
    own = {"base": tapped.base, "layout": tapped.layout.value}
    kept = {name: own[name] for name in set(own) - chosen.model_fields_set}
    return scheme, chosen.model_copy(update=kept)


def _require_one_source(body: LayerRequest) -> None:
    given = body.model_fields_set
    came = [given & set(source) for source in _SOURCES]
    whole = [source for source in _SOURCES if set(source) <= given]
    if len(whole) != 1 or sum(map(bool, came)) != 1:
        names = ", ".join(sorted(set().union(*came))) or "none of them"
        raise InvalidInput(
            f"A layer needs q, k and v, or hidden and weights, or layer and text; {names} came.",
            faults=(Fault("", "needs q, k and v, or hidden and weights, or layer and text"),),
        )
    if body.model is not None and body.layer is None:
        raise InvalidInput(
            "model names where layer and text are taken; with arrays of your own leave it out.",
            faults=(Fault("/model", "is not read with q, k, v or hidden"),),
        )


def _brought(body: LayerRequest) -> Heads | Hidden:
    if body.hidden is not None:
        return Hidden(_batched(body.hidden, axes=3), _weights(body.weights))
    return _heads(body)


def _batched(array: Matrix32, *, axes: int) -> Matrix32:
    return array if array.ndim == axes else array[np.newaxis]


def _heads(body: LayerRequest) -> Heads:
    q, k, v = _present({"q": body.q, "k": body.k, "v": body.v}, "")
    for name, array, axes in (
        ("k", k, (0, 2, 3)),
        ("v", v, (0, 2)),
    ):
        if array.ndim != q.ndim:
            raise _misfit(name, array, q)
        ours, theirs = _batched(array, axes=4).shape, _batched(q, axes=4).shape
        if any(ours[axis] != theirs[axis] for axis in axes):
            raise _misfit(name, array, q)
    if k.shape[-3] != v.shape[-3]:
        raise _misfit("v", v, k)
    return Heads(*(_batched(array, axes=4) for array in (q, k, v)))


def _misfit(name: str, array: Matrix32, other: Matrix32) -> DimensionMismatch:
    return DimensionMismatch(
        f"{name} has the shape {array.shape} and does not fit {other.shape}: q is (heads, n, d_k), "
        "k (kv_heads, n, d_k), v (kv_heads, n, d_v), all with a batch axis or none.",
        faults=(Fault(f"/{name}", f"has the shape {array.shape}"),),
    )


def _present(arrays: dict[str, Array32], prefix: str) -> list[Matrix32]:
    missing = sorted(name for name, array in arrays.items() if array is None)
    if missing:
        raise InvalidInput(
            f"{prefix}{', '.join(missing)} is missing beside {', '.join(sorted(arrays))}.",
            faults=tuple(Fault(f"/weights/{name}", "is missing") for name in missing),
        )
    return [array for array in arrays.values() if array is not None]


def _weights(body: LayerWeights) -> GroupedWeights | LatentWeights:
    """Return the one of two sets of weights that came.

    Raises:
        InvalidInput: parts of both came, or one is incomplete.
    """
    came = body.model_fields_set
    latent = came & {*_LATENT, *_TURNING} - {"w_v"}
    if latent and came & {"w_q", "w_k"}:
        raise InvalidInput(
            f"The weights {', '.join(sorted(came))} belong to two layers; give w_q, w_k and w_v, "
            "or those of mla.",
            faults=(Fault("/weights", "belong to two layers"),),
        )
    if not latent:
        arrays = {name: getattr(body, name) for name in _GROUPED}
        return GroupedWeights(*_present(arrays, "weights: "))
    w_qc, w_kv_down, w_kc, w_v = _present(
        {name: getattr(body, name) for name in _LATENT}, "weights: "
    )
    if came & set(_TURNING):
        w_qr, w_kr = _present({name: getattr(body, name) for name in _TURNING}, "weights: ")
    else:
        w_qr = np.zeros((*w_qc.shape[:2], 0), dtype=np.float32)
        w_kr = np.zeros((w_qc.shape[1], 0), dtype=np.float32)
    return LatentWeights(w_qc, w_qr, w_kv_down, w_kc, w_kr, w_v)


def read_deployment(body: CacheSizeRequest) -> Deployment:
    """Return of what a cache is counted."""
    return Deployment(
        sizes=HeadSizes(
            q_heads=body.q_heads,
            kv_heads=body.kv_heads or 1,
            head_dim=body.head_dim,
            value_dim=body.value_dim,
            kv_rank=body.kv_rank or 0,
            rope_dim=body.rope_dim,
        ),
        grouped=body.kv_heads is not None,
        latent=body.kv_rank is not None,
        layers=body.layers,
        tokens=body.tokens,
        sequences=body.sequences,
        dtype=body.dtype,
    )
