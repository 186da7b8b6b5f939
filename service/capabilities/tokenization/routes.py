"""Answer `/v1/tokenization`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

import orjson
from fastapi import APIRouter, Depends, File, Form, Path, Request, Response, UploadFile
from starlette.responses import StreamingResponse

from service.capabilities.tokenization.asking import encode_fields, read_wanted, sample_fields
from service.capabilities.tokenization.collection import Listed, Opened
from service.capabilities.tokenization.drawing import Wanted
from service.capabilities.tokenization.pictures import lattice_svg
from service.capabilities.tokenization.pipeline import Chunk, TokenizationPipeline
from service.capabilities.tokenization.replies import Reply
from service.capabilities.tokenization.reply_schemas import (
    AnalyzeReply,
    ContinueReply,
    DecodeReply,
    EncodeReply,
    SampleReply,
    TokenizerCard,
    TokenizerList,
)
from service.capabilities.tokenization.schemas import (
    AnalyzeRequest,
    ContinueRequest,
    DecodeRequest,
    EncodeRequest,
    SampleRequest,
)
from service.errors import Fault, InvalidInput
from service.numerics.dtypes import Progress
from service.runtime.engine import Engine
from service.stores.versions import Version
from service.web.call import Call, CurrentCall
from service.web.capability import CurrentLent, provide
from service.web.idempotency import GivenIdempotency
from service.web.negotiation import JSON, NDJSON, NPY, SVG, preferred
from service.web.openapi import model_problems
from service.web.routing import ServiceRoute, UploadRoute
from service.web.streaming import reply_with_progress
from service.web.wire import json_reply, json_response

router = APIRouter(route_class=ServiceRoute)
uploads = APIRouter(route_class=UploadRoute)
Pipeline = Annotated[TokenizationPipeline, Depends(provide(TokenizationPipeline))]
TokenizerId = Annotated[
    str, Path(max_length=300, description="As in the list; `name@version` for an uploaded one.")
]
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_LINES = {"schema": {"type": "string"}}
_TOKENIZERS = "/v1/tokenization/tokenizers"


@router.get(_TOKENIZERS, summary="Which tokenizers are there?", response_model=TokenizerList)
async def list_tokenizers(pipeline: Pipeline) -> Response:
    """Return every tokenizer: those of models, those in the models folder, the uploaded ones."""
    found = await pipeline.tokenizers.all()
    default = pipeline.settings.default_tokenizer
    return json_response({"tokenizers": [_summary(each, default) for each in found]})


@uploads.post(
    _TOKENIZERS,
    summary="Bring a tokenizer",
    status_code=201,
    response_model=TokenizerCard,
    responses=model_problems(409),
)
async def upload_tokenizer(
    file: Annotated[
        UploadFile,
        File(description="SentencePiece `.model`, `tokenizer.json`, or BytePiece `.model`."),
    ],
    name: Annotated[str, Form(min_length=1, max_length=200, description="Name of the versions.")],
    pipeline: Pipeline,
    idempotency: GivenIdempotency,
) -> Response:
    """Keep a tokenizer file as a new version of a name, after opening it once.

    What is cut short, malformed, too large or of another kind is refused and leaves nothing.
    """
    content = await file.read(pipeline.settings.max_upload_bytes + 1)
    version = await pipeline.tokenizers.add(name, content, idempotency)
    return json_response(_card(version), status=201)


@router.delete(
    f"{_TOKENIZERS}/{{tokenizer_id}}",
    summary="Delete an uploaded tokenizer",
    status_code=204,
    response_class=Response,
    responses=model_problems(409),
)
async def delete_tokenizer(tokenizer_id: TokenizerId, pipeline: Pipeline) -> Response:
    """Delete one version; its number is never given again."""
    await pipeline.tokenizers.delete(tokenizer_id)
    return Response(status_code=204)


@router.post(
    "/v1/tokenization/encode",
    summary="Find the best segmentation",
    response_model=EncodeReply,
    response_model_exclude_none=True,
    responses=model_problems(),
)
async def encode_texts(
    body: EncodeRequest, call: CurrentCall, pipeline: Pipeline, lent: CurrentLent
) -> Response:
    """Return the segmentation that the tokenizer's own library gives, id for id.

    No special pieces are put around a text.
    """
    opened, results, tokens = await pipeline.encode(body.tokenizer, body.texts, encode_fields(body))
    _note(call, opened)
    reply = _answered(opened) | {"results": results, "usage": _usage(body.texts, tokens)}
    return await json_reply(lent.engine, reply, numbers=4 * sum(map(len, body.texts)))


@router.post(
    "/v1/tokenization/decode",
    summary="Turn ids into text",
    response_model=DecodeReply,
    responses=model_problems(),
)
async def decode_ids(body: DecodeRequest, call: CurrentCall, pipeline: Pipeline) -> Response:
    """Return the text of ids: the normalised one that they were made from."""
    opened, texts = await pipeline.decode(body.tokenizer, body.ids)
    _note(call, opened)
    return json_response(_answered(opened) | {"texts": texts})


@router.post(
    "/v1/tokenization/sample",
    summary="Draw segmentations",
    response_model=SampleReply,
    response_model_exclude_none=True,
    responses={200: {"content": {NDJSON: _LINES, NPY: _BINARY}}, **model_problems()},
)
async def sample_segmentations(
    body: SampleRequest,
    request: Request,
    call: CurrentCall,
    pipeline: Pipeline,
    lent: CurrentLent,
) -> Response:
    """Draw from P(path)^alpha / Z exactly, or rank, or draw without replacement.

    A sample depends on seed, tokenizer, method, law, and on the text's place (or content) and the
    sample's number; not on what else is in the request. `Accept: application/x-ndjson` streams one
    line a sample; `application/x-npy` sends an (ids, 2) int32 array of path numbers and ids.
    """
    wanted, fields = read_wanted(body), sample_fields(body)
    opened = await pipeline.prepare_sampling(body.tokenizer, body.texts, wanted)
    _note(call, opened)
    call.headers["X-Seed"] = str(body.seed)
    kind = preferred(request, (JSON, NDJSON, NPY))
    if kind == NDJSON:
        call.allow_long_work()
        lines = _lines(pipeline, opened, body, wanted, fields)
        head = await anext(lines)  # what can be refused is refused before the first byte
        return StreamingResponse(_after(head, lines), media_type=NDJSON)

    async def work(progress: Progress) -> Response:
        chunks = [chunk async for chunk in pipeline.sample(opened, body.texts, wanted, progress)]
        if kind == NPY:
            return Response(await pipeline.table(chunks), media_type=NPY)
        return await _reply(
            pipeline,
            engine=lent.engine,
            opened=opened,
            body=body,
            wanted=wanted,
            fields=fields,
            chunks=chunks,
        )

    return await reply_with_progress(request, call, work)


@router.post(
    "/v1/tokenization/analyze",
    summary="Measure the lattice of a text",
    response_model=AnalyzeReply,
    response_model_exclude_none=True,
    responses={200: {"content": {SVG: _BINARY}}, **model_problems()},
)
async def analyze_text(
    body: AnalyzeRequest,
    request: Request,
    call: CurrentCall,
    pipeline: Pipeline,
    lent: CurrentLent,
) -> Response:
    """Return log Z, entropy, expected pieces, marginals, best paths and the chance of a given one.

    Give `text`, or `texts`. `Accept: image/svg+xml` draws the lattice of one short text.
    """
    texts = _texts_of(body)
    drawn = preferred(request, (JSON, SVG)) == SVG
    if drawn:
        pipeline.require_drawable(texts[0])
    opened, alpha, results = await pipeline.analyze(
        body.tokenizer,
        texts[:1] if drawn else texts,
        alpha=body.alpha,
        nbest=body.nbest,
        segmentation=body.segmentation,
    )
    _note(call, opened)
    if drawn:
        content = await lent.engine.compute(lattice_svg, results[0], alpha)
        return Response(content, media_type=SVG)
    reply = _answered(opened) | {"alpha": alpha, "results": results}
    if body.text is not None:
        reply |= results[0]
    return await json_reply(lent.engine, reply, numbers=20 * sum(map(len, texts)))


@router.post(
    "/v1/tokenization/continue",
    summary="Ask what may follow where a text breaks off",
    response_model=ContinueReply,
    responses=model_problems(),
)
async def continue_text(
    body: ContinueRequest, call: CurrentCall, pipeline: Pipeline, lent: CurrentLent
) -> Response:
    """Return the pieces that stay, the text taken back, and the chance of each piece after it.

    A prompt that ends inside a piece hides that piece from a language model. The chances are those
    of the lattice, exactly: of all rows of pieces that cover the rest, the last one reaching its
    end or crossing it.
    """
    opened, found = await pipeline.continue_(
        body.tokenizer, body.text, backoff=body.backoff, top_k=body.top_k
    )
    _note(call, opened)
    return await json_reply(lent.engine, _answered(opened) | found, numbers=len(body.text) + 30_000)


async def _reply(
    pipeline: TokenizationPipeline,
    *,
    engine: Engine,
    opened: Opened,
    body: SampleRequest,
    wanted: Wanted,
    fields: frozenset[str],
    chunks: list[Chunk],
) -> Response:
    tokens = sum(len(chunk.drawn.paths.ids) for chunk in chunks)
    reply = _answered(opened) | {"seed": body.seed, "method": body.method}
    reply["usage"] = _usage(body.texts, tokens)
    if body.format == "flat":
        reply["flat"] = await pipeline.flat(chunks, with_law="log_prob" in fields)
    else:
        reply["results"] = [
            head | {"samples": samples}
            for chunk in chunks
            for head, samples in await pipeline.lists(opened, chunk, fields, wanted.samples)
        ]
    return await json_reply(engine, reply, numbers=2 * tokens)


async def _lines(
    pipeline: TokenizationPipeline,
    opened: Opened,
    body: SampleRequest,
    wanted: Wanted,
    fields: frozenset[str],
) -> AsyncIterator[bytes]:
    """Yield one line a sample, many at once."""
    async for chunk in pipeline.sample(opened, body.texts, wanted, _silent):
        found = await pipeline.lists(opened, chunk, fields, wanted.samples)
        yield b"".join(
            orjson.dumps(
                {"text": chunk.first + place, "sample": number} | head | sample,
                option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE,
            )
            for place, (head, samples) in enumerate(found)
            for number, sample in enumerate(samples)
        )
        await asyncio.sleep(0)


async def _after(head: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield head
    async for lines in rest:
        yield lines


def _silent(_stage: str, _done: int, _total: int) -> None:
    """Report nothing: the lines themselves tell how far it is."""


def _texts_of(body: AnalyzeRequest) -> list[str]:
    if (body.text is None) == (body.texts is None):
        raise InvalidInput(
            "Give exactly one of text and texts.",
            faults=(Fault("/text", "exactly one of text and texts is needed"),),
        )
    if body.texts is not None and body.segmentation is not None:
        raise InvalidInput(
            "A segmentation belongs to one text: give `text` instead of `texts`.",
            faults=(Fault("/segmentation", "given beside texts"),),
        )
    return body.texts if body.text is None else [body.text]  # type: ignore[return-value]


def _note(call: Call, opened: Opened) -> None:
    call.headers["X-Model"] = opened.id
    call.headers["X-Model-SHA256"] = opened.sha256


def _answered(opened: Opened) -> Reply:
    return {"tokenizer": opened.id, "tokenizer_sha256": opened.sha256}


def _usage(texts: list[str], tokens: int) -> dict[str, int]:
    return {"bytes": sum(len(text.encode()) for text in texts), "tokens": tokens}


def _summary(listed: Listed, default: str) -> Reply:
    described = {name: listed.metadata.get(name) for name in ("kind", "family", "pieces")}
    return {
        "id": listed.id,
        "sha256": listed.sha256,
        "uploaded": listed.uploaded,
        "default": listed.id == default,
        **described,
    }


def _card(version: Version) -> Reply:
    metadata = version.metadata
    return {
        "id": version.id,
        "kind": metadata["kind"],
        "family": metadata["family"],
        "pieces": metadata["pieces"],
        "sha256": metadata["file_sha256"],
        "bytes": metadata["bytes"],
        "uploaded": True,
        "created": version.created,
    }


router.include_router(uploads)
