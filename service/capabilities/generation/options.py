"""Turn what a request says of sampling into what the numerics read."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from service.capabilities.generation.fields import MapOptions, MapText
from service.capabilities.generation.numerics.choosing import Sampling
from service.errors import Fault, InvalidInput
from service.numerics.distributions.choice import NOISE_MAPS, MapName, ProbabilityMap

_READ_BY: Mapping[str, Collection[str]] = {
    "scale": NOISE_MAPS,
    "match_variance": NOISE_MAPS,
    "alpha": {MapName.ENTMAX},
}
_USUAL = ProbabilityMap()
# Maps that are softmax behind a cut, with the cut at which they stand where nothing else is said.
_TRUNCATIONS: Mapping[MapName, Mapping[str, float]] = {
    MapName.TOP_K: {"top_k": _USUAL.k},
    MapName.TOP_P: {"top_p": _USUAL.p},
    MapName.MIN_P: {"min_p": _USUAL.min_p},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenSampling:
    """Hold what a request says of sampling, in one form for all routes; None where it is silent."""

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    probability_map: MapText | MapOptions = "softmax"
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[str, float] = field(default_factory=dict)
    top_log_probs: int = 0


def sampling_of(given: GivenSampling) -> Sampling:
    """Return how tokens are chosen.

    Raises:
        InvalidInput: an option is not read by the map.
    """
    chosen = given.probability_map
    options = MapOptions(name=chosen) if isinstance(chosen, str) else chosen
    name = MapName(options.name)
    _require_read(options, name)
    mapping = ProbabilityMap(
        name=MapName.SOFTMAX if name in _TRUNCATIONS else name,
        scale=options.scale,
        match_variance=options.match_variance,
        alpha=options.alpha,
    )
    cuts = {"top_k": None, "top_p": 1.0, "min_p": 0.0, **_TRUNCATIONS.get(name, {})}
    asked = {cut: getattr(given, cut) for cut in cuts if getattr(given, cut) is not None}
    return Sampling(
        temperature=given.temperature,
        **{**cuts, **asked},
        mapping=mapping,
        presence_penalty=given.presence_penalty,
        frequency_penalty=given.frequency_penalty,
        logit_bias={int(token_id): bias for token_id, bias in given.logit_bias.items()},
        top_log_probs=given.top_log_probs,
    )


def _require_read(options: MapOptions, name: MapName) -> None:
    for option in sorted(options.model_fields_set & set(_READ_BY)):
        if name not in _READ_BY[option]:
            raise InvalidInput(
                f"The map {name.value!r} does not read {option}, which belongs to "
                f"{', '.join(sorted(_READ_BY[option]))}. Leave it out, or choose another.",
                faults=(Fault(f"/probability_map/{option}", f"is not read by {name.value!r}"),),
            )


def require_no_contradiction(given: GivenSampling) -> None:
    """Check that temperature 0 does not stand beside options that it makes void.

    Raises:
        InvalidInput: it does.
    """
    if given.temperature > 0:
        return
    void = [name for name in ("top_k", "top_p", "min_p") if getattr(given, name) is not None]
    if given.probability_map != "softmax":
        void.append("probability_map")
    if void:
        raise InvalidInput(
            f"Temperature 0 takes the likeliest token, so {' and '.join(void)} would do nothing. "
            "Leave them out, or raise the temperature.",
            faults=tuple(Fault(f"/{name}", "contradicts temperature 0") for name in void),
        )
