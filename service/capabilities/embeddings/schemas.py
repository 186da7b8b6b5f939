"""Define the bodies of this room."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    WithJsonSchema,
)

from service.web.wire import EncodingFormat, GivenVectors, WireModel, whole

PoolingName: TypeAlias = Literal["mean", "cls", "first_last", "embedding"]
TruncateSide: TypeAlias = Literal["error", "left", "right"]
_PAIR = 2
_NUMBERS = {int, float}  # by exact type: True is an int to isinstance


def _read_input(value: object) -> list[str] | list[list[int]]:
    """Return the inputs as a list, from any of the four forms that OpenAI's clients send."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list) or not value:
        raise ValueError("must be a text, a list of texts, a list of token ids, or a list of those")
    kinds = set(map(type, value))
    if kinds == {str}:
        return value
    if kinds <= _NUMBERS:
        return [_token_ids(value)]
    if kinds == {list}:
        return [_token_ids(ids) for ids in value]
    raise ValueError("all of its items must be texts, or all token ids, or all lists of token ids")


def _token_ids(ids: list[Any]) -> list[int]:
    kinds = set(map(type, ids))
    if float in kinds:
        ids = [whole(number) for number in ids]
        kinds = set(map(type, ids))
    if kinds != {int} or min(ids) < 0:
        raise ValueError("token ids must be whole numbers of at least 0, and at least one of them")
    return ids


_Positive = Annotated[int, Field(ge=1)]
Count = Annotated[_Positive, BeforeValidator(whole, json_schema_input_type=_Positive)]
ModelName = Annotated[str, Field(min_length=1)]
CalibrationId = Annotated[str, Field(min_length=1)]
TransformId = Annotated[str, Field(min_length=1)]
MetricName: TypeAlias = Literal["cosine", "csls", "mutual_proximity", "local_scaling"]

_IDS = {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0}}
Inputs = Annotated[
    Any,
    PlainValidator(_read_input),
    WithJsonSchema(
        {
            "description": "One text, several texts, or the same as token ids of the model.",
            "anyOf": [
                {"type": "string"},
                {"type": "array", "minItems": 1, "items": {"type": "string"}},
                _IDS,
                {"type": "array", "minItems": 1, "items": _IDS},
            ],
        }
    ),
]


class EmbeddingsRequest(WireModel):
    """Ask for one vector a text."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"input": "A man is playing a guitar."},
                {
                    "input": ["The cat sat on the mat.", "A feline rested on the rug."],
                    "dimensions": 128,
                    "encoding_format": "base64",
                },
            ]
        }
    )

    input: Inputs
    model: ModelName | None = Field(None, description="Encoder; absent means the default one.")
    dimensions: Count | None = Field(
        None, description="Keep the first so many numbers, at most the model's own."
    )
    encoding_format: EncodingFormat = Field(
        "float", description="`base64` is little-endian float32, half the bytes of `float`."
    )
    user: str | None = Field(None, description="Accepted for OpenAI's clients; not used.")
    pooling: PoolingName | None = Field(
        None, description="How positions become one vector; absent means the model's own way."
    )
    normalize: bool = Field(True, description="Whether vectors have length 1.")
    truncate: TruncateSide = Field(
        "right", description="Which end of a text that is too long is cut; `error` refuses it."
    )
    transform: TransformId | None = Field(
        None,
        description="Whitening that the vectors go through; it says model and pooling, and "
        "`dimensions` keeps its first so many.",
    )


class EmbeddingItem(BaseModel):
    """Hold one vector."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class Truncated(BaseModel):
    """Say what was cut off a text."""

    index: int
    dropped_tokens: int


class Usage(BaseModel):
    """Count the tokens of a request, special ones included."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsReply(BaseModel):
    """Hold the vectors, in the order of the inputs."""

    object: Literal["list"]
    data: list[EmbeddingItem]
    model: str
    model_sha256: str
    transform: str | None
    usage: Usage
    truncated: list[Truncated] = Field(description="Texts that did not fit, and by how much.")


def _pairs(value: list[list[str]]) -> list[list[str]]:
    for number, pair in enumerate(value):
        if len(pair) != _PAIR:
            raise ValueError(f"pair {number} has {len(pair)} texts; a pair has 2")
    return value


Pairs = Annotated[
    list[list[str]],
    AfterValidator(_pairs),
    WithJsonSchema(
        {
            "description": "Pairs of texts; one score each.",
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "array",
                "minItems": 2,
                "maxItems": 2,
                "items": {"type": "string"},
            },
        }
    ),
]


class SimilarityRequest(WireModel):
    """Ask how alike texts or vectors are; exactly one of pairs, texts and vectors."""

    matrix_field: ClassVar[str] = "vectors"

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [{"required": ["pairs"]}, {"required": ["texts"]}, {"required": ["vectors"]}],
            "examples": [
                {"pairs": [["A man plays a guitar.", "Someone makes music."]]},
                {"texts": ["A cat.", "A feline.", "A train."], "metric": "cosine"},
            ],
        }
    )

    pairs: Pairs = Field(default_factory=list, min_length=1)
    texts: list[str] = Field(
        default_factory=list, min_length=1, description="Texts; every one is compared with all."
    )
    vectors: GivenVectors = None
    metric: MetricName = Field(
        "cosine",
        description="How two vectors are compared. All but the cosine take all texts or vectors "
        "of the request for the neighbourhood, and so depend on them.",
    )
    k: Count | None = Field(
        None,
        description="Neighbours that `csls` and `local_scaling` look at; absent means 10, or all "
        "others where fewer.",
    )
    transform: TransformId | None = Field(
        None, description="Whitening that texts or vectors go through first."
    )
    calibration: CalibrationId | None = Field(
        None,
        description="Calibration of such scores, from `/v1/analysis/density`; the answer then says "
        "in which percentile each score lies.",
    )
    model: ModelName | None = Field(
        None,
        description="Encoder of the texts, or the one that the vectors came from; absent means the "
        "default one for texts and an unknown one for vectors.",
    )
    pooling: PoolingName | None = Field(
        None, description="As for embeddings; of vectors only beside `model` or `transform`."
    )
    truncate: TruncateSide = Field("right", description="As for embeddings.")


class SimilarityReply(BaseModel):
    """Hold one score a pair, or the full matrix."""

    scores: list[float] | list[list[float]]
    percentiles: list[float] | list[list[float]] | None = Field(
        description="0 to 100, under the calibration that was named."
    )
    calibration: str | None = Field(description="Which version was used.")
    metric: MetricName
    transform: str | None
    model: str | None = Field(description="Null where vectors came without a model.")
    model_sha256: str | None
    usage: Usage
