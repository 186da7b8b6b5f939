"""Define the bodies of `/v1/analysis/concentration`, `density` and `calibrations`."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

from service.capabilities.distribution.schemas import Count, Share
from service.web.rows import GivenSamples, GivenValues, RowTensor, Samples
from service.web.wire import Seed, WireModel, whole

ModelName = Annotated[str, Field(min_length=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
_PAIR = 2
_Between = Annotated[float, Field(gt=0, lt=1)]
_Norm = Annotated[float, Field(ge=1e-3, le=1e3)]
_Order = Annotated[int, Field(ge=1, le=64)]
Order = Annotated[_Order, BeforeValidator(whole, json_schema_input_type=_Order)]


def _norm_orders(pairs: list[list[float]]) -> list[list[float]]:
    for number, pair in enumerate(pairs):
        if len(pair) != _PAIR or pair[0] >= pair[1]:
            raise ValueError(f"pair {number} is {pair}; a pair is [q, p] with 0 < q < p")
    return pairs


NormOrders = Annotated[
    list[list[_Norm]],
    AfterValidator(_norm_orders),
    WithJsonSchema(
        {
            "type": "array",
            "maxItems": 16,
            "items": {
                "type": "array",
                "minItems": 2,
                "maxItems": 2,
                "items": {"type": "number", "minimum": 1e-3, "maximum": 1e3},
            },
        }
    ),
    Field(max_length=16),
]


def _rising(bounds: list[float]) -> list[float]:
    low, high = bounds
    if not 0 < high - low < float("inf"):
        raise ValueError(f"the bounds are {bounds}; the second must be larger")
    return bounds


Bounds = Annotated[list[float], Field(min_length=2, max_length=2), AfterValidator(_rising)]


class ConcentrationRequest(WireModel):
    """Ask how concentrated rows are."""

    matrix_field: ClassVar[str] = "rows"

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"rows": [[0.7, 0.2, 0.05, 0.05]], "kind": "probabilities"},
                {"rows": [[3, -1, 0, 2]], "kind": "vector"},
            ]
        }
    )

    rows: RowTensor
    kind: Literal["vector", "probabilities", "logits"] = Field(
        "vector", description="What the rows hold."
    )
    orders: NormOrders = Field(
        [[1.0, 2.0]], description="Pairs [q, p], p > q > 0, of the ratios `s_q_p`."
    )
    renyi: list[Annotated[float, Field(ge=0, le=1e3)]] = Field(
        [], max_length=16, description="Orders of Rényi entropy beside 2 and infinity."
    )
    top: Count = Field(10, description="Entries that `top_mass` sums.")
    mass: Share = Field(0.9, description="Share that `covering_count` entries must reach.")
    epsilon: Annotated[float, Field(ge=0, le=1)] = Field(
        1e-3, description="Entries below this share of the largest count as near zero."
    )
    values: GivenValues = None
    noise: Annotated[float, Field(ge=0, le=10)] = Field(
        0.5, description="Standard deviation of noise on the logits, for `noise_sensitivity`."
    )


class ConcentrationReply(BaseModel):
    """Hold each metric in the shape of the rows without their last axis."""

    kind: str
    shape: list[int]
    metrics: dict[str, Any] = Field(
        description="By name; null where a metric is not defined, as for a row of zeros."
    )
    summary: dict[str, Any] = Field(
        description="Of each metric mean, p10, p50 and p90: over all rows, or over the queries of "
        "each head."
    )
    noise_sensitivity: Any = Field(
        description="Expected squared error of each output, where values were given."
    )


_OF_TEXTS = {"model", "pooling", "transform", "pairs"}


class DensityRequest(WireModel):
    """Ask for the density of numbers, or of the similarity of random pairs of texts."""

    matrix_field: ClassVar[str] = "samples"

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [{"required": ["samples"]}, {"required": ["texts"]}],
            "examples": [
                {"samples": [0.1, 0.4, 0.35, 0.6, 0.52], "domain": "bounded", "order": 4},
                {
                    "name": "reviews",
                    "texts": ["The room was clean.", "Nobody answered.", "The train is late."],
                },
            ],
        }
    )

    samples: GivenSamples = None
    texts: list[str] = Field(
        default_factory=list,
        min_length=1,
        description="Texts, of which random pairs are compared by cosine: what unrelated pairs "
        "score.",
    )
    model: ModelName | None = Field(None, description="Encoder of the texts.")
    pooling: Literal["mean", "cls", "first_last", "embedding"] | None = Field(
        None, description="How positions become one vector; absent means the model's own way."
    )
    transform: ModelName | None = Field(None, description="Whitening of their vectors.")
    pairs: Count = Field(10_000, description="Pairs of texts that are drawn, each once.")
    domain: Literal["bounded", "real"] | None = Field(
        None,
        description="Absent means bounded where bounds or texts are given, else the real line.",
    )
    bounds: Bounds | None = Field(
        None, description="Ends of a bounded domain; absent means [0, 1], for texts [-1, 1]."
    )
    order: Literal["auto"] | Order = Field(
        "auto", description="Waves in the density; `auto` chooses by cross-validation."
    )
    gamma: Annotated[float, Field(ge=0, le=1)] = Field(
        1e-5, description="Weight of the penalty on wiggles."
    )
    points: GivenSamples = None
    quantiles: list[_Between] = Field(
        [0.01, 0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99],
        description="Shares whose quantiles are given.",
    )
    seed: Seed
    name: Name | None = Field(
        None, description="Keep the density as a new version of this calibration."
    )

    @model_validator(mode="after")
    def _either(self) -> DensityRequest:
        given = self.model_fields_set & {"samples", "texts"}
        if len(given) != 1:
            raise ValueError("give exactly one of samples and texts")
        if not self.texts and self.model_fields_set & _OF_TEXTS:
            raise ValueError("model, pooling, transform and pairs belong to texts: there are none")
        if self.domain == "real" and self.bounds is not None:
            raise ValueError("bounds belong to a bounded domain, and the domain is real")
        return self


class ScoredReply(BaseModel):
    """Say what the scores of a calibration are."""

    model: str
    model_sha256: str
    pooling: str
    transform: str | None
    metric: str
    texts: int
    pairs: int


class Mode(BaseModel):
    """Hold one maximum of a density."""

    at: float
    density: float | None = Field(description="Null where it is too large for JSON.")


class Quantile(BaseModel):
    """Hold one quantile."""

    share: float
    at: float


class Point(BaseModel):
    """Hold the density at one point."""

    at: float
    pdf: float | None
    cdf: float


class HeldOut(BaseModel):
    """Hold how likely held-out samples were under one order."""

    order: int
    log_likelihood: float


class Coefficients(BaseModel):
    """Hold g_1 … g_N."""

    real: list[float]
    imaginary: list[float]


class CalibrationReply(BaseModel):
    """Describe a stored calibration."""

    id: str = Field(description="`name@version`, to be used as `calibration`.")
    name: str
    version: int
    created: str
    sha256: str
    domain: str
    location: float = Field(description="Lower end of the interval, or the centre μ.")
    scale: float = Field(description="Length of the interval, or σ.")
    order: int
    coefficients: Coefficients
    samples: int
    log_likelihood: float
    scored: ScoredReply | None


class DensityReply(BaseModel):
    """Hold a fitted density and what was read from it."""

    domain: str
    location: float = Field(description="Lower end of the interval, or the centre μ.")
    scale: float = Field(description="Length of the interval, or σ.")
    order: int
    coefficients: Coefficients
    samples: int
    log_likelihood: float = Field(description="Mean over the samples, in nats.")
    held_out: list[HeldOut] = Field(description="Empty where the order was given.")
    modes: list[Mode]
    quantiles: list[Quantile]
    points: list[Point]
    seed: int
    scored: ScoredReply | None
    calibration: CalibrationReply | None = Field(description="What was stored, if anything.")


class CalibrationList(BaseModel):
    """List calibrations: the latest version of each name, or all versions of one."""

    calibrations: list[CalibrationReply]


class PercentilesRequest(WireModel):
    """Ask in which percentiles scores lie."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"scores": [0.2, 0.83]}, {"scores": [0.5]}]}
    )

    matrix_field: ClassVar[str] = "scores"

    scores: Samples


class PercentilesReply(BaseModel):
    """Hold one percentile a score."""

    id: str
    percentiles: list[float] = Field(description="0 to 100.")
