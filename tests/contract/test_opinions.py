"""`POST /v1/opinions/summarize`: whole sentences, and who supports them."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import orjson
import pytest
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra
from starlette.testclient import TestClient

from service.capabilities.summarization.splitting import split_sentences
from tests.contract.problems import expect_problem
from tests.support.reviews import CHINESE, HOTEL

PATH = "/v1/opinions/summarize"
STRATEGIES = ["consensus", "centrality", "coverage", "lexrank", "centroid"]


def summarize(client: TestClient, reviews: list[Any], **body: Any) -> dict[str, Any]:
    answer = client.post(PATH, json={"reviews": reviews, **body})
    assert answer.status_code == 200, answer.text
    reply: dict[str, Any] = answer.json()
    return reply


def texts(section: dict[str, Any]) -> list[str]:
    return [sentence["text"] for sentence in section["summary"]]


def check_exact(section: dict[str, Any], reviews: dict[str, str]) -> None:
    """Check that every sentence and all evidence is an exact part of its review."""
    for sentence in section["summary"]:
        for place in [sentence, *sentence["support"]["evidence"]]:
            assert reviews[place["review_id"]][place["start"] : place["end"]] == place["text"]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("distance", ["geodesic", "cosine"])
def test_every_strategy_answers_with_exact_sentences(
    client: TestClient, strategy: str, distance: str
) -> None:
    reply = summarize(client, HOTEL, strategy=strategy, distance=distance, budget={"words": 20})
    assert reply["strategy"] == strategy
    assert reply["summary"]
    assert reply["used"] == sum(len(text.split()) for text in texts(reply)) <= 20
    check_exact(reply, {str(n): text for n, text in enumerate(HOTEL)})
    assert reply["reason"] is None
    assert reply["model"] == "all-MiniLM-L6-v2"
    assert len(reply["model_sha256"]) == 64


def test_the_default_is_consensus_in_75_words(client: TestClient) -> None:
    reply = summarize(client, HOTEL)
    named = summarize(
        client, HOTEL, strategy="consensus", distance="geodesic", budget={"words": 75},
        redundancy=0.4, min_support=1, k=5,
    )  # fmt: skip
    assert reply == named
    assert reply["budget"] == {"words": 75}
    assert reply["reviews"] == 8
    assert set(reply["dropped"]) == {
        "empty_reviews", "short", "long", "opinion", "support", "budget",
    }  # fmt: skip


def test_support_is_what_brute_force_finds(client: TestClient) -> None:
    reply = summarize(client, HOTEL, k=3, radius=1.0)
    sentences = sorted({
        review[start:end] for review in HOTEL for start, end in split_sentences(review, None)
    })  # fmt: skip
    embedded = client.post("/v1/embeddings", json={"input": sentences}).json()["data"]
    vectors = np.array([each["embedding"] for each in embedded], np.float64)
    angles = np.arccos(np.clip(vectors @ vectors.T, -1, 1))
    np.fill_diagonal(angles, np.inf)
    edges = np.zeros_like(angles)
    for row, near in enumerate(np.argsort(angles, axis=1)[:, :3]):
        edges[row, near] = edges[near, row] = angles[row, near]
    paths = dijkstra(csr_array(edges), directed=False)
    for sentence in reply["summary"]:
        row = sentences.index(sentence["text"])
        near = [sentences[other] for other in np.flatnonzero(paths[row] <= 1.0)]
        said_by = {str(n) for n, review in enumerate(HOTEL) if any(text in review for text in near)}
        assert set(sentence["support"]["review_ids"]) == said_by
        assert sentence["support"]["reviews"] == len(said_by)
        assert sentence["support"]["sentences"] == len(near)
    assert max(sentence["support"]["reviews"] for sentence in reply["summary"]) > 1
    covered = {name for each in reply["summary"] for name in each["support"]["review_ids"]}
    assert reply["coverage"] == pytest.approx(len(covered) / len(HOTEL))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_any_order_gives_the_same_summary(client: TestClient, strategy: str) -> None:
    reviews = [{"id": f"r{n}", "text": text} for n, text in enumerate(HOTEL)]
    first = summarize(client, reviews, strategy=strategy, split_sentiment=True)
    random.Random(4).shuffle(reviews)
    assert summarize(client, reviews, strategy=strategy, split_sentiment=True) == first


def test_a_long_review_votes_once(client: TestClient) -> None:
    loud = {"id": "loud", "text": "The pool was dirty. " * 30 + "A dirty pool, really dirty."}
    reply = summarize(client, [loud, *HOTEL], budget={"sentences": 30}, radius=0.8)
    pool = [each for each in reply["summary"] if "pool" in each["text"].lower()]
    assert pool
    assert all(each["support"]["review_ids"] == ["loud"] for each in pool)


def test_aspects_have_summaries_of_their_own(client: TestClient) -> None:
    reply = summarize(
        client,
        HOTEL,
        aspects={
            "food": ["breakfast", "food"],
            "desk": ["The people at the desk were friendly."],
            "battery": ["battery", "charging cable"],
        },
    )
    assert all("breakfast" in text.lower() for text in texts(reply["aspects"]["food"]))
    assert texts(reply["aspects"]["food"])
    assert any("desk" in text.lower() for text in texts(reply["aspects"]["desk"]))
    assert reply["aspects"]["battery"]["summary"] == []
    assert reply["aspects"]["battery"]["reason"] == "no_support"
    check_exact(reply["aspects"]["food"], {str(n): text for n, text in enumerate(HOTEL)})


def test_sentiment_is_split_and_counted(client: TestClient) -> None:
    reply = summarize(client, HOTEL, split_sentiment=True)
    sides = reply["sentiments"]
    assert set(sides) == {"positive", "negative"}
    for name, side in sides.items():
        assert side["prevalence"] == pytest.approx(side["reviews"] / len(HOTEL))
        assert {each["sentiment"]["label"] for each in side["summary"]} == {name}
    assert any("comfortable" in text for text in texts(sides["positive"]))
    assert any("cold" in text.lower() for text in texts(sides["negative"]))
    assert summarize(client, HOTEL)["sentiments"] is None


def test_a_rating_leans_the_sentiment(client: TestClient) -> None:
    text = "The lobby has a clock."
    scores = [
        summarize(client, [{"id": "a", "text": text, "rating": rating}])["summary"][0]
        for rating in (1, 5)
    ]
    low, high = (each["sentiment"]["score"] for each in scores)
    assert high - low == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize("unit", ["words", "sentences", "tokens"])
def test_a_budget_is_kept_in_each_unit(client: TestClient, unit: str) -> None:
    reply = summarize(client, HOTEL, budget={unit: 18})
    assert 0 < reply["used"] <= 18
    if unit == "sentences":
        assert reply["used"] == len(reply["summary"])


def test_min_support_leaves_out_what_few_say(client: TestClient) -> None:
    reply = summarize(client, HOTEL, min_support=3)
    assert all(each["support"]["reviews"] >= 3 for each in reply["summary"])
    none = summarize(client, HOTEL, min_support=100)
    assert (none["summary"], none["reason"]) == ([], "filtered")
    assert none["dropped"]["support"] > 0


def test_support_counts_reviews_and_not_sentences(client: TestClient) -> None:
    loud = "The pool was dirty. The pool was very dirty. A dirty, dirty pool. Such a dirty pool."
    reply = summarize(client, [loud, "Nothing else to say here."], min_support=2)
    assert (reply["summary"], reply["reason"]) == ([], "filtered")


def test_progress_is_streamed_and_ends_with_the_result(client: TestClient) -> None:
    fresh = [f"{text} Visit {random.random()}." for text in HOTEL]
    body = {"reviews": fresh}
    streamed = client.post(PATH, json=body, headers={"Accept": "text/event-stream"})
    events = [event for event in streamed.text.split("\n\n") if event.startswith("event:")]
    names = [event.split("\n")[0].removeprefix("event: ") for event in events]
    assert names[-1] == "result"
    assert set(names[:-1]) == {"progress"}
    stages = {orjson.loads(event.split("data: ")[1])["stage"] for event in events[:-1]}
    assert {"split", "embed"} <= stages
    result = orjson.loads(events[-1].split("data: ")[1])
    assert result == client.post(PATH, json=body).json()


def test_a_page_is_sent_to_a_browser(client: TestClient) -> None:
    nasty = "<script>alert(1)</script> The room is <b>clean</b>."
    answer = client.post(PATH, json={"reviews": [nasty, *HOTEL]}, headers={"Accept": "text/html"})
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "<details" in answer.text
    assert "<script" not in answer.text
    assert "<b>" not in answer.text


def test_chinese_by_the_multilingual_encoder(client: TestClient) -> None:
    reply = summarize(
        client, CHINESE, model="multilingual-e5-small", split_sentiment=True,
        aspects={"breakfast": ["早餐"], "wifi": ["无线网络"]}, budget={"words": 12},
    )  # fmt: skip
    check_exact(reply, {str(n): text for n, text in enumerate(CHINESE)})
    assert reply["summary"]
    assert reply["used"] <= 12
    assert all("早餐" in text for text in texts(reply["aspects"]["breakfast"]))
    assert reply["aspects"]["wifi"]["reason"] == "no_support"
    assert "房间很干净。" in texts(reply["sentiments"]["positive"])
    assert any("早餐" in text for text in texts(reply["sentiments"]["negative"]))


# What goes in badly.


def test_no_reviews_are_refused(client: TestClient) -> None:
    answer = client.post(PATH, json={"reviews": []})
    expect_problem(answer, 422, "invalid_input", "reviews")


@pytest.mark.parametrize("reviews", [[""], ["", " ", "...", "\u200b"], ["!"]])
def test_reviews_without_a_sentence_give_an_empty_summary(
    client: TestClient, reviews: list[str]
) -> None:
    reply = summarize(client, reviews, aspects={"a": ["b"]}, split_sentiment=True)
    assert (reply["summary"], reply["reason"], reply["coverage"]) == ([], "no_sentences", 0)
    assert reply["dropped"]["empty_reviews"] == len(reviews)
    assert reply["aspects"]["a"]["reason"] == "no_sentences"
    assert reply["sentiments"]["negative"]["prevalence"] == 0


@pytest.mark.parametrize("text", ["x", "Good.", "好"])
def test_one_short_sentence_is_its_own_summary(client: TestClient, text: str) -> None:
    reply = summarize(client, [text, ""])
    assert texts(reply) == [text]
    assert reply["summary"][0]["support"]["review_ids"] == ["0"]
    assert any("any length" in warning for warning in reply["warnings"])


def test_the_same_review_many_times_is_said_once_and_supported_by_all(client: TestClient) -> None:
    reply = summarize(client, ["The room was clean and quiet."] * 50)
    assert texts(reply) == ["The room was clean and quiet."]
    assert reply["summary"][0]["support"]["reviews"] == 50
    assert reply["coverage"] == 1


def test_filters_that_leave_nothing_say_so(client: TestClient) -> None:
    reply = summarize(client, HOTEL, min_sentence_words=50)
    assert (reply["summary"], reply["reason"]) == ([], "filtered")
    reply = summarize(client, HOTEL, min_opinion=1.0, budget={"words": 1})
    assert reply["summary"] == []
    reply = summarize(client, ["The room was very clean."], budget={"words": 2})
    assert (reply["summary"], reply["reason"]) == ([], "budget")


def test_markup_and_control_characters_are_text(client: TestClient) -> None:
    reviews = ["<p>The room\x00 was clean.</p>\x07", "A \x1b[31mred\x1b[0m carpet.\r\nLoud\x0b."]
    reply = summarize(client, reviews)
    check_exact(reply, {str(n): text for n, text in enumerate(reviews)})
    assert reply["summary"]


def test_languages_may_be_mixed(client: TestClient) -> None:
    reviews = [*HOTEL, *CHINESE, "Das Zimmer war sehr sauber und ruhig."]
    reply = summarize(client, reviews, model="multilingual-e5-small")
    check_exact(reply, {str(n): text for n, text in enumerate(reviews)})


def test_two_reviews_of_one_id_are_refused(client: TestClient) -> None:
    twice = [{"id": "a", "text": "Good."}, {"id": "a", "text": "Bad."}]
    body = expect_problem(client.post(PATH, json={"reviews": twice}), 422, "invalid_input", "'a'")
    assert body["errors"] == [
        {"pointer": "/reviews/1/id", "detail": "stands at an earlier review too"}
    ]


@pytest.mark.parametrize(
    "text", ["word " * 200_000, "No end " + "a" * 1_000_000, "The room was clean. " * 50_000]
)
def test_a_review_of_a_megabyte_is_read_or_refused(client: TestClient, text: str) -> None:
    answer = client.post(PATH, json={"reviews": [text, "The room was clean."]})
    if text.startswith("The"):
        expect_problem(answer, 413, "too_many_items", "20000 sentences")
        return
    assert answer.status_code == 200, answer.text
    assert "The room was clean." in texts(answer.json())


@pytest.mark.parametrize(
    "budget",
    [{"words": 0}, {"words": -1}, {}, {"words": 5, "tokens": 5}, {"letters": 5}, {"words": 1.5}, 7],
)
def test_a_budget_that_means_nothing_is_refused(client: TestClient, budget: object) -> None:
    answer = client.post(PATH, json={"reviews": HOTEL, "budget": budget})
    expect_problem(answer, 422, "invalid_input")


@pytest.mark.parametrize(
    "body",
    [
        {"strategy": "best"},
        {"distance": "euclidean"},
        {"redundancy": 1.5},
        {"redundancy": "0.5"},
        {"min_support": 0},
        {"k": 1},
        {"k": 65},
        {"radius": -1},
        {"aspects": {"food": []}},
        {"aspects": {"food": [""]}},
        {"aspects": {"": ["food"]}},
        {"aspects": ["food"]},
        {"language": "English"},
        {"unknown": 1},
        {"reviews": [{"id": "a", "text": "Good.", "rating": 6}]},
        {"reviews": [{"id": "", "text": "Good."}]},
        {"reviews": [{"text": "Good."}]},
        {"reviews": [7]},
        {"reviews": "Good."},
    ],
)
def test_other_nonsense_is_refused(client: TestClient, body: dict[str, Any]) -> None:
    expect_problem(client.post(PATH, json={"reviews": HOTEL} | body), 422, "invalid_input")


def test_too_many_reviews_and_aspects_are_refused(client: TestClient) -> None:
    answer = client.post(PATH, json={"reviews": ["Good."] * 5001})
    expect_problem(answer, 413, "too_many_items", "5001 reviews", "5000")
    many = {f"a{number}": ["food"] for number in range(33)}
    answer = client.post(PATH, json={"reviews": HOTEL, "aspects": many})
    expect_problem(answer, 413, "too_many_items", "33 aspects", "32")


def test_an_unknown_aspect_word_is_no_support(client: TestClient) -> None:
    reply = summarize(client, HOTEL, aspects={"x": ["zxqwv"], "space": [" "], "emoji": ["😀"]})
    assert {name: each["reason"] for name, each in reply["aspects"].items()} == dict.fromkeys(
        ["x", "space", "emoji"], "no_support"
    )


def test_an_unknown_model_is_named(client: TestClient) -> None:
    answer = client.post(PATH, json={"reviews": HOTEL, "model": "nothing"})
    expect_problem(answer, 404, "unknown_model", "nothing")


def test_a_stored_corpus_is_summarized_by_its_id(client: TestClient) -> None:
    items = [{"id": f"i{n}", "text": text} for n, text in enumerate(HOTEL)]
    made = client.post("/v1/geodesic/corpora", json={"name": "opinions-of-hotel", "items": items})
    assert made.status_code == 201, made.text
    answer = client.post(PATH, json={"corpus": "opinions-of-hotel"})
    assert answer.status_code == 200, answer.text
    assert answer.json() == summarize(client, items)
    client.delete("/v1/geodesic/corpora/opinions-of-hotel")
    gone = client.post(PATH, json={"corpus": "opinions-of-hotel"})
    expect_problem(gone, 404, "unknown_artefact", "opinions-of-hotel")


def test_a_corpus_of_vectors_has_nothing_to_quote(client: TestClient) -> None:
    items = [{"id": f"i{n}", "vector": [1.0, float(n), 0.5]} for n in range(4)]
    client.post("/v1/geodesic/corpora", json={"name": "opinions-none", "items": items})
    answer = client.post(PATH, json={"corpus": "opinions-none"})
    expect_problem(answer, 422, "invalid_input", "holds vectors without texts")
    client.delete("/v1/geodesic/corpora/opinions-none")


@pytest.mark.parametrize(
    "body", [{}, {"reviews": HOTEL, "corpus": "a"}, {"corpus": ""}, {"corpus": None}]
)
def test_reviews_come_from_one_place(client: TestClient, body: dict[str, Any]) -> None:
    expect_problem(client.post(PATH, json=body), 422, "invalid_input")
