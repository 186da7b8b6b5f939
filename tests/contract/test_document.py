"""The OpenAPI document: complete, valid, stable, and true."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from openapi_spec_validator import validate
from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings

STORED = Path(__file__).parents[2] / "openapi" / "openapi.json"
# Generated clients name their functions after these: a change breaks somebody's code.
OPERATIONS = {
    "analyse_geometry": "POST /v1/analysis/geometry",
    "apply_transform": "POST /v1/whitening/transforms/{transform_id}/apply",
    "create_embeddings": "POST /v1/embeddings",
    "create_similarity": "POST /v1/similarity",
    "delete_transform": "DELETE /v1/whitening/transforms/{transform_id}",
    "export_transform": "GET /v1/whitening/transforms/{transform_id}/onnx",
    "fit_transform": "POST /v1/whitening/transforms",
    "get_info": "GET /v1/info",
    "get_model": "GET /v1/models/{model_id}",
    "get_transform": "GET /v1/whitening/transforms/{transform_id}",
    "list_models": "GET /v1/models",
    "list_transforms": "GET /v1/whitening/transforms",
    "livez": "GET /livez",
    "metrics": "GET /metrics",
    "readyz": "GET /readyz",
    "startupz": "GET /startupz",
    "tune_transform": "POST /v1/whitening/transforms/{transform_id}/tune",
    "update_transform": "POST /v1/whitening/transforms/{transform_id}/update",
}
PROBES = {"livez", "readyz", "startupz", "metrics"}
MODEL_ERRORS = {"401", "404", "413", "415", "422", "429", "500", "503", "504"}

DOCUMENT: dict[str, Any] = create_app(Settings(log_level="error", access_log=False)).openapi()


def operations() -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    found = schema
    if "$ref" in schema:
        found = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return found


def test_the_document_is_valid_openapi() -> None:
    assert DOCUMENT["openapi"].startswith("3.1")
    validate(DOCUMENT)


def test_the_stored_document_is_what_the_code_generates() -> None:
    fresh = orjson.dumps(DOCUMENT, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n"
    assert STORED.read_bytes() == fresh, "run `isotrope openapi -o openapi/openapi.json`"


def test_a_service_sends_the_same_document(client: TestClient) -> None:
    assert client.get("/openapi.json").json() == json.loads(orjson.dumps(DOCUMENT))


def test_operations_keep_their_names() -> None:
    found = [operation["operationId"] for _, operation in operations()]
    assert len(set(found)) == len(found)
    assert {operation["operationId"]: where for where, operation in operations()} == OPERATIONS


@pytest.fixture(scope="module")
def existing(client: TestClient) -> dict[str, str]:
    """Return what the examples of paths with a parameter work on, made by an example too."""
    fit = DOCUMENT["components"]["schemas"]["FitRequest"]["examples"][0]
    made = client.post("/v1/whitening/transforms", json=fit)
    assert made.status_code == 201, made.text
    return {"transform_id": made.json()["id"]}


@pytest.mark.parametrize(
    ("where", "operation"), [pytest.param(*found, id=found[0]) for found in operations()]
)
class TestOperation:
    def test_it_is_explained(self, where: str, operation: dict[str, Any]) -> None:
        assert len(operation["summary"]) > 5
        assert len(operation["description"]) > 20
        assert len(operation["tags"]) == 1
        assert operation["tags"][0] in {tag["name"] for tag in DOCUMENT["tags"]}

    def test_its_errors_are_problems(self, where: str, operation: dict[str, Any]) -> None:
        name = operation["operationId"]
        errors = {status for status in operation["responses"] if status[0] in "45"}
        expected = {"422", "500"} | (set() if name in PROBES else {"401"})
        if name.startswith("create_"):
            expected = MODEL_ERRORS
        assert errors >= expected
        for status in errors:
            answer = operation["responses"][status]
            assert answer["content"] == {
                "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
            }
            assert len(answer["description"]) > 10
        if "429" in errors:
            assert "Retry-After" in operation["responses"]["429"]["headers"]

    def test_its_good_answer_has_a_schema(self, where: str, operation: dict[str, Any]) -> None:
        good = [answer for status, answer in operation["responses"].items() if status[0] == "2"]
        assert len(good) == 1
        for kind, content in good[0].get("content", {}).items():
            assert content["schema"], kind
        names = {part.get("$ref", "") for part in operation["parameters"]}
        assert "#/components/parameters/RequestId" in names

    def test_its_body_has_examples_that_work(
        self,
        client: TestClient,
        existing: dict[str, str],
        where: str,
        operation: dict[str, Any],
    ) -> None:
        if "requestBody" not in operation:
            return
        body = resolved(operation["requestBody"]["content"]["application/json"]["schema"])
        assert body["additionalProperties"] is False
        assert len(body["examples"]) >= 2
        method, path = where.split()
        good = next(int(status) for status in operation["responses"] if status[0] == "2")
        for example in body["examples"]:
            answer = client.request(method, path.format(**existing), json=example)
            assert answer.status_code == good, answer.text


def test_schemas_hold_no_framework_error() -> None:
    names = set(DOCUMENT["components"]["schemas"])
    assert "Problem" in names
    assert not {"HTTPValidationError", "ValidationError"} & names


def test_every_field_of_a_request_is_described() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    for name in ("EmbeddingsRequest", "SimilarityRequest"):
        for field, schema in schemas[name]["properties"].items():
            assert schema.get("description"), f"{name}.{field}"


def test_keys_are_documented_as_optional() -> None:
    assert DOCUMENT["security"] == [{}, {"apiKey": []}]
    assert DOCUMENT["components"]["securitySchemes"]["apiKey"]["scheme"] == "bearer"
