"""Answer `/v2`: the Open Inference Protocol, as KServe's and Triton's clients speak it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Path, Request, Response
from starlette.types import Receive, Scope

from service import __version__
from service.capabilities.inference.pipeline import IDS, MASK, TEXT, InferencePipeline
from service.capabilities.inference.schemas import (
    InferReply,
    InferRequest,
    ModelDescription,
    ModelReady,
    ServerDescription,
    ServerLive,
    ServerReady,
)
from service.capabilities.inference.tensors import (
    BYTES,
    FP32,
    INT64,
    Tensor,
    read_tensor,
    split_body,
)
from service.errors import InvalidInput
from service.web.call import CurrentCall
from service.web.capability import CurrentLent, provide
from service.web.negotiation import JSON
from service.web.openapi import model_problems, problems
from service.web.routing import FastJsonRequest, ServiceRoute
from service.web.wire import json_response

BINARY = "application/octet-stream"
HEADER = "Inference-Header-Content-Length"
VERSION = "1"


class TensorRequest(FastJsonRequest):
    """Read the JSON part of a body; to the framework it is a request with a JSON body."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        headers = [(name, value) for name, value in scope["headers"] if name != b"content-type"]
        super().__init__(
            {**scope, "headers": [*headers, (b"content-type", JSON.encode())]}, receive
        )

    async def json(self) -> Any:  # noqa: ANN401 - the base class says so
        """Return the parsed JSON part; a length that is wrong is the handler's to refuse."""
        given = self.headers.get(HEADER, "")
        body = await self.body()
        return orjson.loads(body[: int(given)] if given.isdecimal() else body)


class InferRoute(ServiceRoute):
    """Handle a request whose JSON may be followed by raw tensors."""

    # Triton's client names no content type at all.
    kinds = (JSON, BINARY, "")
    request_class = TensorRequest


router = APIRouter(route_class=ServiceRoute)
tensors_router = APIRouter(route_class=InferRoute)
Pipeline = Annotated[InferencePipeline, Depends(provide(InferencePipeline))]
ModelName = Annotated[
    str, Path(description="An encoder, as in `/v1/models`.", examples=["all-MiniLM-L6-v2"])
]

_BINARY = {"content": {BINARY: {"schema": {"type": "string", "format": "binary"}}}}


@router.get("/v2", summary="Describe the server", response_model=ServerDescription)
async def describe_server() -> Response:
    """Return name, version and the protocol's extensions that are spoken."""
    return json_response(
        {"name": "isotrope", "version": __version__, "extensions": ["binary_tensor_data"]}
    )


@router.get("/v2/health/live", summary="Does the process live?", response_model=ServerLive)
async def server_live() -> Response:
    """Return `live`: true wherever this is answered."""
    return json_response({"live": True})


@router.get(
    "/v2/health/ready",
    summary="Did an inference just work?",
    response_model=ServerReady,
    responses=problems(503, 504),
)
async def server_ready(lent: CurrentLent) -> Response:
    """Run a real inference on the default encoder, unless one just worked."""
    await lent.engine.prove()
    return json_response({"ready": True})


@router.get(
    "/v2/models/{model}",
    summary="Describe a model's tensors",
    response_model=ModelDescription,
    responses=problems(404, 503, 504),
)
async def describe_model(model: ModelName, call: CurrentCall, pipeline: Pipeline) -> Response:
    """Return inputs and outputs. Send `text`, or `input_ids` with `attention_mask`."""
    manifest = (await pipeline.encoder(model, deadline=call.deadline)).manifest
    outputs = [f"{name}{raw}" for name in manifest.poolings for raw in ("", "_raw")]
    return json_response(
        {
            "name": manifest.id,
            "versions": [VERSION],
            "platform": "onnxruntime_onnx",
            "inputs": [
                {"name": TEXT, "datatype": BYTES, "shape": [-1]},
                {"name": IDS, "datatype": INT64, "shape": [-1, -1]},
                {"name": MASK, "datatype": INT64, "shape": [-1, -1]},
            ],
            "outputs": [
                {"name": name, "datatype": FP32, "shape": [-1, manifest.dimensions]}
                for name in outputs
            ],
        }
    )


@router.get(
    "/v2/models/{model}/ready",
    summary="Can a model answer?",
    response_model=ModelReady,
    responses=problems(404, 503, 504),
)
async def model_ready(model: ModelName, call: CurrentCall, pipeline: Pipeline) -> Response:
    """Load the model where it is not loaded, so that the next request finds it ready."""
    encoder = await pipeline.encoder(model, deadline=call.deadline)
    return json_response({"name": encoder.manifest.id, "ready": True})


@tensors_router.post(
    "/v2/models/{model}/infer",
    summary="Embed texts or token ids",
    response_model=InferReply,
    responses={200: _BINARY, **model_problems()},
    openapi_extra={"requestBody": _BINARY},
)
async def infer(
    model: ModelName,
    body: InferRequest,
    request: Request,
    call: CurrentCall,
    pipeline: Pipeline,
) -> Response:
    """Return a row an input: each output is a pooling, of unit length unless it ends in `_raw`.

    Raw tensors may follow the JSON, by the protocol's binary extension: the header
    `Inference-Header-Content-Length` then holds the bytes of the JSON.
    """
    binary = split_body(await request.body(), request.headers.get(HEADER))
    made = await pipeline.infer(
        model,
        _tensors(body, binary),
        outputs=[wish.name for wish in body.outputs or ()],
        deadline=call.deadline,
    )
    call.headers["X-Model-SHA256"] = made.encoder.sha256
    head = {"model_name": made.encoder.manifest.id, "model_version": VERSION, "id": body.id}
    as_binary = _binary_wishes(body)
    outputs = [
        (name, array, as_binary.get(name, as_binary[""])) for name, array in made.outputs.items()
    ]
    content, json_bytes = await pipeline.write(head, outputs)
    if json_bytes is None:
        return Response(content, media_type=JSON)
    return Response(content, media_type=BINARY, headers={HEADER: str(json_bytes)})


def _tensors(body: InferRequest, binary: memoryview) -> Sequence[Tensor]:
    tensors = []
    for number, given in enumerate(body.inputs):
        tensor, binary = read_tensor(given.model_dump(), binary, place=f"/inputs/{number}")
        tensors.append(tensor)
    if binary:
        raise InvalidInput(
            f"{len(binary)} bytes behind the JSON belong to no input; "
            "say `parameters.binary_data_size` for each binary input."
        )
    return tensors


def _binary_wishes(body: InferRequest) -> dict[str, bool]:
    """Return for each named output whether it is wished in binary; "" holds the default."""
    default = bool((body.parameters or {}).get("binary_data_output", False))
    named = {
        wish.name: bool((wish.parameters or {}).get("binary_data", default))
        for wish in body.outputs or ()
    }
    return {"": default, **named}


router.include_router(tensors_router)
