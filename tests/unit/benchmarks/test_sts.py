"""Check the figures of the sentence-similarity benchmark on numbers small enough to follow."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks import sts
from benchmarks.sts import Pair


def test_equal_values_share_their_mean_rank() -> None:
    found = sts.ranks(np.array([3.0, 1.0, 3.0, 2.0, 3.0]))
    np.testing.assert_array_equal(found, [4, 1, 4, 2, 4])


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ([1, 2, 3, 4], [10, 20, 30, 400], 1.0),
        ([1, 2, 3, 4], [4, 3, 2, 1], -1.0),
        ([1, 2, 3, 4, 5], [2, 1, 4, 3, 5], 0.8),  # 1 - 6 * 4 / (5 * 24)
        ([1, 1, 2, 3], [1, 2, 2, 3], 5 / 6),  # ranks 1.5 1.5 3 4 and 1 2.5 2.5 4
    ],
)
def test_spearman_of_small_lists(left: list[float], right: list[float], expected: float) -> None:
    found = sts.spearman(np.array(left, float), np.array(right, float))
    assert found == pytest.approx(expected)


def _by_length(texts: Sequence[str]) -> NDArray[np.float32]:
    """Embed a text as an angle of a tenth radian per character."""
    angles = np.array([len(text) / 10 for text in texts])
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_similarity_is_compared_with_the_scores() -> None:
    pairs = [Pair("a", "aa", 5), Pair("a", "aaaa", 3), Pair("a", "aaaaaaaa", 0)]
    assert sts.similarity_correlation(pairs, embed=_by_length) == pytest.approx(100)
    turned = [Pair(pair.first, pair.second, -pair.score) for pair in pairs]
    assert sts.similarity_correlation(turned, embed=_by_length) == pytest.approx(-100)


def test_only_sentences_new_on_both_sides_are_aligned() -> None:
    english = [Pair("one", "two", 1), Pair("two", "three", 2), Pair("four", "five", 3)]
    chinese = [Pair("一", "二", 1), Pair("二", "三", 2), Pair("一", "五", 3)]
    found = sts.aligned_sentences(english, chinese)
    assert found == [("one", "一"), ("two", "二"), ("three", "三"), ("five", "五")]


def test_files_that_are_not_aligned_are_refused() -> None:
    with pytest.raises(SystemExit, match="not translations"):
        sts.aligned_sentences([Pair("a", "b", 1)], [Pair("c", "d", 2)])


def test_the_nearest_row_is_counted() -> None:
    rows = np.eye(4, dtype=np.float32)
    swapped = rows[[0, 1, 3, 2]]
    assert sts.nearest_accuracy(rows, rows * 3) == 100
    assert sts.nearest_accuracy(rows, swapped) == 50


class _Service(BaseHTTPRequestHandler):
    """Answer as the service does, last input first."""

    asked: list[dict[str, object]] = []  # noqa: RUF012 - one list for the test to read

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(body)
        vectors = _by_length(body["input"]).astype("<f4")
        rows = [
            {"index": index, "embedding": base64.b64encode(vector.tobytes()).decode()}
            for index, vector in enumerate(vectors)
        ]
        reply = json.dumps({"data": rows[::-1]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_arguments: object) -> None:
        pass


def test_over_http_keeps_order_and_batches_of_64() -> None:
    _Service.asked.clear()
    server = HTTPServer(("127.0.0.1", 0), _Service)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        texts = ["x" * (1 + index % 30) for index in range(150)]
        embed = sts.over_http(f"http://127.0.0.1:{server.server_port}/", model="m")
        np.testing.assert_array_equal(embed(texts), _by_length(texts))
    finally:
        server.shutdown()
        server.server_close()
    assert [len(body["input"]) for body in _Service.asked] == [64, 64, 22]  # type: ignore[arg-type]
    assert {body["encoding_format"] for body in _Service.asked} == {"base64"}
    assert {body["model"] for body in _Service.asked} == {"m"}


def test_a_missing_file_and_a_missing_model_are_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"stsb-en-dev\.csv"):
        sts.read_pairs(tmp_path, language="en")
    with pytest.raises(SystemExit, match="no built model"):
        sts.in_process(tmp_path)
