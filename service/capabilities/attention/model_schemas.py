"""Define the bodies of the routes on whole models."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from service.web.readings import GivenBeyond, GivenRope, GivenScale, RopeUsed, ScaleUsed
from service.web.wire import WireModel, leave_out_default, whole

_MOST_VARIANTS = 6
_Id = Annotated[int, Field(ge=0, le=2**31 - 1)]
TokenId = Annotated[_Id, BeforeValidator(whole, json_schema_input_type=_Id)]
Text = Annotated[str, Field(min_length=1)]
GivenModel = Annotated[
    str | None, Field(description="Language model; absent or null means the default one.")
]
GivenVariant = Annotated[
    str | None, Field(description="Variant of it; absent or null means the model's default.")
]
ScorePart: TypeAlias = Literal["nll", "entropy", "tokens", "ids"]
ComparePart: TypeAlias = Literal["nll", "kl", "tokens"]


class ScoreRequest(WireModel):
    """Ask how likely a language model finds texts; exactly one of text, texts and ids."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"text": "The cat sat on the mat."},
                {
                    "texts": ["To be, or not to be", "Be to not or be, to"],
                    "variant": "mla",
                    "rope": {"name": "ntk_mixed", "factor": 2},
                    "scale": "log_n_dagger",
                    "return": ["nll", "entropy", "tokens"],
                },
            ]
        }
    )

    text: Text | None = Field(None, json_schema_extra=leave_out_default, description="One text.")
    texts: Annotated[list[Text], Field(min_length=1)] | None = Field(
        None, json_schema_extra=leave_out_default, description="Several, each by itself."
    )
    ids: Annotated[list[TokenId], Field(min_length=1)] | None = Field(
        None,
        json_schema_extra=leave_out_default,
        description="One text as the model's own ids, read as they are.",
    )
    model: GivenModel = None
    variant: GivenVariant = None
    rope: GivenRope
    scale: GivenScale
    beyond_context: GivenBeyond
    return_: list[ScorePart] = Field(
        ["nll"],
        alias="return",
        description="What to give of each token; sums are always there. `entropy` is that of the "
        "distribution that the token was predicted from.",
    )


class TextScoreReply(BaseModel):
    """Hold what one text got; lists have one entry a token, null where it has no likelihood."""

    count: int = Field(description="Tokens of the text.")
    predicted: int = Field(description="Tokens with a likelihood: all but the first.")
    mean_nll: float = Field(description="Nats a predicted token.")
    perplexity: float = Field(description="exp of it.")
    bits_per_byte: float | None = Field(description="Over the bytes of the predicted tokens.")
    nll: list[float | None] | None = Field(description="Nats; the first token has none.")
    entropy: list[float | None] | None = Field(description="Nats.")
    tokens: list[str] | None = Field(
        description="What each token says; U+FFFD for a part of a character."
    )
    ids: list[int] | None
    rope: RopeUsed
    scale: ScaleUsed


class ScoreReply(BaseModel):
    """Hold the scores of all texts, and the sum over their tokens."""

    model: str
    model_sha256: str
    variant: str
    lossy: bool = Field(description="Whether the variant changes what the weights compute.")
    count: int
    predicted: int
    mean_nll: float
    perplexity: float
    bits_per_byte: float | None
    results: list[TextScoreReply]


class CandidateRequest(WireModel):
    """Name a variant and how it reads positions."""

    variant: GivenVariant = None
    rope: GivenRope
    scale: GivenScale


def _by_name(value: object) -> object:
    return {"variant": value} if isinstance(value, str) else value


GivenCandidate = Annotated[
    CandidateRequest,
    BeforeValidator(_by_name, json_schema_input_type=Text | CandidateRequest),
]


class CompareRequest(WireModel):
    """Ask what variants of one model make of one text."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"text": "The cat sat on the mat.", "variants": ["gqa", "mha", "mqa", "mla"]},
                {
                    "text": "The cat sat on the mat.",
                    "variants": [
                        "gqa",
                        {"variant": "gqa", "rope": {"name": "ntk_mixed", "factor": 4}},
                        {"variant": "gqa", "rope": {"name": "pi", "factor": 4}},
                    ],
                    "return": ["kl"],
                },
            ]
        }
    )

    text: Text = Field(description="What every variant reads.")
    variants: Annotated[list[GivenCandidate], Field(min_length=2, max_length=_MOST_VARIANTS)] = (
        Field(
            description="Names, or names with position scheme and scale. The others are measured "
            "against the first."
        )
    )
    model: GivenModel = None
    beyond_context: GivenBeyond
    return_: list[ComparePart] = Field(
        [], alias="return", description="What to give of each token; sums are always there."
    )


class ComparedReply(BaseModel):
    """Hold what one variant made of the text."""

    variant: str
    formula: str
    lossy: bool
    rope: RopeUsed
    scale: ScaleUsed
    mean_nll: float
    perplexity: float
    bits_per_byte: float | None
    kl: float = Field(description="Mean over predicted tokens of KL(first ‖ this), nats.")
    top1_agreement: float = Field(
        description="Share of predicted tokens at which both find the same one likeliest."
    )
    cache_bytes_per_token: float = Field(description="Of the arrays that were held.")
    entropy_by_layer: list[float] = Field(
        description="Nats, mean over heads and rows of the attention weights before any "
        "normalisation other than softmax."
    )
    seconds: float = Field(description="In the model's runs.")
    nll_by_token: list[float | None] | None
    kl_by_token: list[float | None] | None


class CompareReply(BaseModel):
    """Hold the variants in the order asked."""

    model: str
    model_sha256: str
    count: int = Field(description="Tokens of the text.")
    predicted: int
    tokens: list[str] | None
    variants: list[ComparedReply]
