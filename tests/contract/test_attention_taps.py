"""Layers of a language model through `/v1/attention/layer`, on a tiny decoder of random weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings
from tests.contract.problems import expect_problem
from tests.support.decoders import MAX_TOKENS, SIZES, write_decoder

LAYER, TEXT = "/v1/attention/layer", "The cat sat on the mat."


@pytest.fixture(scope="module")
def attention(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """Return a client of an application whose only model is the tiny decoder."""
    folder = tmp_path_factory.mktemp("models")
    write_decoder(folder)
    settings = Settings(
        models_dir=folder,
        preload_models=(),
        default_decoder="tiny-decoder",
        access_log=False,
        log_level="error",
    )
    with TestClient(create_app(settings), raise_server_exceptions=False) as opened:
        yield opened


def post(client: TestClient, body: dict[str, Any], path: str = LAYER) -> dict[str, Any]:
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_tapped_layer_has_the_entropies_of_the_model(attention: TestClient) -> None:
    compared = post(attention, {"text": TEXT, "variants": ["gqa", "mha"]}, "/v1/attention/compare")
    whole = compared["variants"][0]["entropy_by_layer"]
    assert len(whole) == SIZES.layers
    for layer, expected in enumerate(whole):
        found = post(attention, {"layer": layer, "text": TEXT, "causal": True})
        assert np.mean(found["entropy_by_head"]) == pytest.approx(expected, abs=1e-4)
        assert found["model"] == "tiny-decoder"
        assert found["rope"]["name"] == "direct"
        assert (found["q_heads"], found["kv_heads"], found["tokens"]) == (4, 2, len(TEXT))


def test_variants_of_a_tapped_layer(attention: TestClient) -> None:
    body = {"model": "tiny-decoder", "layer": 1, "text": TEXT, "causal": True}
    native, mla, mqa = (post(attention, body | {"variant": name}) for name in ("gqa", "mla", "mqa"))
    np.testing.assert_allclose(mla["output"], native["output"], atol=1e-4)
    assert mqa["lossy"]
    other = post(attention, body | {"rope": {"name": "direct", "layout": "interleaved"}})
    assert other["output"] != native["output"]


def test_families_are_listed(attention: TestClient) -> None:
    models = attention.get("/v1/attention/variants").json()["models"]
    model = next(each for each in models if each["model"] == "tiny-decoder")
    assert model["default_variant"] == "gqa"
    assert {row["name"] for row in model["variants"]} >= {"gqa", "mha", "mqa", "mla"}


@pytest.mark.parametrize(
    ("body", "status", "code", "part"),
    [
        ({"layer": 2, "text": TEXT}, 422, "invalid_input", "has no layer 2"),
        ({"layer": 0, "text": "a"}, 422, "empty_input", "send at least two"),
        ({"layer": 0}, 422, "invalid_input", "layer came"),
        ({"layer": 0, "text": "a" * (MAX_TOKENS + 1)}, 422, "sequence_too_long", "was trained to"),
        ({"layer": 0, "text": "a" * 5000}, 413, "too_many_items", "4096"),
        ({"layer": 0, "text": TEXT, "model": "none"}, 404, "unknown_model", "none"),
        (
            {"q": [[[1]]], "k": [[[1]]], "v": [[[1]]], "model": "tiny-decoder"},
            422,
            "invalid_input",
            "model names where",
        ),
    ],
)
def test_what_cannot_be_tapped(
    attention: TestClient, body: dict[str, Any], status: int, code: str, part: str
) -> None:
    expect_problem(attention.post(LAYER, json=body), status, code, part)
