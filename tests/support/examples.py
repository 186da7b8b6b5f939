"""Make every request of the OpenAPI document: its own examples, on things that exist."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

Document = Mapping[str, Any]
Send = Callable[..., Any]
# Made by an example of their own; what the answer calls the thing is what paths call it.
_STORED = (
    ("transform_id", "/v1/whitening/transforms", "FitRequest"),
    ("corpus_id", "/v1/geodesic/corpora", "CorpusRequest"),
    ("set_id", "/v1/opinions/sets", "CreateSetRequest"),
    ("calibration_id", "/v1/analysis/density", "DensityRequest"),
)
_MODEL = "all-MiniLM-L6-v2"


@dataclass(frozen=True, slots=True)
class Operation:
    """Hold one operation of the document.

    Attributes:
        method: in capitals.
        path: with its parameters in braces.
        name: its operationId.
        tag: its room.
        details: everything else.
        schema: name of its JSON body's schema, or None.
        examples: bodies that work.
    """

    method: str
    path: str
    name: str
    tag: str
    details: Mapping[str, Any]
    schema: str | None
    examples: tuple[Mapping[str, Any], ...]


def operations(document: Document) -> Iterator[Operation]:
    """Yield every operation; those that delete come last, inner things first."""
    found = []
    for path, methods in document["paths"].items():
        for method, details in methods.items():
            content = details.get("requestBody", {}).get("content", {})
            reference = content.get("application/json", {}).get("schema", {}).get("$ref")
            schema = reference.rpartition("/")[2] if reference else None
            body = document["components"]["schemas"][schema] if schema else {}
            found.append(
                Operation(
                    method.upper(),
                    path,
                    details["operationId"],
                    details["tags"][0],
                    details,
                    schema,
                    tuple(body.get("examples", ())),
                )
            )
    return iter(sorted(found, key=lambda each: (each.method == "DELETE", -each.path.count("/"))))


def send(url: str) -> Send:
    """Return what sends a body to a path of a service and returns the parsed answer."""

    def post(path: str, **body: Any) -> Any:
        answer = httpx.post(url + path, timeout=120, **body)
        assert answer.is_success, answer.text
        return answer.json()

    return post


def make_stored(document: Document, post: Send, tokenizer: Path) -> dict[str, str]:
    """Make what paths with parameters work on, and return each parameter's value.

    Args:
        document: the OpenAPI document.
        post: as of `send`.
        tokenizer: a SentencePiece model to upload.
    """
    schemas = document["components"]["schemas"]
    made = {"model": _MODEL, "model_id": _MODEL}
    for parameter, path, schema in _STORED:
        reply = post(path, json={**schemas[schema]["examples"][0], "name": "of-the-document"})
        made[parameter] = reply.get("id") or reply["calibration"]["id"]
    made["item_id"] = schemas["CorpusRequest"]["examples"][0]["items"][0]["id"]
    made["review_id"] = "r1"
    reviews = [{"id": "r1", "text": "The room was clean."}]
    post(f"/v1/opinions/sets/{made['set_id']}/reviews", json={"reviews": reviews})
    with tokenizer.open("rb") as file:
        name = {"name": "of-the-document"}
        uploaded = post("/v1/tokenization/tokenizers", data=name, files={"file": file})
    made["tokenizer_id"] = uploaded["id"]
    return made
