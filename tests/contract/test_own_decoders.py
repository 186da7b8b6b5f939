"""Adopted language models answer like the shipped ones, or say what they cannot do."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from scipy.special import log_softmax
from starlette.testclient import TestClient

from models import catalogue
from service.app import create_app
from service.settings import Settings
from tests.contract.problems import expect_problem
from tests.support.byte_pairs import trained_tokenizer
from tests.support.decoder_exports import write_decoder_export
from tests.support.decoder_reference import direct, reference_decoder
from tests.support.llama_files import GQA, ROPE_BASE, tiny_llama

SCORE, COMPARE = "/v1/attention/score", "/v1/attention/compare"
TEXT = "the order of the tests"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """Return a client of an application with a GGUF file and an export, both adopted."""
    place = tmp_path_factory.mktemp("own")
    sources = {
        "mine": tiny_llama().write(place / "mine.gguf"),
        "exported": write_decoder_export(place / "export"),
    }
    for name, source in sources.items():
        folder = place / "models" / name
        folder.mkdir(parents=True)
        catalogue.adopt(source, folder, model_id=name, progress=lambda _stage, _done, _all: None)
    settings = Settings(
        models_dir=place / "models",
        preload_models=(),
        default_decoder="mine",
        access_log=False,
        log_level="error",
    )
    with TestClient(create_app(settings), raise_server_exceptions=False) as opened:
        yield opened


def test_a_gguf_file_scores_as_its_numbers_say(own: TestClient) -> None:
    llama = tiny_llama()
    ids = trained_tokenizer().ids(TEXT)
    logits, _ = reference_decoder(
        ids, weights=llama.weights(), sizes=llama.sizes, form=GQA,
        positions=direct(16, base=ROPE_BASE),
    )  # fmt: skip
    nll = -log_softmax(logits, axis=1)[np.arange(len(ids) - 1), ids[1:]]
    answer = own.post(SCORE, json={"text": TEXT})
    assert answer.status_code == 200, answer.text
    np.testing.assert_allclose(answer.json()["results"][0]["nll"][1:], nll, atol=1e-3)


@pytest.mark.parametrize("variant", ["mha", "mla"])
def test_its_exact_variants_agree(variant: str, own: TestClient) -> None:
    native, other = (
        own.post(SCORE, json={"text": TEXT, "model": "mine", "variant": name}).json()["perplexity"]
        for name in ("gqa", variant)
    )
    assert other == pytest.approx(native, rel=1e-3)


def test_an_export_scores_and_refuses_other_positions(own: TestClient) -> None:
    answer = own.post(SCORE, json={"text": TEXT, "model": "exported"})
    assert answer.status_code == 200, answer.text
    for rope in ({"name": "pi", "factor": 2}, {"name": "rerope", "window": 8}):
        refused = own.post(SCORE, json={"text": TEXT, "model": "exported", "rope": rope})
        expect_problem(refused, 409, "variant_not_available_for_model")


def test_an_export_has_no_entropies_to_compare(own: TestClient) -> None:
    body = {"text": TEXT, "model": "exported", "variants": ["gqa", {"variant": "gqa"}]}
    refused = own.post(COMPARE, json=body)
    expect_problem(refused, 409, "variant_not_available_for_model")


@pytest.mark.parametrize("name", ["mine", "exported"])
def test_they_are_listed(name: str, own: TestClient) -> None:
    found = own.get(f"/v1/models/{name}").json()
    assert found["kind"] == "decoder"
    assert "gqa" in str(found)
