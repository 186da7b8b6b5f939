"""Define the bodies of `/v1/attention/generate` and `/v1/attention/nbce`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from service.capabilities.generation.fields import (
    Count,
    GivenMap,
    GivenModel,
    GivenVariant,
    Least,
    LogitBias,
    Penalty,
    Share,
    Stops,
    StopText,
    Temperature,
    TokenId,
    Top,
    as_list,
)
from service.web.readings import GivenBeyond, GivenRope, GivenScale, RopeUsed, ScaleUsed
from service.web.wire import Seed, WireModel, leave_out_default

Text = Annotated[str, Field(min_length=1)]
GivenStops = Annotated[Stops, BeforeValidator(as_list, json_schema_input_type=StopText | Stops)]


class ChatMessage(WireModel):
    """Hold one turn of a conversation."""

    role: Literal["system", "user", "assistant"] = Field(description="Who speaks.")
    content: str = Field(description="What is said; marks of the template in it stay letters.")


class _Generating(WireModel):
    """Hold the fields of both routes."""

    model: GivenModel = None
    variant: GivenVariant = None
    rope: GivenRope
    scale: GivenScale
    beyond_context: GivenBeyond
    max_tokens: Count | None = Field(
        None,
        description="Tokens to generate. Absent or null: 256, or fewer where the context has less "
        "room.",
    )
    temperature: Temperature = Field(
        1.0, description="Logits are divided by it; 0 takes the likeliest token."
    )
    stop: GivenStops = Field(
        [], description="Texts that end the generation; they are not part of it."
    )
    seed: Seed
    top_log_probs: Top = Field(
        0, description="How many of the likeliest tokens to give with each token."
    )


class GenerateRequest(_Generating):
    """Ask for the continuation of a text or of a conversation; exactly one of them."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"text": "The cat sat on", "max_tokens": 12, "temperature": 0},
                {
                    "text": "To be, or not",
                    "max_tokens": 16,
                    "top_k": 40,
                    "probability_map": "exponential",
                    "heal_prefix": True,
                    "rope": {"name": "ntk_mixed", "factor": 2},
                    "stop": ["\n\n"],
                    "seed": 7,
                },
            ]
        }
    )

    text: Text | None = Field(
        None, json_schema_extra=leave_out_default, description="What is continued."
    )
    messages: Annotated[list[ChatMessage], Field(min_length=1)] | None = Field(
        None,
        json_schema_extra=leave_out_default,
        description="A conversation whose next turn is written, for a model that can chat.",
    )
    ids: Annotated[list[TokenId], Field(min_length=1)] | None = Field(
        None,
        json_schema_extra=leave_out_default,
        description="A text as the model's own ids, read as they are.",
    )
    heal_prefix: bool = Field(
        False,
        description="Whether the end of the text may be written in other tokens: a text that "
        "breaks off inside a word goes on as if it did not.",
    )
    top_k: Count | None = Field(None, description="Keep so many of the likeliest tokens.")
    top_p: Share | None = Field(
        None, description="Keep the likeliest tokens whose probability reaches this share."
    )
    min_p: Least | None = Field(
        None, description="Keep tokens at least so many times as probable as the likeliest."
    )
    probability_map: GivenMap = "softmax"
    presence_penalty: Penalty = Field(
        0.0, description="Taken off the logits of tokens that were generated."
    )
    frequency_penalty: Penalty = Field(0.0, description="Taken off as often as they were.")
    logit_bias: LogitBias = Field(
        {}, description="Added to the logit of an id, which is written as a text."
    )


class NbceRequest(_Generating):
    """Ask a question over contexts that are read apart and merged token by token."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "contexts": ["Ann: I live in Rome.", "Bob: I live in Oslo."],
                    "question": "Where does Bob live? Bob lives in",
                    "max_tokens": 8,
                    "temperature": 0,
                },
                {
                    "contexts": ["The sky is blue.", "Snow is white."],
                    "question": "Snow is",
                    "pooling": "mean",
                    "beta": 1,
                    "max_tokens": 8,
                    "seed": 1,
                },
            ]
        }
    )

    contexts: Annotated[list[Text], Field(min_length=1)] = Field(
        description="Texts, each read with the question and without the others."
    )
    question: Text = Field(description="What follows every context, and stands alone in one row.")
    separator: str = Field("\n\n", description="Between a context and the question.")
    form: Literal["text", "messages"] = Field(
        "text",
        description="`messages` puts each row into the turn of a user, for a model that can chat.",
    )
    beta: Annotated[float, Field(ge=-1, le=1e6)] = Field(
        0.25, description="How much the row without a context is subtracted; 0 ignores it."
    )
    eta: Annotated[float, Field(ge=0, le=1e6)] = Field(
        0.1, description="Nats by which the context of the token before is preferred."
    )
    top_p: Share = Field(0.95, description="Rows are cut to this nucleus before they are merged.")
    pooling: Literal["min_entropy", "mean", "max"] = Field(
        "min_entropy", description="How the rows of the contexts become one."
    )
    temperature: Temperature = Field(
        0.0, description="Of the merged distribution; 0 takes the likeliest token."
    )


class AlternativeReply(BaseModel):
    """Hold a token that might have come."""

    id: int
    token: str = Field(description="What it says; U+FFFD for a part of a character.")
    log_prob: float


class TokenReply(BaseModel):
    """Hold one generated token."""

    index: int = Field(description="Its place in the text, from 0.")
    id: int
    text: str = Field(
        description="Text that became certain with it: whole characters, without a stop text."
    )
    log_prob: float = Field(
        description="Nats that the model gives it, before temperature and truncation; of a merged "
        "distribution where contexts are merged."
    )
    top: list[AlternativeReply] | None = Field(description="Where `top_log_probs` asks for them.")


class MergedTokenReply(TokenReply):
    """Hold one token that was generated over several contexts."""

    context: int | None = Field(description="The one that it came from; null where pooled.")
    entropies: list[float] = Field(description="Of each context's nucleus, in nats.")


class GenerationUsage(BaseModel):
    """Count tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class _Generated(BaseModel):
    """Hold what both answers say."""

    model: str
    model_sha256: str
    variant: str
    lossy: bool = Field(description="Whether the variant changes what the weights compute.")
    graph: Literal["serving", "plain", "windowed"] = Field(
        description="`serving` rounds activations to 8 bits where its weights have 4; `plain` and "
        "`windowed` compute in float32."
    )
    rope: RopeUsed
    scale: ScaleUsed
    seed: int
    text: str
    finish_reason: Literal["stop", "length"] = Field(
        description="`stop`: the model or a stop text ended it; `length`: it has its tokens."
    )
    usage: GenerationUsage


class GenerateReply(_Generated):
    """Hold a generated text."""

    tokens: list[TokenReply]


class NbceReply(_Generated):
    """Hold a text that was generated over several contexts."""

    tokens: list[MergedTokenReply]
