"""Shape what the routes on layers answer."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy.typing as npt

from service.capabilities.attention.option_schemas import describe_rope, describe_scale
from service.capabilities.attention.pipeline.job import LayerJob
from service.capabilities.attention.pipeline.layers import UNIT_NOISE, LayerAnswer
from service.capabilities.attention.pipeline.probing import ProbeAnswer, ProbeJob
from service.capabilities.attention.pipeline.taps import TappedLayer
from service.capabilities.attention.pipeline.variants import CacheCount
from service.numerics.attention.forms import Heads, head_size
from service.runtime.family import FamilyEntry
from service.web.arrays import encode_array
from service.web.wire import EncodingFormat

_CONCENTRATION = "concentration."
Shaped = Callable[[npt.NDArray[Any]], object]


def describe_layer(
    job: LayerJob,
    answer: LayerAnswer,
    tapped: TappedLayer | None,
    *,
    batched: bool,
    encoding_format: EncodingFormat,
) -> dict[str, object]:
    """Return the body of a layer; null for what was not asked for."""

    def shaped(array: npt.NDArray[Any]) -> object:
        plain = array if batched else array[0]
        return plain if encoding_format == "float" else encode_array(plain)

    found = answer.found
    body: dict[str, object] = {
        name: shaped(found[name]) if name in found else None
        for name in ("output", "probabilities", "entropy", "normalized_entropy")
    }
    if "entropy" in found:
        means = found["entropy"].mean(axis=-1)
        body["entropy_by_head"] = means if batched else means[0]
    return {
        **_describe_form(job, answer),
        "model": None if tapped is None else tapped.model,
        "model_sha256": None if tapped is None else tapped.model_sha256,
        "entropy_by_head": None,
        **body,
        "concentration": _describe_concentration(answer, shaped),
        **_describe_cache(answer, job.wanted),
        "noise_sensitivity": _describe_noise(job, answer, shaped),
        "rank": _describe_rank(answer, batched=batched),
    }


def _describe_form(job: LayerJob, answer: LayerAnswer) -> dict[str, object]:
    form = answer.given.form
    heads = isinstance(form, Heads)
    return {
        "variant": job.variant.value,
        "q_heads": form.queries.shape[1],
        "kv_heads": form.keys.shape[1] if isinstance(form, Heads) else 1,
        "tokens": form.queries.shape[2],
        "head_dim": head_size(form),
        "kv_rank": None if isinstance(form, Heads) else form.latent.shape[-1],
        "rope_dim": answer.rope_dim,
        "lossy": answer.given.lossy,
        "error": None if heads else answer.given.error,
        "causal": job.causal,
        "normaliser": job.normaliser.value,
        "scale": describe_scale(job.scale),
        "rope": describe_rope(job.rope),
        "seed": None if job.noise is None else job.noise.seed,
    }


def _describe_cache(answer: LayerAnswer, wanted: Collection[str]) -> dict[str, object]:
    if "cache_bytes" not in wanted:
        names = ("cache_elements_per_token", "cache_bytes_per_token", "cache_bytes")
        return dict.fromkeys(names)
    batch, _, tokens, _ = answer.given.form.queries.shape
    return {
        "cache_elements_per_token": answer.cache_elements,
        "cache_bytes_per_token": answer.cache_bytes // (batch * tokens),
        "cache_bytes": answer.cache_bytes,
    }


def _describe_concentration(answer: LayerAnswer, shaped: Shaped) -> dict[str, object] | None:
    metrics = {
        name.removeprefix(_CONCENTRATION): shaped(values)
        for name, values in answer.found.items()
        if name.startswith(_CONCENTRATION)
    }
    return metrics or None


def _describe_noise(job: LayerJob, answer: LayerAnswer, shaped: Shaped) -> dict[str, object] | None:
    if "expected" not in answer.found:
        return None
    observed = answer.found.get("observed")
    return {
        "sigma": UNIT_NOISE if job.noise is None else job.noise.sigma,
        "seed": None if job.noise is None else job.noise.seed,
        "expected": shaped(answer.found["expected"]),
        "observed": None if observed is None else shaped(observed),
        "relative_change": answer.relative_change,
    }


def _describe_rank(answer: LayerAnswer, *, batched: bool) -> dict[str, object] | None:
    if "numerical" not in answer.found:
        return None
    names = {
        "numerical": "numerical",
        "smallest_singular_value": "smallest",
        "largest_singular_value": "largest",
    }
    return {
        told: answer.found[name] if batched else answer.found[name][0]
        for told, name in names.items()
    }


def describe_cache(count: CacheCount) -> dict[str, object]:
    """Return what one variant keeps."""
    return {
        "variant": count.variant.value,
        "elements_per_token_layer": count.elements,
        "bytes_per_token": count.token_bytes,
        "bytes": count.total_bytes,
        "share_of_mha": count.share,
    }


def describe_probe(job: ProbeJob, answer: ProbeAnswer) -> dict[str, object]:
    """Return both probes."""
    return {
        "tokens": job.tokens,
        "heads": job.heads,
        "head_dim": job.head_dim,
        "seed": job.seed,
        "rope": describe_rope(job.rope),
        "scale": describe_scale(job.scale),
        "position": [
            {
                "normaliser": row.normaliser.value,
                "causal": row.causal,
                "marker": row.marker,
                "variance": row.variance,
            }
            for row in answer.position
        ],
        "rank": [
            {
                "causal": found.causal,
                "numerical_rank": found.rank.numerical,
                "smallest_singular_value": found.rank.smallest,
                "largest_singular_value": found.rank.largest,
                "log_determinant": found.log_determinant,
            }
            for found in answer.rank
        ],
    }


def describe_family(model: str, max_tokens: int, family: FamilyEntry) -> dict[str, object]:
    """Return which variants an installed language model has, as its manifest says."""
    return {
        "model": model,
        "default_variant": family.default_variant,
        "layers": family.layers,
        "q_heads": family.q_heads,
        "head_dim": family.head_dim,
        "max_tokens": max_tokens,
        "variants": [
            {
                "name": each.name,
                "formula": each.formula,
                "cache_elements": each.cache_elements,
                "lossy": each.lossy,
                "scale": each.scale,
                "normaliser": each.normaliser,
                "windowed": each.windowed is not None,
                "perplexity": None if each.perplexity is None else each.perplexity.value,
            }
            for each in family.variants.values()
        ],
    }
