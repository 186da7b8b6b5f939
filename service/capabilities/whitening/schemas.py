"""Define the bodies of this room."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PlainValidator,
    WithJsonSchema,
    model_validator,
)

from service.web.wire import EncodingFormat, GivenVectors, Seed, WireModel, whole

PoolingName: TypeAlias = Literal["mean", "cls", "first_last", "embedding"]
TruncateSide: TypeAlias = Literal["error", "left", "right"]
ShrinkageName: TypeAlias = Literal["none", "oas", "ledoit_wolf"]
ReductionName: TypeAlias = Literal[
    "centering", "whitening", "csls", "mutual_proximity", "local_scaling"
]
FEWEST_PAIRS = 10
FEWEST_FOLDS = 2
MOST_FOLDS = 20
# Of one side of a grid; the settings in all have a limit of their own.
MOST_VALUES = 1000

_Positive = Annotated[int, Field(ge=1)]
Count = Annotated[_Positive, BeforeValidator(whole, json_schema_input_type=_Positive)]
_Several = Annotated[int, Field(ge=FEWEST_FOLDS, le=MOST_FOLDS)]
Folds = Annotated[_Several, BeforeValidator(whole, json_schema_input_type=_Several)]
ModelName = Annotated[str, Field(min_length=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


def _share(value: object) -> object:
    # strict mode takes no 1 for a float, and JSON makes no difference
    return float(value) if type(value) is int else value


_Unit = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[_Unit, BeforeValidator(_share, json_schema_input_type=_Unit)]
_Finite = Annotated[float, Field(allow_inf_nan=False)]
Score = Annotated[_Finite, BeforeValidator(_share, json_schema_input_type=_Finite)]

_EITHER: dict[str, Any] = {"oneOf": [{"required": ["texts"]}, {"required": ["vectors"]}]}


class Source(WireModel):
    """Give texts or vectors; exactly one of them."""

    model_config = ConfigDict(json_schema_extra=_EITHER)
    matrix_field: ClassVar[str] = "vectors"

    texts: list[str] = Field(
        default_factory=list, min_length=1, description="Texts, embedded by `model`."
    )
    vectors: GivenVectors = None
    model: ModelName | None = Field(
        None,
        description="Encoder of the texts, or the one that the vectors came from; absent means the "
        "default one for texts and an unknown one for vectors.",
    )
    truncate: TruncateSide = Field(
        "right", description="Which end of a text that is too long is cut; `error` refuses it."
    )

    @model_validator(mode="after")
    def _either(self) -> Source:
        given = self.model_fields_set & {"texts", "vectors"}
        if len(given) != 1:
            raise ValueError("give exactly one of texts and vectors")
        return self


class FitRequest(Source):
    """Fit a transform."""

    model_config = ConfigDict(
        json_schema_extra={
            **_EITHER,
            "examples": [
                {
                    "name": "reviews",
                    "texts": ["A cat sleeps.", "A dog barks.", "Rain falls."],
                    "dimensions": 128,
                    "gamma": 0.25,
                },
                {
                    "name": "points",
                    "vectors": [[2.0, 0.1], [-1.0, 0.0], [0.5, -0.2], [1.0, 0.3]],
                    "beta": 1,
                    "gamma": 1,
                    "shrinkage": "none",
                },
            ],
        }
    )

    name: Name = Field(description="Name of the transform; a name that exists gets a new version.")
    pooling: PoolingName | None = Field(
        None, description="How positions become one vector; absent means the model's own way."
    )
    beta: Share = Field(0.0, description="Share of the mean that is subtracted.")
    gamma: Share = Field(
        0.0, description="How far axes are brought to equal spread: 0 not at all, 1 entirely."
    )
    dimensions: Count | None = Field(None, description="Axes that are kept; absent means all.")
    shrinkage: ShrinkageName = Field(
        "ledoit_wolf",
        description="What keeps few samples from blowing up directions they say nothing about.",
    )


class UpdateRequest(Source):
    """Merge more texts or vectors into the statistics of a transform."""

    model_config = ConfigDict(
        json_schema_extra={
            **_EITHER,
            "examples": [
                {"texts": ["The sun shines.", "It snows."]},
                {"texts": ["The river is high."], "model": "all-MiniLM-L6-v2"},
            ],
        }
    )


class ApplyRequest(Source):
    """Transform texts or vectors."""

    model_config = ConfigDict(
        json_schema_extra={
            **_EITHER,
            "examples": [
                {"texts": ["A cat sleeps.", "A dog barks."]},
                {"texts": ["A cat sleeps."], "dimensions": 64, "encoding_format": "base64"},
            ],
        }
    )

    dimensions: Count | None = Field(
        None, description="Keep the first so many, at most the transform's own."
    )
    normalize: bool = Field(True, description="Whether vectors have length 1.")
    encoding_format: EncodingFormat = Field(
        "float", description="`base64` is little-endian float32, half the bytes of `float`."
    )


def _read_side(value: object) -> str | int:
    number = whole(value)
    if isinstance(number, str) or (type(number) is int and number >= 0):
        return number
    raise ValueError("must be a text, or the number of a row of `vectors`")


# One validator: a union would put the names of its members into the pointers of its errors.
Side = Annotated[
    str | int,
    PlainValidator(_read_side),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "integer", "minimum": 0}]}),
]


class Pair(WireModel):
    """Say how alike two texts, or two rows of `vectors`, are; the order of the scores counts."""

    a: Side
    b: Side
    score: Score


class Grid(WireModel):
    """List what is tried; every β with every γ with every number of dimensions."""

    beta: list[Share] = Field(
        default_factory=lambda: [0.0, 0.5, 1.0], min_length=1, max_length=MOST_VALUES
    )
    gamma: list[Share] = Field(
        default_factory=lambda: [0.0, 0.25, 0.5, 0.75, 1.0], min_length=1, max_length=MOST_VALUES
    )
    dimensions: list[Count] | None = Field(
        None,
        min_length=1,
        max_length=MOST_VALUES,
        description="Absent means all, the transform's own, and those of 256, 128 and 64 that fit.",
    )


_PAIRS: list[JsonValue] = [
    {"a": "A man plays.", "b": "A person plays.", "score": 4.6},
    {"a": "A man plays.", "b": "It rains.", "score": 0.2},
    {"a": "It rains.", "b": "It pours.", "score": 4.1},
    {"a": "A cat sleeps.", "b": "A kitten naps.", "score": 4.4},
    {"a": "A cat sleeps.", "b": "Shares fell.", "score": 0.0},
    {"a": "Shares fell.", "b": "The market dropped.", "score": 4.0},
    {"a": "The market dropped.", "b": "A kitten naps.", "score": 0.1},
    {"a": "She reads a book.", "b": "She reads.", "score": 3.9},
    {"a": "She reads a book.", "b": "He reads a paper.", "score": 2.5},
    {"a": "She reads.", "b": "It pours.", "score": 0.3},
]


class TuneRequest(WireModel):
    """Choose β, γ and dimensions on labelled pairs."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"pairs": _PAIRS},
                {
                    "pairs": _PAIRS,
                    "grid": {"beta": [0, 1], "gamma": [0, 0.5], "dimensions": [128]},
                    "folds": 2,
                    "seed": 7,
                },
            ]
        }
    )

    pairs: list[Pair] = Field(
        min_length=FEWEST_PAIRS,
        description="Labelled pairs; `a` and `b` are texts, or row numbers where `vectors` come.",
    )
    vectors: GivenVectors = None
    grid: Grid = Field(default_factory=Grid)
    folds: Folds = Field(
        5,
        description="Parts of the pairs; each is scored by what the others chose.",
    )
    seed: Seed


class GeometryRequest(Source):
    """Ask how vectors lie in their space."""

    model_config = ConfigDict(
        json_schema_extra={
            **_EITHER,
            "examples": [
                {"texts": ["A cat sleeps.", "A dog barks.", "Rain falls.", "It snows."], "k": 2},
                {
                    "vectors": [[1.0, 0.1], [0.9, -0.2], [0.8, 0.3], [-0.1, 1.0]],
                    "reductions": ["whitening", "csls"],
                    "seed": 7,
                },
            ],
        }
    )

    pooling: PoolingName | None = Field(None, description="As for fitting.")
    transform: ModelName | None = Field(
        None, description="Transform to set beside; absent means one fitted on the spot."
    )
    k: Count | None = Field(
        None, description="Neighbours in a list; absent means 10, or all others where fewer."
    )
    reductions: list[ReductionName] = Field(
        default=["whitening", "csls", "mutual_proximity", "local_scaling"],
        description="What is set beside the raw vectors.",
    )
    seed: Seed
