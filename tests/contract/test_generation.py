"""The generation room over HTTP, on tiny models of random weights."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import orjson
import pytest
from starlette.testclient import TestClient
from tokenizers import Tokenizer

from service.app import create_app
from service.numerics.attention.positions import RopeName, RopeScheme
from service.runtime.decoders.feeds import Reading
from service.runtime.decoders.forward import begin, forward
from service.settings import Settings
from tests.contract.problems import expect_problem
from tests.support.decoders import write_decoder
from tests.support.serving_graphs import write_chat_family, write_serving_family
from tests.unit.runtime.serving.test_steppers import decoder

G, N = "/v1/attention/generate", "/v1/attention/nbce"
C, H = "/v1/completions", "/v1/chat/completions"
STREAM = {"Accept": "text/event-stream"}
TEXT = "The cat sat on"
USER = [{"role": "user", "content": "hi"}]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_serving_family(folder)
    write_chat_family(folder)
    write_decoder(folder, names=("gqa", "mla"))
    return folder


@pytest.fixture(scope="module")
def environment() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SERVICE_GENERATION_CHAT_MODEL", "tiny-chat")
        patch.setenv("SERVICE_GENERATION_PROMPT_PIECE", "8")
        yield patch


def opened(models: Path) -> TestClient:
    settings = Settings(
        models_dir=models,
        preload_models=(),
        default_decoder="tiny-serving",
        rooms=("generation",),
        access_log=False,
        log_level="error",
    )
    return TestClient(create_app(settings), raise_server_exceptions=False)


@pytest.fixture(scope="module")
def room(models: Path, environment: pytest.MonkeyPatch) -> Iterator[TestClient]:
    with opened(models) as client:
        yield client


def post(client: TestClient, path: str, **body: object) -> dict[str, Any]:
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def ids_of(reply: dict[str, Any]) -> list[int]:
    return [token["id"] for token in reply["tokens"]]


def events_of(answer: httpx2.Response) -> list[tuple[str | None, Any]]:
    """Return name and data of every event."""
    found = []
    for block in answer.text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        data = fields["data"]
        found.append((fields.get("event"), data if data == "[DONE]" else orjson.loads(data)))
    return found


@pytest.mark.parametrize(
    ("variant", "rope", "reading"),
    [
        ("gqa", "direct", Reading()),
        ("mla", "direct", Reading()),
        (
            "gqa",
            {"name": "ntk_mixed", "factor": 2},
            Reading(RopeScheme(name=RopeName.NTK_MIXED, factor=2)),
        ),
        ("mla", {"name": "rerope", "window": 5}, None),
    ],
)
def test_it_writes_what_the_model_finds_likeliest(
    room: TestClient, models: Path, variant: str, rope: object, reading: Reading | None
) -> None:
    reply = post(
        room, G, text=TEXT, model="tiny-decoder", variant=variant, rope=rope,
        max_tokens=8, temperature=0, top_log_probs=2,
    )  # fmt: skip
    assert reply["graph"] == ("plain" if reading else "windowed")
    assert reply["usage"] == {"prompt_tokens": 14, "completion_tokens": 8, "total_tokens": 22}
    if reading is None:
        return
    found = decoder(models / "tiny-decoder", variant=variant)
    ids = list(TEXT.encode())
    for token in reply["tokens"]:
        row = forward(found, np.array([ids]), begin(found), reading).logits[0, -1]
        logs = row - np.log(np.exp(row - row.max()).sum()) - row.max()
        assert token["id"] == int(row.argmax())
        assert token["log_prob"] == pytest.approx(logs.max(), abs=1e-4)
        assert token["top"][0]["id"] == token["id"]
        assert token["top"][1]["log_prob"] == pytest.approx(np.sort(logs)[-2], abs=1e-4)
        ids.append(token["id"])


def test_the_same_request_gives_the_same_bytes_whatever_runs_beside_it(
    room: TestClient, models: Path
) -> None:
    bodies = [
        {"text": f"{TEXT} {number} " * (1 + number % 3), "max_tokens": 9 + number, "seed": number}
        for number in range(8)
    ]
    alone = [room.post(G, json=body).content for body in bodies]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda body: room.post(G, json=body).content, bodies * 3))
    assert together == alone * 3
    with opened(models) as replica:
        assert [replica.post(G, json=body).content for body in reversed(bodies)] == alone[::-1]
    assert len({ids for body in alone for ids in [str(ids_of(orjson.loads(body)))]}) == 8


def test_seeds_matter_and_are_repeated(room: TestClient) -> None:
    first = post(room, G, text=TEXT, max_tokens=12)
    again = post(room, G, text=TEXT, max_tokens=12, seed=first["seed"])
    assert again == first
    assert ids_of(post(room, G, text=TEXT, max_tokens=12, seed=1)) != ids_of(first)


def test_a_stream_says_what_the_body_says(room: TestClient) -> None:
    body = {"text": TEXT, "max_tokens": 9, "seed": 3, "top_log_probs": 1}
    plain = room.post(G, json=body).json()
    answer = room.post(G, json=body, headers=STREAM)
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = events_of(answer)
    assert [name for name, _ in events] == ["token"] * 9 + ["usage", "done"]
    assert [data for name, data in events if name == "token"] == plain["tokens"]
    assert events[-2][1] == plain["usage"]
    assert events[-1][1] == {
        name: value for name, value in plain.items() if name not in {"text", "tokens", "usage"}
    }
    assert "".join(token["text"] for token in plain["tokens"]) == plain["text"]


def test_a_stop_text_ends_it_and_is_not_part_of_it(room: TestClient) -> None:
    body = {"ids": [84, 104], "max_tokens": 60, "seed": 5}
    plain = post(room, G, **body)
    stop = plain["text"][10:13]
    reply = post(room, G, **body, stop=["never", stop])
    assert reply["finish_reason"] == "stop"
    assert reply["text"] == plain["text"].partition(stop)[0]
    assert len(reply["tokens"]) < 60
    assert post(room, G, **body, stop="☃") == plain
    held = post(room, G, **body, stop=plain["text"][-2:] + "☃")
    assert held["text"] == plain["text"]


def test_the_models_own_end_ends_it(room: TestClient) -> None:
    reply = post(room, G, text=TEXT, max_tokens=9, logit_bias={"0": 100})
    assert (reply["finish_reason"], reply["text"], ids_of(reply)) == ("stop", "", [0])


def test_what_is_kept_of_a_prompt_changes_nothing(room: TestClient) -> None:
    text = "A prompt of several pieces, as they are reused: "
    first = room.post(G, json={"text": text, "max_tokens": 5, "seed": 1})
    before = reused(room)
    assert room.post(G, json={"text": text, "max_tokens": 5, "seed": 1}).content == first.content
    assert reused(room) >= before + 40


def reused(room: TestClient) -> float:
    return value_of(room, "isotrope_reused_prompt_tokens")


def value_of(room: TestClient, name: str) -> float:
    lines = room.get("/metrics").text.splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))


class TestOpenAI:
    def test_choices_are_prompt_by_prompt_and_seeded_apart(self, room: TestClient) -> None:
        both = post(room, C, prompt=[TEXT, "abc"], n=2, max_tokens=5, seed=4, logprobs=1)
        one = post(room, C, prompt="abc", max_tokens=5, seed=4, logprobs=1)
        assert [choice["index"] for choice in both["choices"]] == [0, 1, 2, 3]
        assert both["choices"][2] == one["choices"][0] | {"index": 2}
        assert both["choices"][2]["text"] != both["choices"][3]["text"]
        assert both["usage"] == {"prompt_tokens": 17, "completion_tokens": 20, "total_tokens": 37}
        as_ids = post(room, C, prompt=[[97, 98, 99]], max_tokens=5, seed=4, logprobs=1)
        assert as_ids["choices"] == one["choices"]

    def test_generate_says_the_same(self, room: TestClient) -> None:
        own = post(room, G, text=TEXT, max_tokens=6, seed=2, top_log_probs=2)
        choice = post(room, C, prompt=TEXT, max_tokens=6, seed=2, logprobs=2)["choices"][0]
        assert choice["text"] == own["text"]
        logs = choice["logprobs"]
        assert logs["token_logprobs"] == [token["log_prob"] for token in own["tokens"]]
        assert len(logs["tokens"]) == len(logs["text_offset"]) == 6
        assert list(logs["top_logprobs"][0].values()) == [
            each["log_prob"] for each in own["tokens"][0]["top"]
        ]

    @pytest.mark.parametrize(
        ("path", "start"), [(C, {"prompt": TEXT, "echo": True}), (H, {"messages": USER})]
    )
    def test_chunks_make_up_the_answer(
        self, room: TestClient, path: str, start: dict[str, object]
    ) -> None:
        body = {**start, "max_tokens": 6, "seed": 2, "n": 2}
        plain = post(room, path, **body)
        answer = room.post(
            path, json={**body, "stream": True, "stream_options": {"include_usage": True}}
        )
        data = [data for _, data in events_of(answer)]
        assert data[-1] == "[DONE]"
        assert data[-2]["choices"] == []
        assert data[-2]["usage"] == plain["usage"]
        texts, reasons = {0: "", 1: ""}, {}
        for chunk in data[:-2]:
            assert chunk["id"] == plain["id"]
            assert chunk["usage"] is None
            (choice,) = chunk["choices"]
            piece = choice["text"] if path == C else choice["delta"].get("content", "")
            texts[choice["index"]] += piece
            reasons[choice["index"]] = choice["finish_reason"]
        for choice in plain["choices"]:
            text = choice["text"] if path == C else choice["message"]["content"]
            assert texts[choice["index"]] == text
            assert reasons[choice["index"]] == choice["finish_reason"]
        if path == C:
            assert texts[0].startswith(TEXT)

    def test_marks_in_what_a_user_says_are_letters(self, room: TestClient) -> None:
        body = {"max_tokens": 1, "temperature": 0}
        plain = post(room, H, messages=USER, **body)["usage"]["prompt_tokens"]
        mark = "<|im_end|>"
        marked = [{"role": "user", "content": f"hi{mark}"}]
        assert post(room, H, messages=marked, **body)["usage"]["prompt_tokens"] == plain + 10
        parts = [{"role": "user", "content": [{"type": "text", "text": "h"}] * 2}]
        assert post(room, H, messages=parts, **body)["usage"]["prompt_tokens"] == plain
        reply = post(room, G, messages=USER, **body)
        assert reply["usage"]["prompt_tokens"] == plain
        assert reply["model"] == "tiny-chat"

    def test_log_probabilities_of_a_turn(self, room: TestClient) -> None:
        body = {"messages": USER, "max_completion_tokens": 4, "seed": 9}
        choice = post(room, H, **body, logprobs=True, top_logprobs=3)["choices"][0]
        content = choice["logprobs"]["content"]
        assert len(content) == 4
        for each in content:
            assert len(each["top_logprobs"]) == 3
            assert bytes(each["bytes"]).decode("utf-8", "replace") == each["token"]
        assert post(room, H, **body)["choices"][0]["logprobs"] is None


class TestContexts:
    def test_one_context_alone_is_a_prompt(self, room: TestClient) -> None:
        merged = post(
            room, N, contexts=["Ann lives in Rome."], question="Where?", beta=0, top_p=1,
            pooling="max", max_tokens=8,
        )  # fmt: skip
        plain = post(room, G, text="Ann lives in Rome.\n\nWhere?", max_tokens=8, temperature=0)
        assert ids_of(merged) == ids_of(plain)
        for ours, theirs in zip(merged["tokens"], plain["tokens"], strict=True):
            assert ours["log_prob"] == pytest.approx(theirs["log_prob"], abs=1e-5)
            assert ours["context"] is None

    def test_contexts_together_may_exceed_the_window(self, room: TestClient) -> None:
        contexts = [letter * 90 for letter in "abcde"]
        body = {"contexts": contexts, "question": "Which?", "max_tokens": 6}
        reply = post(room, N, **body)
        assert reply["usage"]["prompt_tokens"] == 5 * (90 + 2 + 6) + 6
        for token in reply["tokens"]:
            assert token["context"] in range(5)
            assert len(token["entropies"]) == 5
        first = reply["tokens"][0]
        assert first["entropies"][first["context"]] == min(first["entropies"])
        streamed = events_of(room.post(N, json=body, headers=STREAM))
        assert [data for name, data in streamed if name == "token"] == reply["tokens"]
        assert post(room, N, **body, pooling="mean")["tokens"][0]["context"] is None

    def test_rows_may_be_turns(self, room: TestClient) -> None:
        reply = post(
            room, N, contexts=["a"], question="b", form="messages", max_tokens=2, seed=1,
            temperature=1,
        )  # fmt: skip
        assert reply["model"] == "tiny-chat"


BAD: dict[str, tuple[str, dict[str, object], int, str, str]] = {
    # name: path, body, status, code, part of the detail
    "nothing": (G, {}, 422, "invalid_input", "Exactly one of text, messages and ids"),
    "two": (G, {"text": "a", "ids": [1]}, 422, "invalid_input", "text and ids came"),
    "empty": (G, {"text": ""}, 422, "invalid_input", "at least 1 character"),
    "max_tokens 0": (G, {"text": "a", "max_tokens": 0}, 422, "invalid_input", "max_tokens"),
    "too long": (G, {"text": "a" * 128}, 422, "sequence_too_long", "has 129 tokens"),
    "no room": (G, {"text": "a", "max_tokens": 128}, 422, "sequence_too_long", "reaches 128"),
    "too much": (G, {"text": "a", "max_tokens": 5000}, 413, "too_many_items", "4096"),
    "too far": (
        G,
        {"text": "a" * 6000, "max_tokens": 4000, "rope": "ntk_mixed"},
        413, "too_many_items", "8192 are run at most",
    ),
    "endless text": (G, {"text": "a" * 600_000}, 422, "sequence_too_long", "600000 characters"),
    "unknown id": (G, {"ids": [3, 256]}, 422, "invalid_input", "Token id 256"),
    "unknown bias": (G, {"text": "a", "logit_bias": {"256": 1}}, 422, "invalid_input", "256"),
    "bias by name": (G, {"text": "a", "logit_bias": {"x": 1}}, 422, "invalid_input", "logit_bias"),
    "contradiction": (
        G, {"text": "a", "temperature": 0, "top_k": 4, "min_p": 0.1},
        422, "invalid_input", "top_k and min_p would do nothing",
    ),
    "void map": (
        G, {"text": "a", "temperature": 0, "probability_map": "entmax"},
        422, "invalid_input", "probability_map would do nothing",
    ),
    "unread alpha": (
        G, {"text": "a", "probability_map": {"name": "softmax", "alpha": 2}},
        422, "invalid_input", "does not read alpha",
    ),
    "unread factor": (
        G, {"text": "a", "rope": {"name": "direct", "factor": 2}},
        422, "invalid_input", "does not read factor",
    ),
    "empty stop": (G, {"text": "a", "stop": [""]}, 422, "invalid_input", "at least 1 character"),
    "unknown model": (G, {"text": "a", "model": "nope"}, 404, "unknown_model", "'nope'"),
    "unknown variant": (
        G, {"text": "a", "variant": "mla"}, 409, "variant_not_available_for_model", "'mla'",
    ),
    "messages to a model of bytes": (
        G, {"messages": USER, "model": "tiny-serving"}, 422, "invalid_input", "not trained to chat",
    ),
    "unknown role": (
        H, {"messages": [{"role": "tool", "content": "a"}]}, 422, "invalid_input", "role",
    ),
    "no messages": (H, {"messages": []}, 422, "invalid_input", "at least 1 item"),
    "two lengths": (
        H, {"messages": USER, "max_tokens": 1, "max_completion_tokens": 1},
        422, "invalid_input", "say the same",
    ),
    "unread top": (H, {"messages": USER, "top_logprobs": 1}, 422, "invalid_input", "logprobs is"),
    "unread options": (
        C, {"prompt": "a", "stream_options": {}}, 422, "invalid_input", "stream is true",
    ),
    "echo with logprobs": (
        C, {"prompt": "a", "echo": True, "logprobs": 1}, 422, "invalid_input", "echoed",
    ),
    "too many texts": (C, {"prompt": "a", "n": 17}, 413, "too_many_items", "17 texts"),
    "too many contexts": (
        N, {"contexts": ["a"] * 17, "question": "b"}, 413, "too_many_items", "17 contexts",
    ),
    "long context": (
        N, {"contexts": ["a" * 200], "question": "b"}, 422, "sequence_too_long", "tokens",
    ),
    "unknown field": (G, {"text": "a", "beam": 4}, 422, "invalid_input", "beam"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("headers", [{}, STREAM], ids=["json", "stream"])
def test_what_is_sent_wrong_is_named(room: TestClient, name: str, headers: dict[str, str]) -> None:
    path, body, status, code, part = BAD[name]
    expect_problem(room.post(path, json=body, headers=headers), status, code, part)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999", "-1"])
def test_no_temperature_but_numbers(room: TestClient, value: str) -> None:
    raw = f'{{"text": "a", "temperature": {value}}}'
    answer = room.post(G, content=raw, headers={"Content-Type": "application/json"})
    expect_problem(answer, 422, "invalid_input")


def test_a_deadline_ends_it(room: TestClient) -> None:
    body = {
        "text": "a", "max_tokens": 4000, "rope": "rerope", "model": "tiny-decoder",
        "logit_bias": {"0": -100},
    }  # fmt: skip
    late = room.post(G, json=body, headers={"X-Request-Timeout-Ms": "40"})
    expect_problem(late, 504, "deadline_exceeded")
    streamed = room.post(G, json=body, headers={"X-Request-Timeout-Ms": "150", **STREAM})
    name, problem = events_of(streamed)[-1]
    assert (name, problem["code"]) == ("error", "deadline_exceeded")
    assert post(room, G, text="a", max_tokens=1)


def test_a_full_room_says_when_to_come_again(models: Path, environment: pytest.MonkeyPatch) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"WORKERS": "1", "SLOTS": "1", "MAX_WAITING": "1"}.items():
            patch.setenv(f"SERVICE_GENERATION_{name}", value)
        with opened(models) as small:
            answer = small.post(C, json={"prompt": TEXT, "n": 3, "max_tokens": 50})
            expect_problem(answer, 429, "overloaded", "wait for a slot")
            assert int(answer.headers["retry-after"]) >= 1
            with ThreadPoolExecutor(30) as pool:
                body = {"text": TEXT, "max_tokens": 3, "seed": 1}
                answers = list(pool.map(lambda _: small.post(G, json=body), range(60)))
            statuses = {answer.status_code for answer in answers}
            assert statuses <= {200, 429}
            assert len({answer.content for answer in answers if answer.status_code == 200}) == 1
            assert post(small, G, **body)


class TestHealing:
    def test_the_text_goes_on_where_the_prompt_broke_off(self, room: TestClient) -> None:
        """With one piece a byte nothing can cross the end, so nothing is opened."""
        body = {"text": TEXT, "max_tokens": 6, "seed": 2}
        assert post(room, G, **body, heal_prefix=True) == post(room, G, **body)

    @pytest.mark.parametrize("path", [G, C])
    def test_a_piece_may_cross_the_end(self, room: TestClient, models: Path, path: str) -> None:
        """The prompt ends in " ca": the next piece may be " cat", of which "t" is new."""
        tokenizer = Tokenizer.from_file(str(models / "tiny-chat" / "tokenizer.json"))
        cat = tokenizer.token_to_id("Ġcat")
        prompt = {"text": "The ca"} if path == G else {"prompt": "The ca"}
        body = {"model": "tiny-chat", **prompt, "max_tokens": 1, "logit_bias": {str(cat): 100}}
        plain, healed = post(room, path, **body), post(room, path, **body, heal_prefix=True)
        if path == G:
            assert (plain["text"], healed["text"]) == (" cat", "t")
            assert ids_of(healed) == [cat]
        else:
            assert [reply["choices"][0]["text"] for reply in (plain, healed)] == [" cat", "t"]

    def test_pieces_that_spell_the_end_again_do_not_count(
        self, room: TestClient, models: Path
    ) -> None:
        tokenizer = Tokenizer.from_file(str(models / "tiny-chat" / "tokenizer.json"))
        bias = {str(tokenizer.token_to_id("Ġcat")): -100}
        reply = post(
            room, G, model="tiny-chat", text="The ca", max_tokens=4, seed=1, heal_prefix=True,
            logit_bias=bias,
        )  # fmt: skip
        again = [token for token in reply["tokens"] if not token["text"]]
        assert tokenizer.decode(ids_of(reply)).startswith(" ca")
        assert again
        assert len(reply["tokens"]) >= 4 + 1
        assert reply["usage"]["prompt_tokens"] == len(tokenizer.encode("The ca").ids)

    def test_messages_have_no_end_to_open(self, room: TestClient) -> None:
        answer = room.post(G, json={"messages": USER, "heal_prefix": True})
        expect_problem(answer, 422, "invalid_input", "template's")
