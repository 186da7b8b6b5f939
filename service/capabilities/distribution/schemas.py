"""Define the bodies of `/v1/distribution`."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
)

from service.web.rows import GivenLogitRows, LogitRow, LogitRows
from service.web.wire import EncodingFormat, GivenVectors, Seed, WireModel, whole

MapName: TypeAlias = Literal[
    "softmax", "gaussian", "logistic", "exponential", "uniform",
    "sparsemax", "entmax", "top_k", "top_p", "min_p",
]  # fmt: skip
NoiseName: TypeAlias = Literal["gumbel", "gaussian", "logistic", "exponential", "uniform"]

_Positive = Annotated[int, Field(ge=1)]
_Whole = Annotated[int, Field(ge=0)]
Count = Annotated[_Positive, BeforeValidator(whole, json_schema_input_type=_Positive)]
Index = Annotated[_Whole, BeforeValidator(whole, json_schema_input_type=_Whole)]
_Nodes = Annotated[int, Field(ge=4, le=512)]
Nodes = Annotated[_Nodes, BeforeValidator(whole, json_schema_input_type=_Nodes)]
Share = Annotated[float, Field(gt=0, le=1)]
# Wider would leave nothing of a quotient, or all of it.
_NARROWEST, _WIDEST = 1e-100, 1e100


def _scale(value: float) -> float:
    if not _NARROWEST <= value <= _WIDEST:
        raise ValueError(f"must be above 0, from {_NARROWEST:g} to {_WIDEST:g}")
    return value


Scale = Annotated[
    float,
    AfterValidator(_scale),
    WithJsonSchema({"type": "number", "minimum": _NARROWEST, "maximum": _WIDEST}),
]

_TOP = "Give only the so many largest entries of each row, with their indices; ties by index."
Rows: TypeAlias = list[list[float | None]] | list[str]


class ProbabilitiesRequest(WireModel):
    """Ask for the probabilities of rows of logits."""

    matrix_field: ClassVar[str] = "logits"

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"logits": [[2, 1, 0.5, 0, -1]], "map": "exponential"},
                {"logits": [[2, 1, None]], "map": "entmax", "alpha": 1.5, "top": 2},
            ]
        }
    )

    logits: LogitRows
    map: MapName = Field("softmax", description="How logits become probabilities.")
    temperature: Scale = Field(1.0, description="Logits are divided by it first; any map.")
    scale: Scale = Field(1.0, description="Width of the noise; noise maps only.")
    match_variance: bool = Field(
        False,
        description="Whether the noise gets the standard deviation of Gumbel noise, whose map is "
        "softmax, before `scale`; noise maps only.",
    )
    nodes: Nodes | None = Field(
        None,
        description="Nodes of the quadrature; noise maps only. Absent: as many as make two logits "
        "exact to rounding.",
    )
    alpha: Annotated[float, Field(ge=1, le=64)] = Field(
        1.5, description="Of entmax: 1 is softmax, 2 is sparsemax."
    )
    k: Count = Field(50, description="Of top_k.")
    p: Share = Field(0.95, description="Of top_p.")
    min_p: Share = Field(0.05, description="Of min_p: share of the likeliest entry's probability.")
    top: Count | None = Field(None, description=_TOP)
    return_: list[Literal["probabilities", "entropy", "support", "mass_defect"]] = Field(
        ["probabilities", "entropy", "support", "mass_defect"],
        alias="return",
        min_length=1,
        description="What to give. As .npy: the probabilities, or the entropies where they alone "
        "are asked for.",
    )
    encoding_format: EncodingFormat = Field(
        "float", description="`base64` is little-endian float32, one text a row."
    )


class ProbabilitiesReply(BaseModel):
    """Hold the probabilities of each row, or of its largest entries."""

    map: MapName
    divisor: float = Field(description="What logits were divided by in all.")
    probabilities: Rows | None = Field(description="By falling probability where `top` was given.")
    indices: list[list[int]] | None = Field(description="Of the entries, where `top` was given.")
    entropy: list[float] | None = Field(description="Shannon's, in nats, of the whole row.")
    support: list[int] | None = Field(description="Entries that are not 0.")
    mass_defect: list[float] | None = Field(
        description="1 less the numerical total before rows were divided by it: the error of the "
        "quadrature. Null for maps in closed form."
    )


class DrawsRequest(WireModel):
    """Ask for draws from rows of logits."""

    matrix_field: ClassVar[str] = "logits"

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"logits": [[2, 1, 0.5, 0, -1]], "draws": 3, "seed": 7},
                {
                    "logits": [[2, 1, 0]],
                    "noise": "exponential",
                    "draws": 2,
                    "without_replacement": True,
                },
            ]
        }
    )

    logits: LogitRows
    noise: NoiseName = Field(
        "gumbel", description="Gumbel noise draws from softmax; another from its own map."
    )
    temperature: Scale = Field(1.0, description="Logits are divided by it first.")
    scale: Scale = Field(1.0, description="Width of the noise.")
    draws: Count = Field(1, description="Draws a row.")
    without_replacement: bool = Field(
        False,
        description="Whether the draws of a row are different entries: those with the largest "
        "perturbed scores, the largest first.",
    )
    seed: Seed
    return_: list[Literal["indices", "perturbed"]] = Field(
        ["indices"], alias="return", min_length=1, description="What to give."
    )


class DrawsReply(BaseModel):
    """Hold the draws of each row."""

    noise: NoiseName
    seed: int
    indices: list[list[int]] | None
    perturbed: list[list[float]] | None = Field(
        description="Score of each drawn entry with its noise, in units of the noise and relative "
        "to the largest score of the row."
    )


class MergeRequest(WireModel):
    """Ask for the next token's distribution given several contexts."""

    matrix_field: ClassVar[str] = "conditional"

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "conditional": [[-0.9, -1.2, -1.6, -2.3], [-0.2, -3, -3, -3]],
                    "unconditional": [-0.7, -1.6, -1.6, -2.3],
                },
                {
                    "conditional": [[2, 1, 0], [0, 3, 0]],
                    "unconditional": [1, 1, 0],
                    "pooling": "mean",
                    "beta": 1,
                },
            ]
        }
    )

    conditional: LogitRows = Field(description="One row of logits a context.")
    unconditional: LogitRow = Field(description="The row without any context.")
    beta: Annotated[float, Field(ge=-1, le=1e6)] = Field(
        0.25, description="How much the unconditional row is subtracted; 0 ignores it."
    )
    eta: Annotated[float, Field(ge=0, le=1e6)] = Field(
        0.1, description="Nats by which the context of the previous step is preferred."
    )
    top_p: Share = Field(0.95, description="Rows are cut to this nucleus first; 1 cuts nothing.")
    pooling: Literal["min_entropy", "mean", "max"] = Field(
        "min_entropy", description="How the rows of the contexts become one."
    )
    previous_index: Index | None = Field(None, description="Context chosen in the previous step.")
    top: Count | None = Field(None, description=_TOP)
    encoding_format: EncodingFormat = Field("float", description="As for probabilities.")


