"""Say what a layer is asked to do, hold it to the limits, and turn it into conditions."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, fields

import numpy as np

from service.capabilities.attention.pipeline.given import Given, Hidden
from service.capabilities.attention.settings import AttentionSettings
from service.errors import DimensionMismatch, Fault, InvalidInput, TooManyItems
from service.numerics.attention.cache import Variant
from service.numerics.attention.forms import (
    GroupedWeights,
    Heads,
    LatentWeights,
    Part,
    head_size,
    rope_size,
)
from service.numerics.attention.positions import RopeScheme, rope_tables
from service.numerics.attention.reference import (
    Conditions,
    Layout,
    Normaliser,
    visible_keys,
)
from service.numerics.attention.scales import ScaleScheme, row_scale
from service.numerics.dtypes import Bools, Ids64, Matrix32
from service.numerics.seeds import generator


@dataclass(frozen=True, slots=True)
class Noise:
    """Hold the standard deviation of noise on the scores, in nats, and its seed."""

    sigma: float
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerJob:
    """Hold what a layer is asked to do.

    Attributes:
        brought: queries, keys and values, or hidden states with weights; batch first.
        variant: how queries share keys and values.
        kv_rank: of a latent made of keys and values.
        rope: how positions become angles.
        base: of the angles.
        rope_dim: numbers of a head that turn; None means all that can.
        layout: of the pairs.
        scale: what multiplies the scores.
        normaliser: what makes weights of scores.
        causal: whether later keys are hidden.
        mask: (n, n) true where a query sees a key, or None.
        noise: on the scores, or None.
        wanted: names of what to give.
    """

    brought: Heads | Hidden
    variant: Variant
    kv_rank: int | None
    rope: RopeScheme
    base: float
    rope_dim: int | None
    layout: Layout
    scale: ScaleScheme
    normaliser: Normaliser
    causal: bool
    mask: Bools | None
    noise: Noise | None
    wanted: Collection[str]


def require_limits(job: LayerJob, settings: AttentionSettings) -> None:
    """Check the sizes of a layer before anything is computed.

    Raises:
        TooManyItems: it is larger than a limit.
    """
    batch, heads, tokens = _sizes(job)
    shown = {"probabilities", "rank"} & set(job.wanted)
    limits = {
        "tokens": (tokens, settings.max_tokens),
        "scores (batch × heads × tokens²)": (batch * heads * tokens**2, settings.max_scores),
        "numbers": (_numbers(job), settings.max_numbers),
        f"tokens with {' and '.join(sorted(shown))}": (
            tokens if shown else 0,
            settings.max_shown_tokens,
        ),
    }
    for what, (count, limit) in limits.items():
        if count > limit:
            raise TooManyItems(
                f"The layer has {count} {what} and one call carries {limit}. Send fewer tokens or "
                "heads.",
                faults=(Fault("", f"{count} {what}, at most {limit} are allowed"),),
            )


def _sizes(job: LayerJob) -> tuple[int, int, int]:
    """Return batch, query heads and tokens."""
    if isinstance(job.brought, Heads):
        batch, heads, tokens, _ = job.brought.queries.shape
        return batch, heads, tokens
    batch, tokens, _ = job.brought.states.shape
    return batch, len(next(iter(fields_of(job.brought.weights)))), tokens


def _numbers(job: LayerJob) -> int:
    """Return how many numbers came, and become queries, keys and values."""
    if isinstance(job.brought, Heads):
        heads = job.brought
        return int(heads.queries.size + heads.keys.size + heads.values.size)
    weights = fields_of(job.brought.weights)
    came = int(job.brought.states.size) + sum(int(array.size) for array in weights)
    return came + 3 * math.prod(_sizes(job)) * max(int(array.shape[-1]) for array in weights)


def fields_of(weights: GroupedWeights | LatentWeights) -> list[Matrix32]:
    """Return the arrays of weights, the queries' first."""
    return [getattr(weights, field.name) for field in fields(weights)]


def visible_lengths(job: LayerJob, tokens: int) -> Ids64:
    """Return how many keys each row sees.

    Raises:
        DimensionMismatch: the mask has another size than the layer.
        InvalidInput: a row sees none.
    """
    if job.mask is not None and job.mask.shape != (tokens, tokens):
        raise DimensionMismatch(
            f"The mask has the shape {job.mask.shape} and the layer {tokens} tokens; it must be "
            f"({tokens}, {tokens}).",
            faults=(Fault("/mask", f"has the shape {job.mask.shape}"),),
        )
    lengths: Ids64 = visible_keys(tokens, causal=job.causal, mask=job.mask).sum(axis=1)
    if not lengths.all():
        row = int(np.flatnonzero(lengths == 0)[0])
        raise InvalidInput(
            f"Row {row} of the mask leaves no key to see{', being causal' * job.causal}; let every "
            "query see one key at least.",
            faults=(Fault(f"/mask/{row}", "leaves no key to see"),),
        )
    return lengths


def turning_size(job: LayerJob, given: Given) -> int:
    """Return how many numbers of a head turn.

    Raises:
        DimensionMismatch: it is odd, or more than there are.
    """
    most = rope_size(given.form)
    chosen = most if job.rope_dim is None else job.rope_dim
    if chosen > most:
        raise DimensionMismatch(
            f"{chosen} numbers of a head should turn and there are {most}.",
            faults=(Fault("/rope/dim", f"is {chosen}, at most {most} is possible"),),
        )
    return chosen


def conditions_of(job: LayerJob, given: Given, *, lengths: Ids64, rope_dim: int) -> Conditions:
    """Return what is done to the scores of every head, noise apart.

    Raises:
        DimensionMismatch: positions cannot turn so many numbers.
    """
    tokens = len(lengths)
    places = np.arange(tokens)
    tables = None
    if rope_dim:
        tables = rope_tables(
            job.rope, queries=places, keys=places, rope_dim=rope_dim, base=job.base
        )
    size = head_size(given.form)
    bias = None
    if job.mask is not None:
        bias = np.where(job.mask, 0.0, -np.inf).astype(np.float32)
    return Conditions(
        tables=tables,
        layout=job.layout,
        scale=row_scale(job.scale, lengths, head_dim=size) / math.sqrt(size),
        bias=bias,
        causal=job.causal,
        normaliser=job.normaliser,
    )


def noise_of(noise: Noise, part: Part, tokens: int) -> Matrix32:
    """Return noise for every score of a part, (batch, heads, n, n) float32.

    Each head draws from a stream of its own, so that how a layer is split changes nothing.
    """
    drawn = [
        generator(noise.seed, "attention", each, head).standard_normal(
            (tokens, tokens), dtype=np.float32
        )
        for each in range(part.batch.start, part.batch.stop)
        for head in range(part.heads.start, part.heads.stop)
    ]
    shaped: Matrix32 = np.stack(drawn).reshape(*part.form.queries.shape[:2], tokens, tokens)
    return shaped * np.float32(noise.sigma)
