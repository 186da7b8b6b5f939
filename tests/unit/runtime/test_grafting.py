"""A transform grafted onto small graphs, run by onnxruntime alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from service.errors import ArtefactDamaged
from service.numerics.moments import measure_moments
from service.numerics.whitening import (
    Kernel,
    Shrinkage,
    find_axes,
    make_kernel,
    narrow_kernel,
    whiten,
)
from service.runtime.grafting import OUTPUT, graft
from tests.support.graphs import open_graph

VECTORS = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32) + 1


@pytest.fixture
def kernel() -> Kernel:
    axes = find_axes(measure_moments(VECTORS), beta=1, shrinkage=Shrinkage.NONE)
    return narrow_kernel(make_kernel(axes, gamma=1, dimensions=2))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Write a graph with a branch, two outputs, and weights that only one of them needs.

    ```
    x ─ If (flag: x · scale, else x) ─ mean_raw
    x ─ Mul other_scale ──────────────  cls_raw
    ```
    """
    row = helper.make_tensor_value_info
    then = helper.make_graph(
        [helper.make_node("Mul", ["x", "scale"], ["scaled"])],
        "then",
        [],
        [row("scaled", TensorProto.FLOAT, ["batch", 3])],
    )
    other = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["same"])],
        "else",
        [],
        [row("same", TensorProto.FLOAT, ["batch", 3])],
    )
    graph = helper.make_graph(
        [
            helper.make_node("If", ["flag"], ["mean_raw"], then_branch=then, else_branch=other),
            helper.make_node("Mul", ["x", "other_scale"], ["cls_raw"]),
        ],
        "small",
        [row("x", TensorProto.FLOAT, ["batch", 3])],
        [row(name, TensorProto.FLOAT, ["batch", 3]) for name in ("mean_raw", "cls_raw")],
        [
            numpy_helper.from_array(np.array([2, 2, 2], dtype=np.float32), "scale"),
            numpy_helper.from_array(np.array([5, 5, 5], dtype=np.float32), "other_scale"),
            numpy_helper.from_array(np.ones((), dtype=np.bool_), "flag"),
        ],
    )
    path = tmp_path / "model.onnx"
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    made.doc_string = "kept"
    onnx.save(made, path)
    return path


def grafted(path: Path, output: str, kernel: Kernel) -> bytes:
    return b"".join(graft(path, output=output, kernel=kernel, properties={"made": "here"}))


@pytest.mark.parametrize(("output", "factor"), [("mean_raw", 2), ("cls_raw", 5)])
def test_it_gives_what_numpy_gives(model: Path, kernel: Kernel, output: str, factor: float) -> None:
    session = open_graph(grafted(model, output, kernel))
    assert [each.name for each in session.get_outputs()] == [OUTPUT]
    assert session.get_outputs()[0].shape == ["batch", 2]
    found = session.run(None, {"x": VECTORS})[0]
    assert np.abs(found - whiten(VECTORS * np.float32(factor), kernel)).max() < 1e-6


def test_only_what_the_output_needs_is_kept(model: Path, kernel: Kernel) -> None:
    mean = onnx.load_from_string(grafted(model, "mean_raw", kernel))
    onnx.checker.check_model(mean)
    assert [node.op_type for node in mean.graph.node] == ["If", "Sub", "MatMul", "LpNormalization"]
    # the branch reads `scale` from outside of itself
    weights = {each.name for each in mean.graph.initializer}
    assert weights == {"scale", "flag", "whitening/centre", "whitening/weights"}
    cls = onnx.load_from_string(grafted(model, "cls_raw", kernel))
    assert "scale" not in {each.name for each in cls.graph.initializer}
    assert (cls.doc_string, cls.ir_version) == ("kept", 10)
    assert {each.key: each.value for each in cls.metadata_props} == {"made": "here"}


def test_the_file_is_left_alone(model: Path, kernel: Kernel) -> None:
    before = model.read_bytes()
    grafted(model, "mean_raw", kernel)
    assert model.read_bytes() == before


def test_a_file_without_such_an_output(model: Path, kernel: Kernel) -> None:
    with pytest.raises(ArtefactDamaged, match="no node gives 'first_last_raw'"):
        graft(model, output="first_last_raw", kernel=kernel, properties={})


@pytest.mark.parametrize("content", [b"", b"no model", b"\x3a\xff\xff\xff\x7f", b"\x08\x0a"])
def test_a_file_that_is_no_model(tmp_path: Path, kernel: Kernel, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ArtefactDamaged, match=r"model\.onnx cannot be read"):
        graft(path, output="mean_raw", kernel=kernel, properties={})


def test_a_file_that_was_cut_off(model: Path, kernel: Kernel) -> None:
    whole = model.read_bytes()
    for length in (len(whole) // 3, len(whole) // 2, len(whole) - 1):
        model.write_bytes(whole[:length])
        with pytest.raises(ArtefactDamaged):
            graft(model, output="mean_raw", kernel=kernel, properties={})


def test_a_large_file_is_not_copied(model: Path, kernel: Kernel) -> None:
    made = onnx.load(model)
    ballast = np.zeros(2_000_000, dtype=np.float32)
    made.graph.initializer.append(numpy_helper.from_array(ballast, "ballast"))
    made.graph.node.append(helper.make_node("Identity", ["ballast"], ["unused"]))
    made.graph.node.append(helper.make_node("Mul", ["x", "x"], ["square_raw"]))
    made.graph.output.append(
        helper.make_tensor_value_info("square_raw", TensorProto.FLOAT, ["batch", 3])
    )
    onnx.save(made, model)
    assert len(grafted(model, "square_raw", kernel)) < 5_000
