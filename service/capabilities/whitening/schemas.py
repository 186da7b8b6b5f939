"""Define the bodies of this room."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, model_validator

from service.web.wire import EncodingFormat, GivenVectors, Seed, WireModel, whole

PoolingName: TypeAlias = Literal["mean", "cls", "first_last", "embedding"]
TruncateSide: TypeAlias = Literal["error", "left", "right"]
ShrinkageName: TypeAlias = Literal["none", "oas", "ledoit_wolf"]
ReductionName: TypeAlias = Literal[
    "centering", "whitening", "csls", "mutual_proximity", "local_scaling"
]
FEWEST_PAIRS = 10
MOST_FOLDS = 20

_Positive = Annotated[int, Field(ge=1)]
Count = Annotated[_Positive, BeforeValidator(whole, json_schema_input_type=_Positive)]
_Index = Annotated[int, Field(ge=0)]
Row = Annotated[_Index, BeforeValidator(whole, json_schema_input_type=_Index)]
_Several = Annotated[int, Field(ge=2, le=MOST_FOLDS)]
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


class TextPair(WireModel):
    """Say how alike two texts are; only the order of the scores counts."""

    a: str
    b: str
    score: Score


class RowPair(WireModel):
    """Say how alike two rows of `vectors` are; only the order of the scores counts."""

    a: Row
    b: Row
    score: Score


# The bound stands inside: on the union it would be enforced and not documented.
TextPairs = Annotated[list[TextPair], Field(min_length=FEWEST_PAIRS)]
RowPairs = Annotated[list[RowPair], Field(min_length=FEWEST_PAIRS)]


class Grid(WireModel):
    """List what is tried; every β with every γ with every number of dimensions."""

    beta: list[Share] = Field(default_factory=lambda: [0.0, 0.5, 1.0], min_length=1)
    gamma: list[Share] = Field(default_factory=lambda: [0.0, 0.25, 0.5, 0.75, 1.0], min_length=1)
    dimensions: list[Count] | None = Field(
        None,
        min_length=1,
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

    pairs: TextPairs | RowPairs = Field(
        description="Labelled pairs; `a` and `b` are texts, or row numbers where `vectors` come.",
    )
    vectors: GivenVectors = None
    grid: Grid = Field(default_factory=Grid)
    folds: Folds = Field(
        5,
        description="Parts of the pairs; each is scored by what the others chose.",
    )
    seed: Seed

    @model_validator(mode="after")
    def _alike(self) -> TuneRequest:
        if isinstance(self.pairs[0], RowPair) != (self.vectors is not None):
            raise ValueError("pairs of texts need no vectors, and pairs of row numbers need them")
        return self


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


class SpectrumReply(BaseModel):
    """Sum up how the variance is spread over the axes."""

    largest: float
    smallest: float
    kept_share: float = Field(description="Share of the variance on the axes that are kept.")
    effective_rank: float = Field(description="exp of the entropy of the shares of variance.")
    isoscore: float = Field(description="1 where all axes vary alike, 0 on one line.")


class TransformCard(BaseModel):
    """Describe one version of a transform; it never changes."""

    id: str = Field(description="`name@version`, to be used as `transform`.")
    name: str
    version: int
    created: str
    beta: float
    gamma: float
    dimensions: int = Field(description="Axes that are kept.")
    input_dimensions: int = Field(description="Dimensions of the vectors that it takes.")
    shrinkage: ShrinkageName
    shrinkage_intensity: float = Field(description="How far the covariance was shrunk, 0 to 1.")
    samples: int
    floored_eigenvalues: int = Field(description="Axes of almost no variance, kept from growing.")
    spectrum: SpectrumReply
    model: str | None = Field(description="Null where vectors of unknown origin were given.")
    model_sha256: str | None
    pooling: str | None
    sha256: str = Field(description="Digest over everything that is stored.")


class SpectrumDetail(SpectrumReply):
    """Sum up a spectrum, and give it."""

    eigenvalues: list[float] = Field(description="Variance on each axis, falling.")


class TransformDetail(TransformCard):
    """Describe one version, its eigenvalues included."""

    spectrum: SpectrumDetail


class TransformList(BaseModel):
    """List transforms: the latest version of each name, or all versions of one."""

    transforms: list[TransformCard]


class ApplyReply(BaseModel):
    """Hold the transformed vectors, in the order of the input."""

    vectors: list[list[float] | str]
    transform: str
    dimensions: int
    model: str | None
    model_sha256: str | None


class CellReply(BaseModel):
    """Hold one setting and its rank correlation, -1 to 1."""

    beta: float
    gamma: float
    dimensions: int
    spearman: float


class TuneReply(BaseModel):
    """Say what a grid search found; correlations are Spearman's, -1 to 1."""

    baseline: float = Field(description="Of the raw vectors.")
    table: list[CellReply] = Field(description="Of each setting, on all pairs.")
    best: CellReply = Field(description="The largest of the table; the best of many is flattered.")
    held_out: float = Field(description="Of pairs ranked by a setting chosen without them.")
    gain: float = Field(description="held_out − baseline.")
    gain_interval: list[float] = Field(description="95 % of the gains when pairs are resampled.")
    verdict: Literal["gain", "no_gain"] = Field(
        description="`gain` where the whole interval is above 0."
    )
    id: str = Field(description="The new version with the best setting; the old one for `no_gain`.")
    pairs: int
    folds: int
    seed: int


class Hub(BaseModel):
    """Name a vector that is in many lists."""

    index: int
    occurrences: int


class HubnessReply(BaseModel):
    """Sum up how unevenly the places in lists of neighbours are shared."""

    skewness: float
    robin_hood: float = Field(description="Share of places that would have to change hands.")
    gini: float
    antihub_share: float = Field(description="Share of vectors in nobody's list.")
    hub_share: float = Field(description="Share of vectors in at least 2k lists.")
    max_occurrence: int
    centre_correlation: float | None = Field(
        description="Of occurrences with the cosine to the mean; null where either is constant."
    )
    hubs: list[Hub]


class IsotropyReply(BaseModel):
    """Say how evenly the dimensions are used."""

    isoscore: float
    effective_rank: float
    mean_cosine: float


class GeometryReply(IsotropyReply):
    """Describe how vectors lie in their space; diagnostics, not measures of quality."""

    whitened: IsotropyReply | None = Field(
        description="The same after whitening; null where that was not asked for, or where it "
        "leaves one direction."
    )
    hubness: dict[str, HubnessReply] = Field(description="`raw`, and one for each reduction.")
    samples: int
    dimensions: int
    k: int
    hubness_samples: int = Field(description="Vectors drawn for hubness; all, up to a limit.")
    seed: int
    model: str | None
    model_sha256: str | None
