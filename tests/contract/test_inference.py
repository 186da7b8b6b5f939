"""The Open Inference Protocol: the same vectors, by JSON and by raw tensors."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest
from dirty_equals import IsPartialDict
from starlette.testclient import TestClient

MODEL = "all-MiniLM-L6-v2"
INFER = f"/v2/models/{MODEL}/infer"
LENGTH = "Inference-Header-Content-Length"
TEXTS = ["A man plays a guitar.", "你好"]


def _text(data: list[Any], shape: list[int] | None = None) -> dict[str, Any]:
    return {"name": "text", "shape": shape or [len(data)], "datatype": "BYTES", "data": data}


def _post(client: TestClient, body: dict[str, Any]) -> dict[str, Any]:
    answer = client.post(INFER, json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def _rows(output: dict[str, Any]) -> np.ndarray[Any, Any]:
    return np.array(output["data"], np.float32).reshape(output["shape"])


def test_vectors_are_those_of_embeddings(client: TestClient) -> None:
    reply = _post(client, {"id": "7", "inputs": [_text(TEXTS)]})
    assert reply == IsPartialDict(model_name=MODEL, model_version="1", id="7")
    (output,) = reply["outputs"]
    assert output["name"] == "mean"
    assert output["datatype"] == "FP32"
    data = client.post("/v1/embeddings", json={"input": TEXTS}).json()["data"]
    assert np.array_equal(_rows(output), np.array([row["embedding"] for row in data], np.float32))


def test_outputs_come_in_the_order_asked_for(client: TestClient) -> None:
    wishes = [{"name": "cls_raw"}, {"name": "mean"}]
    outputs = _post(client, {"inputs": [_text(["a"], [1, 1])], "outputs": wishes})["outputs"]
    assert [each["name"] for each in outputs] == ["cls_raw", "mean"]
    assert np.linalg.norm(_rows(outputs[1])) == pytest.approx(1, abs=1e-6)
    assert np.linalg.norm(_rows(outputs[0])) != pytest.approx(1, abs=1e-2)


def test_padding_of_ids_is_left_out(client: TestClient) -> None:
    def vectors(ids: list[list[int]], mask: list[list[int]]) -> np.ndarray[Any, Any]:
        shape = [len(ids), len(ids[0])]
        inputs = [
            {"name": "input_ids", "shape": shape, "datatype": "INT64", "data": ids},
            {"name": "attention_mask", "shape": shape, "datatype": "INT64", "data": mask},
        ]
        return _rows(_post(client, {"inputs": inputs})["outputs"][0])

    both = vectors([[101, 4937, 102, 0], [101, 4937, 4937, 102]], [[1, 1, 1, 0], [1, 1, 1, 1]])
    alone = vectors([[101, 4937, 102]], [[1, 1, 1]])
    assert np.abs(both[0] - alone[0]).max() < 1e-5
    assert np.abs(both[0] - both[1]).max() > 1e-2


def _binary(texts: list[bytes], *, size: int | None = None) -> tuple[bytes, dict[str, str]]:
    raw = b"".join(struct.pack("<I", len(text)) + text for text in texts)
    tensor = {
        "name": "text",
        "shape": [len(texts)],
        "datatype": "BYTES",
        "parameters": {"binary_data_size": len(raw) if size is None else size},
    }
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return head + raw, {LENGTH: str(len(head)), "Content-Type": "application/octet-stream"}


def test_raw_tensors_hold_the_same_numbers(client: TestClient) -> None:
    body, headers = _binary([text.encode() for text in TEXTS])
    answer = client.post(INFER, content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    cut = int(answer.headers[LENGTH])
    (output,) = json.loads(answer.content[:cut])["outputs"]
    raw = answer.content[cut:]
    assert output["parameters"] == {"binary_data_size": len(raw)}
    got = np.frombuffer(raw, "<f4").reshape(output["shape"])
    assert np.array_equal(got, _rows(_post(client, {"inputs": [_text(TEXTS)]})["outputs"][0]))


@pytest.mark.parametrize(
    ("texts", "size", "header", "said"),
    [
        ([b"a"], 999, None, "999; 5 bytes are left"),
        ([b"a"], 3, None, "ends inside the length"),
        ([b"a", b"b"], 5, None, "there are 1 values"),
        ([b"\xff"], None, None, "not UTF-8"),
        ([b"a"], None, "99999", "99999"),
        ([b"a"], None, "-1", "'-1'"),
        ([b"a"], 0, None, "there are 0 values"),
    ],
)
def test_broken_tensors_are_refused(
    client: TestClient, texts: list[bytes], size: int | None, header: str | None, said: str
) -> None:
    body, headers = _binary(texts, size=size)
    answer = client.post(
        INFER, content=body, headers=headers | ({LENGTH: header} if header else {})
    )
    assert answer.status_code == 422
    problem = answer.json()
    if header is None:
        assert said in problem["detail"]
    assert problem["error"] == problem["detail"]  # where Triton's clients look


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ([_text(["a", 3])], "3, which is not BYTES"),
        ([_text(["a"], [2])], "there are 1 values"),
        ([_text([])], "no text"),
        ([_text(["a"]), _text(["b"])], "send 'text' alone"),
        ([{"name": "text", "shape": [1], "datatype": "BYTES"}], "either `data`"),
        ([{"name": "input_ids", "shape": [1], "datatype": "INT64", "data": [1]}], "[n, length]"),
        (
            [{"name": "input_ids", "shape": [1, 1], "datatype": "INT64", "data": [1 << 63]}],
            "beyond",
        ),
        ([{"name": "attention_mask", "shape": [1, 1], "datatype": "INT64", "data": [1]}], "send"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(
    client: TestClient, inputs: list[dict[str, Any]], said: str
) -> None:
    answer = client.post(INFER, json={"inputs": inputs})
    assert answer.status_code == 422, answer.text
    assert said in answer.json()["detail"]


def test_unknown_outputs_and_models_are_named(client: TestClient) -> None:
    answer = client.post(INFER, json={"inputs": [_text(["a"])], "outputs": [{"name": "x"}]})
    assert answer.status_code == 422
    assert "mean, mean_raw" in answer.json()["detail"]
    for path in ("/v2/models/nobody", "/v2/models/nobody/ready"):
        answer = client.get(path)
        assert answer.status_code == 404
        assert "nobody" in answer.json()["error"]


def test_it_describes_itself(client: TestClient) -> None:
    assert client.get("/v2").json() == IsPartialDict(
        name="isotrope", extensions=["binary_tensor_data"]
    )
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert client.get(f"/v2/models/{MODEL}/ready").json() == {"name": MODEL, "ready": True}
    described = client.get(f"/v2/models/{MODEL}").json()
    assert {"name": "cls_raw", "datatype": "FP32", "shape": [-1, 384]} in described["outputs"]
