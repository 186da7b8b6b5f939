"""Define what the protocol's JSON looks like."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

_MOST_TENSORS = 8


class Described(BaseModel):
    """Take what the protocol knows, and nothing else: a misspelt field would be lost in silence."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class InputTensor(Described):
    """Hold one input: `text`, or `input_ids` with `attention_mask`."""

    name: Literal["text", "input_ids", "attention_mask"]
    shape: list[int] = Field(
        min_length=1, max_length=2, description="[n] or [n, 1] for texts, [n, length] for ids."
    )
    datatype: Literal["BYTES", "INT64"]
    parameters: dict[str, Any] | None = Field(
        None, description="`binary_data_size`: bytes of this tensor behind the JSON."
    )
    data: list[Any] | None = Field(None, description="The values in row order, flat or nested.")


class OutputWish(Described):
    """Name one output: a pooling of the model, or a pooling with `_raw` for its own length."""

    name: str
    parameters: dict[str, Any] | None = Field(
        None, description="`binary_data`: whether it comes behind the JSON."
    )


class InferRequest(Described):
    """Ask an encoder for vectors."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "1",
                    "inputs": [
                        {"name": "text", "shape": [2], "datatype": "BYTES", "data": ["a", "b"]}
                    ],
                },
                {
                    "inputs": [
                        {
                            "name": "input_ids",
                            "shape": [1, 3],
                            "datatype": "INT64",
                            "data": [101, 4937, 102],
                        },
                        {
                            "name": "attention_mask",
                            "shape": [1, 3],
                            "datatype": "INT64",
                            "data": [1, 1, 1],
                        },
                    ],
                    "outputs": [{"name": "cls"}],
                },
            ]
        }
    )

    id: str | None = Field(None, description="Repeated in the answer.")
    parameters: dict[str, Any] | None = Field(
        None, description="`binary_data_output`: whether all outputs come behind the JSON."
    )
    inputs: list[InputTensor] = Field(min_length=1, max_length=_MOST_TENSORS)
    outputs: list[OutputWish] | None = Field(
        None, max_length=_MOST_TENSORS, description="Absent asks for the model's own pooling."
    )


class OutputTensor(BaseModel):
    """Hold one output."""

    name: str
    shape: list[int]
    datatype: Literal["FP32"]
    parameters: dict[str, Any] | None = None
    data: list[float] | None = None


class InferReply(BaseModel):
    """Hold the vectors."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[OutputTensor]


class TensorDescription(BaseModel):
    """Describe one tensor of a model; -1 is a free side."""

    name: str
    datatype: str
    shape: list[int]


class ModelDescription(BaseModel):
    """Describe one model."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorDescription]
    outputs: list[TensorDescription]


class ServerDescription(BaseModel):
    """Describe this server."""

    name: str
    version: str
    extensions: list[str]


class ServerLive(BaseModel):
    """Say whether the process lives."""

    live: bool


class ServerReady(BaseModel):
    """Say whether an inference just worked."""

    ready: bool


class ModelReady(BaseModel):
    """Say whether a model can answer."""

    name: str
    ready: bool
