"""Turn what a request brings into a form that a graph computes."""

from __future__ import annotations

from dataclasses import dataclass

from service.capabilities.attention.settings import AttentionSettings
from service.errors import DimensionMismatch, Fault, InvalidInput, TooManyItems
from service.numerics.attention.cache import LATENT, Variant, require_groups
from service.numerics.attention.forms import (
    GroupedWeights,
    Heads,
    LatentWeights,
    LayerForm,
    compress,
    pool_heads,
    project_heads,
    project_latents,
)
from service.numerics.attention.reference import Path
from service.numerics.dtypes import Matrix32


@dataclass(frozen=True, slots=True)
class Hidden:
    """Hold hidden states and the projections that make heads or a latent of them.

    Attributes:
        states: (batch, n, hidden) float32.
        weights: of grouped heads, or of a latent.
    """

    states: Matrix32
    weights: GroupedWeights | LatentWeights


@dataclass(frozen=True, slots=True)
class Given:
    """Hold a layer under a variant.

    Attributes:
        form: heads, or a latent.
        path: how it is computed.
        lossy: whether keys and values lost something.
        error: share of keys and values that a latent lost; None where none was made.
    """

    form: LayerForm
    path: Path
    lossy: bool = False
    error: float | None = None


# A latent of float32 numbers is not nearer to them than this.
_ROUNDING = 1e-6


def under_variant(
    brought: Heads | Hidden,
    variant: Variant,
    *,
    kv_rank: int | None,
    turns: bool,
    settings: AttentionSettings,
) -> Given:
    """Return the form that a variant computes.

    Args:
        brought: queries, keys and values, or hidden states with weights.
        variant: which.
        kv_rank: numbers of a latent that is made of keys and values; None loses nothing.
        turns: whether positions turn queries and keys.
        settings: bounds the work of making a latent.

    Raises:
        DimensionMismatch: heads, groups or shapes do not fit.
        InvalidInput: the variant needs other weights, or cannot turn what it absorbs.
        TooManyItems: making the latent would take too long.
    """
    if kv_rank is not None and (variant not in LATENT or isinstance(brought, Hidden)):
        raise InvalidInput(
            "kv_rank belongs to mla over q, k and v, whose latent the service makes; weights bring "
            "their own. Leave it out.",
            faults=(Fault("/kv_rank", "is not read here"),),
        )
    if variant not in LATENT:
        return _grouped(_heads(brought, variant), variant)
    path = Path.ABSORBED if variant is Variant.MLA_ABSORBED else Path.EXPANDED
    made = _latent(brought, kv_rank=kv_rank, path=path, settings=settings)
    if path is Path.ABSORBED and turns and not made.form.decoupled:  # type: ignore[union-attr]
        raise InvalidInput(
            "Keys that turn whole cannot be absorbed: W_q R W_kᵀ depends on the distance. Give "
            "weights with w_qr and w_kr, ask for rope 'none', or for mla.",
            faults=(Fault("/rope", "cannot turn a latent without w_qr and w_kr"),),
        )
    return made


def _heads(brought: Heads | Hidden, variant: Variant) -> Heads:
    if isinstance(brought, Heads):
        return brought
    if isinstance(brought.weights, LatentWeights):
        raise InvalidInput(
            f"{variant.value} takes the weights w_q, w_k and w_v; those of mla came.",
            faults=(Fault("/weights", "are those of mla"),),
        )
    return project_heads(brought.states, brought.weights)


def _grouped(heads: Heads, variant: Variant) -> Given:
    q_heads, kv_heads = heads.queries.shape[1], heads.keys.shape[1]
    require_groups(q_heads, kv_heads)
    if variant is Variant.MHA and kv_heads != q_heads:
        raise DimensionMismatch(
            f"mha has a key head for each query head; {q_heads} and {kv_heads} came. Ask for gqa.",
            faults=(Fault("/k", f"has {kv_heads} heads, mha needs {q_heads}"),),
        )
    if variant is Variant.MQA and kv_heads > 1:
        return Given(pool_heads(heads), Path.HEADS, lossy=True)
    return Given(heads, Path.HEADS)


def _latent(
    brought: Heads | Hidden, *, kv_rank: int | None, path: Path, settings: AttentionSettings
) -> Given:
    if isinstance(brought, Hidden):
        if isinstance(brought.weights, GroupedWeights):
            raise InvalidInput(
                "mla takes the weights w_qc, w_kv_down, w_kc and w_v, and w_qr with w_kr where it "
                "turns; those of grouped heads came.",
                faults=(Fault("/weights", "are those of mha, gqa or mqa"),),
            )
        return Given(project_latents(brought.states, brought.weights), path)
    require_groups(brought.queries.shape[1], brought.keys.shape[1])
    _require_small(brought, settings.max_latent)
    made = compress(brought, rank=kv_rank)
    return Given(made.latents, path, lossy=made.error > _ROUNDING, error=made.error)


def _require_small(heads: Heads, limit: int) -> None:
    batch, groups, tokens, key_size = heads.keys.shape
    side = min(batch * tokens, groups * (key_size + heads.values.shape[-1]))
    if side > limit:
        raise TooManyItems(
            f"A latent of {batch * tokens} tokens with {groups} heads would take the factors of a "
            f"matrix whose smaller side is {side}; {limit} are allowed.",
            faults=(Fault("/k", f"smaller side {side}, at most {limit} is allowed"),),
        )
