"""Define the bodies of `/v1/completions` and `/v1/chat/completions`."""

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
    Stops,
    StopText,
    TokenId,
    Top,
    as_list,
)
from service.capabilities.generation.schemas import GenerationUsage
from service.web.readings import GivenBeyond, GivenRope, GivenScale
from service.web.wire import Seed, WireModel

_Warm = Annotated[float, Field(ge=0, le=2)]
_Ids = Annotated[list[TokenId], Field(min_length=1)]
_Text = Annotated[str, Field(min_length=1)]
GivenPrompt = Annotated[
    _Text | Annotated[list[_Text], Field(min_length=1)] | _Ids
    | Annotated[list[_Ids], Field(min_length=1)],
    Field(description="One text or several, as text or as the model's own ids."),
]  # fmt: skip
GivenStop = Annotated[
    Stops | None, BeforeValidator(as_list, json_schema_input_type=StopText | Stops | None)
]


class StreamOptions(WireModel):
    """Say what a stream holds besides its texts."""

    include_usage: bool = Field(False, description="Whether the last chunk counts the tokens.")


class _OpenAIRequest(WireModel):
    """Hold the fields of both routes: OpenAI's, and those that this service adds."""

    model: GivenModel = None
    max_tokens: Count | None = Field(
        None, description="Tokens of a text. Absent or null: 256, or fewer where they do not fit."
    )
    temperature: _Warm | None = Field(1.0, description="0 takes the likeliest token.")
    top_p: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="Keep the likeliest tokens whose probability reaches this share."
    )
    n: Count | None = Field(
        1, description="Texts for each prompt, each with random numbers of its own."
    )
    stop: GivenStop = Field(None, description="Texts that end a text; they are not part of it.")
    presence_penalty: Penalty | None = Field(
        0.0, description="Taken off the logits of tokens that were generated."
    )
    frequency_penalty: Penalty | None = Field(0.0, description="Taken off as often as they were.")
    logit_bias: LogitBias | None = Field(
        None, description="Added to the logit of an id, which is written as a text."
    )
    seed: Seed
    stream: bool | None = Field(False, description="Whether to send chunks as they come.")
    stream_options: StreamOptions | None = Field(None, description="Of a stream.")
    user: str | None = Field(None, description="Ignored.")
    top_k: Count | None = Field(None, description="Ours: keep so many of the likeliest tokens.")
    min_p: Least | None = Field(
        None, description="Ours: keep tokens so many times as probable as the likeliest."
    )
    probability_map: GivenMap = "softmax"
    variant: GivenVariant = None
    rope: GivenRope
    scale: GivenScale
    beyond_context: GivenBeyond


class CompletionRequest(_OpenAIRequest):
    """Ask for the continuation of texts."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"prompt": "The cat sat on", "max_tokens": 12, "temperature": 0},
                {
                    "prompt": ["To be, or not", "All that glitters"],
                    "max_tokens": 8,
                    "n": 2,
                    "seed": 7,
                    "logprobs": 2,
                },
            ]
        }
    )

    prompt: GivenPrompt
    heal_prefix: bool = Field(
        False, description="Ours: whether the end of a prompt may be written in other tokens."
    )
    echo: bool | None = Field(False, description="Whether a text begins with its prompt.")
    logprobs: Top | None = Field(
        None, description="How many of the likeliest tokens to give with each token."
    )


class TextPart(WireModel):
    """Hold one part of a message."""

    type: Literal["text"]
    text: str = Field(description="What is said.")


class OpenAIMessage(WireModel):
    """Hold one turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant"] = Field(
        description="Who speaks; `developer` is read as `system`."
    )
    content: str | Annotated[list[TextPart], Field(min_length=1)] = Field(
        description="What is said; parts are joined."
    )
    name: str | None = Field(None, description="Ignored.")


class ChatRequest(_OpenAIRequest):
    """Ask for the next turn of a conversation."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "messages": [{"role": "user", "content": "What is gravity?"}],
                    "max_tokens": 16,
                    "temperature": 0,
                },
                {
                    "messages": [
                        {"role": "system", "content": "Answer in one word."},
                        {"role": "user", "content": [{"type": "text", "text": "2 + 2?"}]},
                    ],
                    "max_completion_tokens": 4,
                    "logprobs": True,
                    "top_logprobs": 2,
                    "seed": 7,
                },
            ]
        }
    )

    messages: Annotated[list[OpenAIMessage], Field(min_length=1)] = Field(
        description="The conversation so far."
    )
    max_completion_tokens: Count | None = Field(
        None, description="The newer name of `max_tokens`; one of them."
    )
    logprobs: bool | None = Field(False, description="Whether to give log probabilities.")
    top_logprobs: Top | None = Field(
        None, description="How many of the likeliest tokens to give with each token."
    )


class CompletionLogProbs(BaseModel):
    """Hold log probabilities of one text, a list entry a token."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]] | None
    text_offset: list[int] = Field(description="Characters of the text before each token.")


class CompletionChoice(BaseModel):
    """Hold one text."""

    index: int = Field(description="Prompt by prompt, `n` each.")
    text: str
    finish_reason: Literal["stop", "length"] | None
    logprobs: CompletionLogProbs | None


class CompletionReply(BaseModel):
    """Hold the texts of all prompts."""

    id: str = Field(description="Follows from the request: the same one gets the same id.")
    object: Literal["text_completion"]
    created: int = Field(description="Always 0: an answer depends on its request alone.")
    model: str
    system_fingerprint: str = Field(description="First digits of the model's SHA-256.")
    seed: int
    choices: list[CompletionChoice]
    usage: GenerationUsage


class ChatAlternative(BaseModel):
    """Hold a token that might have come."""

    token: str
    logprob: float
    bytes: list[int] | None


class ChatTokenLogProb(ChatAlternative):
    """Hold a token with those that might have come in its place."""

    top_logprobs: list[ChatAlternative]


class ChatLogProbs(BaseModel):
    """Hold log probabilities of one turn."""

    content: list[ChatTokenLogProb]
    refusal: None = None


class ChatTurn(BaseModel):
    """Hold what the model said."""

    role: Literal["assistant"]
    content: str
    refusal: None = None


class ChatChoice(BaseModel):
    """Hold one turn."""

    index: int
    message: ChatTurn
    finish_reason: Literal["stop", "length"] | None
    logprobs: ChatLogProbs | None


class ChatReply(BaseModel):
    """Hold `n` next turns."""

    id: str = Field(description="Follows from the request: the same one gets the same id.")
    object: Literal["chat.completion"]
    created: int = Field(description="Always 0: an answer depends on its request alone.")
    model: str
    system_fingerprint: str = Field(description="First digits of the model's SHA-256.")
    seed: int
    choices: list[ChatChoice]
    usage: GenerationUsage
