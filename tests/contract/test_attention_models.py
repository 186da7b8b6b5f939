"""`/v1/attention/score` and `/v1/attention/compare`, on a tiny decoder of random weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings
from tests.contract.problems import expect_problem
from tests.support.decoder_reference import direct, reference_decoder
from tests.support.decoders import (
    FORMS,
    MAX_TOKENS,
    ROPE_BASE,
    SIZES,
    random_weights,
    write_decoder,
)

SCORE, COMPARE = "/v1/attention/score", "/v1/attention/compare"
TEXT = "The cat sat on the mat; größe."
LONG = "to be or not to be, " * 10


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


def post(client: TestClient, path: str, body: dict[str, Any]) -> Any:
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def expected_nll(text: str, name: str) -> np.ndarray[Any, Any]:
    """Return the negative log-likelihoods by plain numpy."""
    ids = list(text.encode())
    width = FORMS[name].rope_dim or SIZES.head_dim
    logits, _ = reference_decoder(
        ids,
        weights=random_weights(SIZES, FORMS[name]),
        sizes=SIZES,
        form=FORMS[name],
        positions=direct(width, base=ROPE_BASE),
    )
    log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return -log_probs[np.arange(len(ids) - 1), ids[1:]]


class TestScore:
    @pytest.mark.parametrize("name", sorted(FORMS))
    def test_likelihoods_are_those_of_the_reference(self, attention: TestClient, name: str) -> None:
        reply = post(attention, SCORE, {"text": TEXT, "variant": name})
        nll = expected_nll(TEXT, name)
        (found,) = reply["results"]
        assert found["nll"][0] is None
        np.testing.assert_allclose(found["nll"][1:], nll, atol=1e-4)
        count = len(TEXT.encode())
        assert (reply["count"], reply["predicted"]) == (count, count - 1)
        assert reply["perplexity"] == pytest.approx(np.exp(nll.mean()), rel=1e-4)
        # an id is a byte, and all but the first are predicted
        bits = nll.sum() / np.log(2) / (count - 1)
        assert reply["bits_per_byte"] == pytest.approx(bits, rel=1e-4)
        assert (reply["model"], reply["variant"]) == ("tiny-decoder", name)

    def test_several_texts_are_each_scored_alone(self, attention: TestClient) -> None:
        together = post(attention, SCORE, {"texts": [TEXT, "abc", TEXT]})
        alone = [post(attention, SCORE, {"text": text})["results"][0] for text in (TEXT, "abc")]
        assert together["results"] == [alone[0], alone[1], alone[0]]
        nll = np.concatenate([result["nll"][1:] for result in together["results"]])
        assert together["predicted"] == len(nll)
        assert together["mean_nll"] == pytest.approx(nll.mean())

    def test_ids_are_read_as_they_are(self, attention: TestClient) -> None:
        by_text = post(attention, SCORE, {"text": TEXT, "return": ["nll", "ids"]})
        by_ids = post(attention, SCORE, {"ids": by_text["results"][0]["ids"]})
        assert by_ids["results"][0]["nll"] == by_text["results"][0]["nll"]

    def test_what_is_asked_for_is_given(self, attention: TestClient) -> None:
        body = {"text": "aö", "return": ["entropy", "tokens"]}
        (found,) = post(attention, SCORE, body)["results"]
        assert found["tokens"] == ["a", "\ufffd", "\ufffd"]
        assert found["nll"] is None
        assert found["ids"] is None
        assert found["entropy"][0] is None
        assert all(0 < each <= np.log(256) + 1e-6 for each in found["entropy"][1:])

    @pytest.mark.parametrize(
        ("rope", "used"),
        [
            ("ntk_mixed", {"factor": len(LONG) / MAX_TOKENS, "mixing": 0.625, "window": None}),
            ({"name": "pi", "factor": 8}, {"factor": 8, "mixing": None, "window": None}),
            ("rerope", {"factor": None, "mixing": None, "window": 64}),
            (
                {"name": "leaky_rerope", "window": 100, "factor": 4.0},
                {"factor": 4, "mixing": None, "window": 100},
            ),
        ],
    )
    def test_a_scheme_that_reaches_reads_a_long_text(
        self, attention: TestClient, rope: Any, used: dict[str, Any]
    ) -> None:
        (found,) = post(attention, SCORE, {"text": LONG, "rope": rope})["results"]
        assert found["count"] == len(LONG)
        assert {name: found["rope"][name] for name in used} == used

    def test_a_long_text_is_run_where_that_is_asked(self, attention: TestClient) -> None:
        run = post(attention, SCORE, {"text": LONG, "beyond_context": "run"})
        assert run["count"] == len(LONG) > MAX_TOKENS
        assert run["results"][0]["rope"]["name"] == "direct"

    @pytest.mark.parametrize(
        ("scale", "used"),
        [
            ("log_n_dagger", {"name": "log_n_dagger", "length": MAX_TOKENS, "value": None}),
            ("log_n", {"name": "log_n", "length": 512, "value": None}),
            ({"name": "log_n", "length": 16}, {"name": "log_n", "length": 16, "value": None}),
            (0.5, {"name": "value", "length": None, "value": 0.5}),
            ("sqrt", {"name": "sqrt", "length": None, "value": None}),
        ],
    )
    def test_scales(self, attention: TestClient, scale: Any, used: dict[str, Any]) -> None:
        plain = post(attention, SCORE, {"text": TEXT})
        (found,) = post(attention, SCORE, {"text": TEXT, "scale": scale})["results"]
        assert found["scale"] == used
        same = scale in {"sqrt", "log_n_dagger"} if isinstance(scale, str) else False
        assert (found["nll"] == plain["results"][0]["nll"]) is same

    def test_the_same_request_gets_the_same_bytes(self, attention: TestClient) -> None:
        body = {"text": LONG, "rope": "rerope", "return": ["nll", "entropy"]}
        answers = {attention.post(SCORE, json=body).content for _ in range(3)}
        assert len(answers) == 1

    def test_progress_comes_first(self, attention: TestClient) -> None:
        headers = {"Accept": "text/event-stream"}
        answer = attention.post(SCORE, json={"texts": [TEXT, "abc"]}, headers=headers)
        events = [block.split("\n") for block in answer.text.strip().split("\n\n")]
        total = len(TEXT.encode()) + 3
        last = json.loads(events[-2][1].removeprefix("data: "))
        assert last == {"stage": "tokens", "done": total, "total": total}
        result = json.loads(events[-1][1].removeprefix("data: "))
        assert result == post(attention, SCORE, {"texts": [TEXT, "abc"]})


class TestCompare:
    def test_variants_stand_in_the_order_asked(self, attention: TestClient) -> None:
        names = ["mla", "gqa", "mha", "mqa"]
        reply = post(attention, COMPARE, {"text": TEXT, "variants": names})
        assert [each["variant"] for each in reply["variants"]] == names
        for each in reply["variants"]:
            nll = expected_nll(TEXT, each["variant"])
            assert each["perplexity"] == pytest.approx(np.exp(nll.mean()), rel=1e-4)
            assert each["seconds"] > 0
            assert len(each["entropy_by_layer"]) == SIZES.layers
        first, *others = reply["variants"]
        assert (first["kl"], first["top1_agreement"]) == (0, 1)
        assert all(each["kl"] > 0 for each in others)

    def test_cache_bytes_are_those_of_the_arrays(self, attention: TestClient) -> None:
        names = ["gqa", "mha", "mqa", "mla", "mla_absorbed", "mla_rebuilt"]
        reply = post(attention, COMPARE, {"text": TEXT, "variants": names})
        found = {each["variant"]: each["cache_bytes_per_token"] for each in reply["variants"]}
        floats = {"gqa": 2 * 2 * 8, "mha": 2 * 4 * 8, "mqa": 2 * 8, "mla_rebuilt": 16}
        floats |= dict.fromkeys(("mla", "mla_absorbed"), 8 + 4)
        assert found == {name: 4 * SIZES.layers * floats[name] for name in names}

    def test_divergence_is_that_of_the_reference(self, attention: TestClient) -> None:
        body = {"text": TEXT, "variants": ["gqa", "mqa"], "return": ["kl", "nll", "tokens"]}
        reply = post(attention, COMPARE, body)
        rows = []
        for name in ("gqa", "mqa"):
            logits, entropy = reference_decoder(
                list(TEXT.encode()),
                weights=random_weights(SIZES, FORMS[name]),
                sizes=SIZES,
                form=FORMS[name],
                positions=direct(SIZES.head_dim, base=ROPE_BASE),
            )
            rows.append((logits - np.log(np.exp(logits).sum(1, keepdims=True)))[:-1])
        p, q = rows
        kl = (np.exp(p) * (p - q)).sum(axis=1)
        second = reply["variants"][1]
        assert second["kl_by_token"][0] is None
        np.testing.assert_allclose(second["kl_by_token"][1:], kl, atol=2e-4)
        assert second["kl"] == pytest.approx(kl.mean(), abs=1e-4)
        agreement = (p.argmax(axis=1) == q.argmax(axis=1)).mean()
        assert second["top1_agreement"] == pytest.approx(agreement)
        np.testing.assert_allclose(second["entropy_by_layer"], entropy.mean(axis=(1, 2)), atol=1e-4)
        assert len(second["nll_by_token"]) == len(reply["tokens"]) == reply["count"]

    def test_an_absorbed_form_computes_the_same(self, attention: TestClient) -> None:
        reply = post(attention, COMPARE, {"text": TEXT, "variants": ["mla", "mla_absorbed"]})
        plain, absorbed = reply["variants"]
        assert absorbed["kl"] < 1e-6
        assert absorbed["top1_agreement"] == 1
        assert absorbed["perplexity"] == pytest.approx(plain["perplexity"], rel=1e-4)

    def test_one_variant_under_several_schemes(self, attention: TestClient) -> None:
        variants = ["gqa", {"variant": "gqa", "rope": "leaky_rerope"}, {"rope": "pi", "scale": 2}]
        reply = post(
            attention, COMPARE, {"text": LONG, "variants": variants, "beyond_context": "run"}
        )
        names = [(each["variant"], each["rope"]["name"]) for each in reply["variants"]]
        assert names == [("gqa", "direct"), ("gqa", "leaky_rerope"), ("gqa", "pi")]
        assert reply["variants"][2]["scale"]["value"] == 2

    def test_a_text_of_several_runs(self, attention: TestClient) -> None:
        # 513 tokens: the last run has one row, which predicts nothing
        text = "x" * 513
        body = {"text": text, "variants": ["mha", "gqa"], "beyond_context": "run", "return": ["kl"]}
        reply = post(attention, COMPARE, body)
        assert (reply["count"], reply["predicted"]) == (513, 512)
        assert len(reply["variants"][1]["kl_by_token"]) == 513

    @pytest.mark.parametrize(
        ("kind", "begins"), [("image/png", b"\x89PNG"), ("image/svg+xml", b"<?xml")]
    )
    def test_a_picture(self, attention: TestClient, kind: str, begins: bytes) -> None:
        body = {"text": TEXT, "variants": ["gqa", {"variant": "mla", "rope": "ntk"}]}
        answers = [attention.post(COMPARE, json=body, headers={"Accept": kind}) for _ in range(2)]
        assert answers[0].headers["content-type"] == kind
        assert answers[0].content.startswith(begins)
        assert answers[0].content == answers[1].content
        if kind == "image/svg+xml":
            assert b"cache, KiB a token" in answers[0].content


VARIANTS = ["gqa", "mha"]
REFUSED: list[tuple[str, dict[str, Any], int, str, str, str]] = [
    (SCORE, {}, 422, "invalid_input", "none came", ""),
    (SCORE, {"text": "ab", "ids": [1, 2]}, 422, "invalid_input", "text and ids came", "/text"),
    (SCORE, {"text": ""}, 422, "invalid_input", "/text", "/text"),
    (SCORE, {"text": "a"}, 422, "empty_input", "at least two", "/text"),
    (SCORE, {"texts": ["ab", "a"]}, 422, "empty_input", "/texts/1", "/texts/1"),
    (SCORE, {"texts": []}, 422, "invalid_input", "/texts", "/texts"),
    (SCORE, {"ids": [1, 256]}, 422, "invalid_input", "256", "/ids/1"),
    (SCORE, {"ids": [1, -1]}, 422, "invalid_input", "/ids/1", "/ids/1"),
    (SCORE, {"text": LONG}, 422, "sequence_too_long", "200 tokens", "/text"),
    (
        SCORE, {"text": LONG, "rope": {"name": "ntk", "factor": 1.5}}, 422,
        "sequence_too_long", "ntk reaches 192", "/text",
    ),
    (SCORE, {"text": "x" * 8193}, 413, "too_many_items", "8192", "/text"),
    (SCORE, {"text": "x" * 600_000}, 413, "too_many_items", "600000 characters", "/text"),
    (SCORE, {"text": "ab", "variant": "mla-9"}, 409, "variant_not_available_for_model",
     "It has: gqa", "/variant"),
    (SCORE, {"text": "ab", "model": "nope"}, 404, "unknown_model", "tiny-decoder", ""),
    (SCORE, {"text": "ab", "model": "multilingual-e5-small"}, 503, "model_not_ready",
     "isotrope models build", ""),
    (SCORE, {"text": "ab", "rope": "spiral"}, 422, "invalid_input", "/rope/name", "/rope/name"),
    (SCORE, {"text": "ab", "rope": {"name": "pi", "factor": 0.5}}, 422, "invalid_input",
     "0.5", "/rope/factor"),
    (SCORE, {"text": "ab", "rope": {"name": "pi", "window": 5}}, 422, "invalid_input",
     "'pi' does not read window", "/rope/window"),
    (SCORE, {"text": "ab", "scale": 0}, 422, "invalid_input", "/scale/value", "/scale/value"),
    (SCORE, {"text": "ab", "scale": {"length": 9}}, 422, "invalid_input", "log_n",
     "/scale/length"),
    (SCORE, {"text": "ab", "scale": {"name": "log_n", "value": 2}}, 422, "invalid_input",
     "one will do", "/scale"),
    (SCORE, {"text": "ab", "return": ["all"]}, 422, "invalid_input", "/return/0", "/return/0"),
    (SCORE, {"text": "ab", "temperature": 1}, 422, "invalid_input", "temperature",
     "/temperature"),
    (COMPARE, {"text": "ab", "variants": ["gqa"]}, 422, "invalid_input", "/variants",
     "/variants"),
    (COMPARE, {"text": "ab", "variants": ["gqa"] * 7}, 422, "invalid_input", "/variants",
     "/variants"),
    (COMPARE, {"text": "ab", "variants": ["gqa", "mla-9"]}, 409,
     "variant_not_available_for_model", "mla-9", "/variants/1/variant"),
    (COMPARE, {"text": "x" * 1025, "variants": VARIANTS}, 413, "too_many_items", "1024", "/text"),
    (COMPARE, {"text": LONG, "variants": VARIANTS}, 422, "sequence_too_long", "128", "/text"),
    (COMPARE, {"text": "a", "variants": VARIANTS}, 422, "empty_input", "at least two", "/text"),
    (COMPARE, {"text": "ab", "variants": ["gqa", {"rope": {"name": "none", "factor": 2}}]}, 422,
     "invalid_input", "does not read factor", "/variants/1/rope/factor"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "body", "status", "code", "part", "pointer"),
    [pytest.param(*case, id=f"{number}") for number, case in enumerate(REFUSED)],
)
def test_refusals(
    attention: TestClient,
    *,
    path: str,
    body: dict[str, Any],
    status: int,
    code: str,
    part: str,
    pointer: str,
) -> None:
    problem = expect_problem(attention.post(path, json=body), status, code, part)
    pointers = [each["pointer"] for each in problem["errors"]]  # type: ignore[attr-defined]
    assert pointer == "" or pointer in pointers


def test_a_language_model_is_no_encoder(attention: TestClient) -> None:
    answer = attention.post("/v1/embeddings", json={"input": "a", "model": "tiny-decoder"})
    expect_problem(answer, 404, "unknown_model", "'tiny-decoder' is a language model")


def test_the_card_says_what_the_family_has(attention: TestClient) -> None:
    post(attention, SCORE, {"text": TEXT})
    card = attention.get("/v1/models/tiny-decoder").json()
    assert (card["kind"], card["loaded"], card["provider"]) == ("decoder", True, "cpu")
    assert (card["max_tokens"], card["dimensions"]) == (MAX_TOKENS, 0)
    variants = {each["name"]: each for each in card["decoder"]["variants"]}
    assert list(variants) == list(FORMS)
    assert variants["mla"]["cache_elements"] == 12
    assert variants["gqa"]["windowed"] is True
    assert "file" not in variants["gqa"]
    assert card["decoder"]["serving"] is False
    listed = {each["id"]: each for each in attention.get("/v1/models").json()["data"]}
    assert listed["tiny-decoder"] == card
    providers = attention.get("/v1/info").json()["providers"]
    assert {"model": "tiny-decoder", "used": "cpu", "wished": "cpu", "as_wished": True} in providers
