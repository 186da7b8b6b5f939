"""What leads to no wanted output is left out; what is left computes the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from service.errors import ArtefactDamaged
from service.runtime.decoders.pruning import prune


def write_graph(path: Path, *, location: str = "") -> None:
    """Write `x ─ Add w ─ y`, `y ─ Log ─ dead`, and TopK whose second output only `dead` needs."""
    weight = numpy_helper.from_array(np.arange(3, dtype=np.float32), "w")
    spare = numpy_helper.from_array(np.zeros(5, dtype=np.float32), "spare")
    if location:
        weight.ClearField("raw_data")
        weight.data_location = TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", "0"), ("length", "12")):
            weight.external_data.add(key=key, value=value)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("Add", ["x", "w"], ["y"]),
            helper.make_node("Log", ["y"], ["log"]),
            helper.make_node("Mul", ["log", "spare"], ["dead"]),
            helper.make_node("MaxPool", ["y"], ["pooled", "places"], kernel_shape=[1]),
        ],
        "small",
        [value("x", TensorProto.FLOAT, [1, 1, 3])],
        [
            value("pooled", TensorProto.FLOAT, [1, 1, 3]),
            value("places", TensorProto.INT64, [1, 1, 3]),
            value("dead", TensorProto.FLOAT, [1, 1, 3]),
        ],
        [weight, spare],
    )
    path.write_bytes(helper.make_model(graph).SerializeToString())


def test_only_what_leads_to_a_wanted_output_is_left(tmp_path: Path) -> None:
    write_graph(tmp_path / "small.onnx")
    pruned = prune(tmp_path / "small.onnx", lambda name: name == "pooled")
    graph = onnx.load_from_string(pruned.content).graph
    assert [node.op_type for node in graph.node] == ["Add", "MaxPool"]
    assert list(graph.node[1].output) == ["pooled"], "what nobody reads is not written down"
    assert [weight.name for weight in graph.initializer] == ["w"]
    assert [each.name for each in graph.input] == ["x"]
    assert pruned.weights == frozenset()


def test_everything_wanted_is_everything_kept(tmp_path: Path) -> None:
    write_graph(tmp_path / "small.onnx")
    pruned = prune(tmp_path / "small.onnx", lambda _: True)
    assert pruned.content == (tmp_path / "small.onnx").read_bytes()


def test_a_branch_keeps_what_it_reads_alive(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info
    branch = helper.make_graph(
        [helper.make_node("Neg", ["kept"], ["inside"])],
        "branch",
        [],
        [value("inside", TensorProto.FLOAT, [1])],
    )
    graph = helper.make_graph(
        [
            helper.make_node("Abs", ["x"], ["kept"]),
            helper.make_node("If", ["choice"], ["y"], then_branch=branch, else_branch=branch),
        ],
        "branches",
        [value("x", TensorProto.FLOAT, [1]), value("choice", TensorProto.BOOL, [1])],
        [value("y", TensorProto.FLOAT, [1])],
    )
    path = tmp_path / "branches.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    kept = onnx.load_from_string(prune(path, lambda _: True).content).graph
    assert [node.op_type for node in kept.node] == ["Abs", "If"]


def test_weights_beside_the_graph_are_named_and_counted(tmp_path: Path) -> None:
    write_graph(tmp_path / "small.onnx", location="w.bin")
    pruned = prune(tmp_path / "small.onnx", lambda name: name == "pooled")
    assert (pruned.weights, pruned.weight_bytes) == ({"w.bin"}, 12)


@pytest.mark.parametrize("location", ["../w.bin", "/etc/hostname", "a/w.bin"])
def test_weights_elsewhere_are_refused(tmp_path: Path, location: str) -> None:
    write_graph(tmp_path / "small.onnx", location=location)
    with pytest.raises(ArtefactDamaged, match="not beside it"):
        prune(tmp_path / "small.onnx", lambda _: True)


@pytest.mark.parametrize("content", [b"", b"no graph", b"\x00" * 100, None])
def test_what_is_no_graph_is_damaged(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "small.onnx"
    if content is not None:
        path.write_bytes(content)
    if content == b"":
        assert prune(path, lambda _: True).weight_bytes == 0  # an empty message is a message
        return
    with pytest.raises(ArtefactDamaged, match="no ONNX graph"):
        prune(path, lambda _: True)
