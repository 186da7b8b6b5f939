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
    "add_set_reviews": "POST /v1/opinions/sets/{set_id}/reviews",
    "analyze_geometry": "POST /v1/analysis/geometry",
    "analyze_text": "POST /v1/tokenization/analyze",
    "apply_transform": "POST /v1/whitening/transforms/{transform_id}/apply",
    "cluster_corpus": "POST /v1/geodesic/corpora/{corpus_id}/clusters",
    "compare_variants": "POST /v1/attention/compare",
    "continue_text": "POST /v1/tokenization/continue",
    "count_cache": "POST /v1/attention/cache-size",
    "create_chat_completion": "POST /v1/chat/completions",
    "create_completion": "POST /v1/completions",
    "create_corpus": "POST /v1/geodesic/corpora",
    "create_divergence": "POST /v1/distribution/divergence",
    "create_embeddings": "POST /v1/embeddings",
    "create_probabilities": "POST /v1/distribution/probabilities",
    "create_review_set": "POST /v1/opinions/sets",
    "create_sample": "POST /v1/distribution/sample",
    "create_similarity": "POST /v1/similarity",
    "decode_ids": "POST /v1/tokenization/decode",
    "delete_calibration": "DELETE /v1/analysis/calibrations/{calibration_id}",
    "delete_corpus": "DELETE /v1/geodesic/corpora/{corpus_id}",
    "delete_item": "DELETE /v1/geodesic/corpora/{corpus_id}/items/{item_id}",
    "delete_review_set": "DELETE /v1/opinions/sets/{set_id}",
    "delete_tokenizer": "DELETE /v1/tokenization/tokenizers/{tokenizer_id}",
    "delete_transform": "DELETE /v1/whitening/transforms/{transform_id}",
    "describe_model": "GET /v2/models/{model}",
    "describe_server": "GET /v2",
    "encode_texts": "POST /v1/tokenization/encode",
    "export_transform": "GET /v1/whitening/transforms/{transform_id}/onnx",
    "find_path": "POST /v1/geodesic/corpora/{corpus_id}/path",
    "fit_density": "POST /v1/analysis/density",
    "fit_transform": "POST /v1/whitening/transforms",
    "generate_over_contexts": "POST /v1/attention/nbce",
    "generate_text": "POST /v1/attention/generate",
    "get_calibration": "GET /v1/analysis/calibrations/{calibration_id}",
    "get_corpus": "GET /v1/geodesic/corpora/{corpus_id}",
    "get_info": "GET /v1/info",
    "get_model": "GET /v1/models/{model_id}",
    "get_review_set": "GET /v1/opinions/sets/{set_id}",
    "get_transform": "GET /v1/whitening/transforms/{transform_id}",
    "infer": "POST /v2/models/{model}/infer",
    "list_calibrations": "GET /v1/analysis/calibrations",
    "list_corpora": "GET /v1/geodesic/corpora",
    "list_models": "GET /v1/models",
    "list_review_sets": "GET /v1/opinions/sets",
    "list_tokenizers": "GET /v1/tokenization/tokenizers",
    "list_transforms": "GET /v1/whitening/transforms",
    "list_variants": "GET /v1/attention/variants",
    "livez": "GET /livez",
    "map_corpus": "GET /v1/geodesic/corpora/{corpus_id}/map",
    "measure_concentration": "POST /v1/analysis/concentration",
    "measure_pairwise": "POST /v1/geodesic/pairwise",
    "merge_contexts": "POST /v1/distribution/merge-contexts",
    "metrics": "GET /metrics",
    "model_ready": "GET /v2/models/{model}/ready",
    "probe_attention": "POST /v1/attention/probe",
    "put_items": "POST /v1/geodesic/corpora/{corpus_id}/items",
    "query_corpus": "POST /v1/geodesic/corpora/{corpus_id}/query",
    "read_percentiles": "POST /v1/analysis/calibrations/{calibration_id}/percentiles",
    "readyz": "GET /readyz",
    "remove_set_review": "DELETE /v1/opinions/sets/{set_id}/reviews/{review_id}",
    "run_layer": "POST /v1/attention/layer",
    "sample_segmentations": "POST /v1/tokenization/sample",
    "score_texts": "POST /v1/attention/score",
    "server_live": "GET /v2/health/live",
    "server_ready": "GET /v2/health/ready",
    "startupz": "GET /startupz",
    "summarize_opinions": "POST /v1/opinions/summarize",
    "summarize_review_set": "POST /v1/opinions/sets/{set_id}/summarize",
    "tune_transform": "POST /v1/whitening/transforms/{transform_id}/tune",
    "update_transform": "POST /v1/whitening/transforms/{transform_id}/update",
    "upload_tokenizer": "POST /v1/tokenization/tokenizers",
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


def example_of(schema: str) -> dict[str, Any]:
    """Return the first example of a request body, a copy."""
    return dict(DOCUMENT["components"]["schemas"][schema]["examples"][0])


@pytest.fixture(scope="module")
def existing(client: TestClient) -> dict[str, str]:
    """Return what the examples of paths with a parameter work on, made by an example too."""
    made = {"model": "all-MiniLM-L6-v2"}
    for parameter, path, schema in (
        ("transform_id", "/v1/whitening/transforms", "FitRequest"),
        ("corpus_id", "/v1/geodesic/corpora", "CorpusRequest"),
        ("set_id", "/v1/opinions/sets", "CreateSetRequest"),
        ("calibration_id", "/v1/analysis/density", "DensityRequest"),
    ):
        answer = client.post(path, json=example_of(schema) | {"name": "of-the-document"})
        assert answer.status_code == 201, answer.text
        reply = answer.json()
        made[parameter] = reply.get("id") or reply["calibration"]["id"]
    return made


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
        if name in {"create_embeddings", "create_similarity"}:
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
        assert good
        for answer in good:
            for kind, content in answer.get("content", {}).items():
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
        content = operation.get("requestBody", {}).get("content", {})
        if "application/json" not in content:
            return
        body = resolved(content["application/json"]["schema"])
        assert body["additionalProperties"] is False
        assert len(body["examples"]) >= 2
        method, path = where.split()
        good = {int(status) for status in operation["responses"] if status[0] == "2"}
        for example in body["examples"]:
            answer = client.request(method, path.format(**existing), json=example)
            assert answer.status_code in good, answer.text


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
