"""Define the requests of this room."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    WithJsonSchema,
)

from service.web.wire import Seed, WireModel, whole

Method: TypeAlias = Literal[
    "sample",
    "sample_without_replacement",
    "nbest",
    "uniform",
    "viterbi_sampling_v1",
    "bpe_dropout",
]
SeedScope: TypeAlias = Literal["index", "content"]
Format: TypeAlias = Literal["lists", "flat"]
EncodeField: TypeAlias = Literal[
    "ids", "pieces", "offsets", "byte_offsets", "normalized", "log_prob", "log_partition"
]
SampleField: TypeAlias = Literal[
    "ids",
    "pieces",
    "offsets",
    "byte_offsets",
    "log_prob",
    "inclusion_log_prob",
    "log_partition",
    "entropy",
    "expected_tokens",
]
MOST_ALPHA = 100.0
MOST_SAMPLES = 1024
_LARGEST_ID = 2**31 - 1

TokenizerName = Annotated[str, Field(min_length=1, max_length=300)]
Texts = Annotated[list[str], Field(min_length=1, description="Texts, each on its own.")]
_Alpha = Annotated[float, Field(ge=0, le=MOST_ALPHA, allow_inf_nan=False)]
_Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


def _float(value: object) -> object:
    """Return 1.0 for 1: in JSON both are one number."""
    return float(value) if type(value) is int and abs(value) < 2**53 else value


Alpha = Annotated[_Alpha, BeforeValidator(_float, json_schema_input_type=_Alpha)]
Share = Annotated[_Share, BeforeValidator(_float, json_schema_input_type=_Share)]


_Samples = Annotated[int, Field(ge=1, le=MOST_SAMPLES)]
_NBest = Annotated[int, Field(ge=0, le=MOST_SAMPLES)]
_TopK = Annotated[int, Field(ge=1, le=10_000)]
Samples = Annotated[_Samples, BeforeValidator(whole, json_schema_input_type=_Samples)]
NBest = Annotated[_NBest, BeforeValidator(whole, json_schema_input_type=_NBest)]
TopK = Annotated[_TopK, BeforeValidator(whole, json_schema_input_type=_TopK)]


def _read_ids(value: object) -> list[list[int]]:
    """Return lists of ids, from one list or several."""
    if not isinstance(value, list) or not value:
        raise ValueError("must be a list of ids, or a list of such lists; at least one")
    rows = value if all(isinstance(row, list) for row in value) else [value]
    return [_id_row(row) for row in rows]


def _id_row(row: list[Any]) -> list[int]:
    numbers = [whole(each) for each in row]
    for number in numbers:
        if type(number) is not int or not 0 <= number <= _LARGEST_ID:
            raise ValueError(f"{number!r:.40} is no id; ids are whole numbers of at least 0")
    return numbers  # type: ignore[return-value]


_ID: dict[str, Any] = {"type": "integer", "minimum": 0, "maximum": _LARGEST_ID}
Ids = Annotated[
    Any,
    PlainValidator(_read_ids),
    WithJsonSchema(
        {
            "description": "Ids of one text, or of several.",
            "anyOf": [
                {"type": "array", "minItems": 1, "items": _ID},
                {"type": "array", "minItems": 1, "items": {"type": "array", "items": _ID}},
            ],
        }
    ),
]


def _read_segmentation(value: object) -> list[str] | list[int]:
    if isinstance(value, list) and value and all(type(each) is str for each in value):
        return value
    if isinstance(value, list) and value:
        return _id_row(value)
    raise ValueError("must be a list of pieces, or a list of ids; at least one")


Segmentation = Annotated[
    Any,
    PlainValidator(_read_segmentation),
    WithJsonSchema(
        {
            "description": "Pieces or ids of one segmentation of the text.",
            "anyOf": [
                {"type": "array", "minItems": 1, "items": {"type": "string"}},
                {"type": "array", "minItems": 1, "items": _ID},
            ],
        }
    ),
]


def _read_backoff(value: object) -> str | int:
    number = whole(value)
    if value == "auto" or (type(number) is int and 0 <= number <= 64):  # noqa: PLR2004 - in the schema
        return number  # type: ignore[return-value]
    raise ValueError("must be `auto` or a whole number from 0 to 64")


Backoff = Annotated[
    Any,
    PlainValidator(_read_backoff),
    WithJsonSchema(
        {
            "description": "Pieces taken back from the end; `auto` takes back what may change.",
            "anyOf": [
                {"type": "string", "enum": ["auto"]},
                {"type": "integer", "minimum": 0, "maximum": 64},
            ],
        }
    ),
]


class EncodeRequest(WireModel):
    """Ask for the best segmentation of each text."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"texts": ["New York 很大。"]},
                {"texts": ["unbelievable"], "return": ["pieces", "offsets"]},
            ]
        }
    )

    texts: Texts
    tokenizer: TokenizerName | None = Field(None, description="Absent means the default one.")
    return_: tuple[EncodeField, ...] | None = Field(
        None,
        alias="return",
        description="What each result holds; absent means ids and pieces.",
        strict=False,
    )