class MergeReply(BaseModel):
    """Hold the merged distribution."""

    index: int | None = Field(description="Context that answered; null where all were pooled.")
    entropies: list[float] = Field(description="Of the cut rows, in nats, before `eta`.")
    log_probabilities: list[float | None] | str = Field(
        description="Nats; null where nothing is left (minus infinity in base64 and .npy)."
    )
    indices: list[int] | None = Field(description="Of the entries, where `top` was given.")


class DivergenceRequest(WireModel):
    """Ask how far rows of scores are apart, or what multi-label scores say."""

    matrix_field: ClassVar[str] = "s"

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"s": [[2, 1, 0]], "t": [[1, 1, 1]], "kind": "softmax"},
                {"s": [[3, -2, 0.5]], "kind": "multi_label"},
            ]
        }
    )

    s: LogitRows
    t: GivenLogitRows = None
    kind: Literal["softmax", "sigmoid", "emo", "multi_label"] = Field(
        "softmax",
        description="`softmax`, `sigmoid`: symmetric KL of s and t under that link. `emo`: cost of "
        "moving softmax(s) to a target between embeddings. `multi_label`: sigmoid(2s), and the "
        "labels with s > 0.",
    )
    embeddings: GivenVectors = None
    targets: list[Index] = Field(
        default_factory=list,
        min_length=1,
        description="Of `emo`: the target token of each row, in place of t.",
    )
    return_: list[Literal["value", "terms"]] = Field(
        ["value"], alias="return", min_length=1, description="`terms` are the parts of the value."
    )


class DivergenceReply(BaseModel):
    """Hold one value a row."""

    kind: str
    value: list[float] | None
    bound: Literal["exact", "upper"] | None = Field(
        description="Of `emo`: a spread target gives an upper bound of the transport cost."
    )
    terms: list[list[float]] | None
    probabilities: list[list[float]] | None = Field(description="Of `multi_label`.")
    labels: list[list[int]] | None = Field(description="Of `multi_label`.")


def described(reply: dict[str, Any], wanted: list[str]) -> dict[str, Any]:
    """Return a reply with null in place of what was not asked for.

    Args:
        reply: everything that could be given, by the names of `return`.
        wanted: the request's `return`.
    """
    return {name: value if name in wanted else None for name, value in reply.items()}