class DecodeRequest(WireModel):
    """Ask for the text of ids."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"ids": [[1234, 567]]}, {"ids": [1234, 567, 890]}]}
    )

    ids: Ids
    tokenizer: TokenizerName | None = Field(None, description="Absent means the default one.")


class SampleRequest(WireModel):
    """Ask for segmentations drawn at random, or for the best ones."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"texts": ["unbelievable"], "alpha": 0.3, "num_samples": 4, "seed": 7},
                {"texts": ["unbelievable"], "method": "nbest", "num_samples": 3},
            ]
        }
    )

    texts: Texts
    tokenizer: TokenizerName | None = Field(None, description="Absent means the default one.")
    method: Method = "sample"
    alpha: Alpha | None = Field(
        None,
        description="Exponent on the probability of a path: 1 (default) is the model's own law, 0 "
        "uniform, large values the best path.",
    )
    dropout: Share | None = Field(
        None, description="Probability of passing over a merge; `bpe_dropout` only, default 0.1."
    )
    num_samples: Samples = 1
    seed: Seed
    seed_scope: SeedScope = Field(
        "index",
        description="What a text's stream hangs on: its place in `texts`, or its content.",
    )
    return_: tuple[SampleField, ...] | None = Field(
        None,
        alias="return",
        description="What results and samples hold; absent means ids, pieces and, where the method "
        "has a law, log_prob, log_partition and entropy.",
        strict=False,
    )
    format: Format = Field(
        "lists", description="`flat` sends all ids in one array; fit for large requests."
    )


class AnalyzeRequest(WireModel):
    """Ask for all that the lattice of a text says; give `text`, or `texts`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"text": "unbelievable", "alpha": 1.0, "nbest": 3},
                {"texts": ["unbelievable", "unthinkable"], "alpha": 0.3},
            ]
        }
    )

    text: str | None = Field(None, description="One text; its results stand beside `results` too.")
    texts: Texts | None = Field(None, description="Several texts.")
    tokenizer: TokenizerName | None = Field(None, description="Absent means the default one.")
    alpha: Alpha | None = Field(None, description="Exponent of the law; default 1.")
    nbest: NBest = Field(5, description="Best paths to list.")
    segmentation: Segmentation | None = Field(
        None, description="Pieces or ids whose probability is wanted; with `text` only."
    )


class ContinueRequest(WireModel):
    """Ask what may follow where a text breaks off."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"text": "The unbeliev"},
                {"text": "import nump", "backoff": 1, "top_k": 5},
            ]
        }
    )

    text: str
    tokenizer: TokenizerName | None = Field(None, description="Absent means the default one.")
    backoff: Backoff = "auto"
    top_k: TopK = Field(20, description="Candidates to list.")
