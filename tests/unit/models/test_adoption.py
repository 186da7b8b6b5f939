"""Adopt tiny exported folders, made here, in every shape we accept; and refuse the others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers

from models import adoption
from models.catalogue import adopt
from models.errors import RecipeError

WORDS = ["[PAD]", "[UNK]", "a", "cat", "sits", "on", "the", "mat", "."]
TABLE = np.random.default_rng(5).normal(size=(len(WORDS), 4)).astype(np.float32)
Steps = list[str]


def _silent(_stage: str, _done: int, _total: int) -> None:
    pass


def _tokenizer(path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.enable_truncation(max_length=32)
    tokenizer.enable_padding()
    tokenizer.save(str(path))


def _graph(
    *,
    inputs: tuple[str, ...] = ("input_ids", "attention_mask"),
    kind: int = TensorProto.INT64,
    output: str = "last_hidden_state",
    inner: str = "hidden",
    opset: int = 14,
    rank: int = 3,
) -> onnx.ModelProto:
    """Return an encoder of one table; token types and positions add 100 and 1 per unit."""
    nodes = [helper.make_node("Gather", ["table", "input_ids"], [inner], name="rows")]
    last = inner
    for name, unit in (("token_type_ids", "hundred"), ("position_ids", "one")):
        if name in inputs:
            nodes += [
                helper.make_node("Cast", [name], [f"{name}_real"], to=TensorProto.FLOAT),
                helper.make_node("Mul", [f"{name}_real", unit], [f"{name}_part"]),
                helper.make_node("Unsqueeze", [f"{name}_part", "axis"], [f"{name}_wide"]),
                helper.make_node("Add", [last, f"{name}_wide"], [f"{name}_sum"]),
            ]
            last = f"{name}_sum"
    if rank == 2:
        nodes.append(helper.make_node("ReduceMax", [last], [output], axes=[1], keepdims=0))
    else:
        nodes.append(helper.make_node("Identity", [last], [output]))
    constants: dict[str, NDArray[Any]] = {
        "table": TABLE,
        "hundred": np.array(100, np.float32),
        "one": np.array(1, np.float32),
        "axis": np.array([-1], np.int64),
    }
    shape: list[str | int] = ["b", "l", 4] if rank == 3 else ["b", 4]
    graph = helper.make_graph(
        nodes,
        "exported",
        [helper.make_tensor_value_info(name, kind, ["b", "l"]) for name in inputs],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def _write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "my-encoder"
    (folder / "onnx").mkdir(parents=True)
    _tokenizer(folder / "tokenizer.json")
    onnx.save(_graph(), folder / "onnx/model.onnx")
    _write(folder / "1_Pooling/config.json", {"pooling_mode_mean_tokens": True})
    _write(folder / "sentence_bert_config.json", {"max_seq_length": 16})
    return folder


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "artefact"
    folder.mkdir()
    return folder


def _adopt(source: Path, target: Path) -> dict[str, Any]:
    adopt(source, target, model_id="mine", progress=_silent)
    entry: dict[str, Any] = json.loads((target / "manifest.json").read_text(encoding="utf-8"))
    return entry


def _vectors(target: Path, name: str) -> Any:
    session = ort.InferenceSession(target / "model.onnx", providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_inputs()] == ["input_ids", "attention_mask"]
    feed = {"input_ids": np.array([[2, 3, 0]]), "attention_mask": np.array([[1, 1, 0]])}
    return session.run([name], feed)[0][0]


def test_an_exported_folder_becomes_an_artefact(source: Path, target: Path) -> None:
    entry = _adopt(source, target)
    assert entry["id"] == "mine"
    assert (entry["opset"], entry["dimensions"], entry["max_tokens"]) == (14, 4, 16)
    assert (entry["pooling"], entry["poolings"]) == ("mean", ["mean", "cls"])
    assert entry["outputs"].keys() == {"mean", "mean_raw", "cls", "cls_raw"}
    assert entry["tolerance"]["max_abs_difference"] == 1e-5
    assert entry["files"].keys() == {"model.onnx", "tokenizer.json"}
    tokenizer = Tokenizer.from_file(str(target / "tokenizer.json"))
    assert tokenizer.truncation is None
    assert tokenizer.padding is None
    assert _vectors(target, "mean_raw") == pytest.approx(TABLE[[2, 3]].mean(axis=0))
    assert _vectors(target, "cls_raw") == pytest.approx(TABLE[2])
    assert np.linalg.norm(_vectors(target, "mean")) == pytest.approx(1.0)


def test_types_are_zero_and_positions_are_counted_inside(source: Path, target: Path) -> None:
    inputs = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
    onnx.save(_graph(inputs=inputs, kind=TensorProto.INT32), source / "onnx/model.onnx")
    _adopt(source, target)
    # positions 0 and 1 add 0.5 to the mean of two tokens
    assert _vectors(target, "mean_raw") == pytest.approx(TABLE[[2, 3]].mean(axis=0) + 0.5)


@pytest.mark.parametrize("name", ["mean", "cls", "mean_raw", "/isotrope/shares/Cast"])
def test_names_that_the_graph_already_uses_do_not_clash(
    name: str, source: Path, target: Path
) -> None:
    onnx.save(_graph(inner=name), source / "onnx/model.onnx")
    _adopt(source, target)
    assert _vectors(target, "mean_raw") == pytest.approx(TABLE[[2, 3]].mean(axis=0))


def test_an_output_may_carry_the_name_of_a_pooling(source: Path, target: Path) -> None:
    onnx.save(_graph(output="cls"), source / "onnx/model.onnx")
    _adopt(source, target)
    assert _vectors(target, "mean_raw") == pytest.approx(TABLE[[2, 3]].mean(axis=0))


def test_a_graph_that_pools_itself_offers_only_that(source: Path, target: Path) -> None:
    onnx.save(_graph(output="sentence_embedding", rank=2), source / "onnx/model.onnx")
    assert _adopt(source, target)["poolings"] == ["mean"]


def test_tensors_beside_the_graph_are_brought_inside(source: Path, target: Path) -> None:
    path = source / "onnx/model.onnx"
    onnx.save(_graph(), path, save_as_external_data=True, location="weights", size_threshold=0)
    _adopt(source, target)
    assert _vectors(target, "cls_raw") == pytest.approx(TABLE[2])
    (source / "onnx/weights").unlink()
    with pytest.raises(RecipeError, match="tensors in another file"):
        _adopt(source, target)


@pytest.mark.parametrize(
    ("config", "pooling"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode": "cls"}, "cls"),
        ({"pooling_mode": "mean", "word_embedding_dimension": 4}, "mean"),
    ],
)
def test_the_pooling_comes_from_the_folder_that_modules_name(
    config: dict[str, object], pooling: str, source: Path, target: Path
) -> None:
    modules = [{"path": "", "type": "x.Transformer"}, {"path": "9_P", "type": "x.models.Pooling"}]
    _write(source / "modules.json", modules)
    _write(source / "9_P/config.json", config)
    entry = _adopt(source, target)
    assert entry["pooling"] == entry["poolings"][0] == pooling


@pytest.mark.parametrize(
    ("files", "max_tokens"),
    [
        ({"sentence_bert_config.json": {"max_seq_length": 64}}, 64),
        ({"sentence_bert_config.json": {}}, 32),
        ({"config.json": {"max_position_embeddings": 8}}, 8),
        (
            {"config.json": {"max_position_embeddings": 10, "model_type": "roberta"}},
            8,
        ),
    ],
)
def test_the_longest_text_is_the_narrowest_stated_limit(
    files: dict[str, object], max_tokens: int, source: Path, target: Path
) -> None:
    for name, content in files.items():
        _write(source / name, content)
    assert _adopt(source, target)["max_tokens"] == max_tokens


def test_prompts_become_prefixes(source: Path, target: Path) -> None:
    prompts = {"query": "query: ", "passage": "passage: ", "plain": ""}
    config = {"prompts": prompts, "default_prompt_name": "query"}
    _write(source / "config_sentence_transformers.json", config)
    entry = _adopt(source, target)
    assert entry["prefix"] == "query: "
    assert entry["prefixes"] == {"query": "query: ", "passage": "passage: "}


def test_an_encoder_that_minds_padding_says_how_much(source: Path, target: Path) -> None:
    model = _graph()
    # The largest row of the batch scales every vector: neighbours are felt.
    spread = [
        helper.make_node("ReduceMax", ["hidden"], ["loudest"], keepdims=1),
        helper.make_node("Add", ["hidden", "loudest"], ["shifted"]),
    ]
    model.graph.node[-1].input[0] = "shifted"
    nodes = [model.graph.node[0], *spread, model.graph.node[-1]]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, source / "onnx/model.onnx")
    assert _adopt(source, target)["tolerance"]["max_abs_difference"] > 1e-3


def _refusals() -> dict[str, tuple[Any, str]]:
    def save(model: onnx.ModelProto) -> Any:
        return lambda folder: onnx.save(model, folder / "onnx/model.onnx")

    def remove(name: str) -> Any:
        return lambda folder: (folder / name).unlink()

    def text(name: str, content: str) -> Any:
        return lambda folder: (folder / name).write_text(content, encoding="utf-8")

    def dense(folder: Path) -> None:
        _write(folder / "modules.json", [{"path": "2_Dense", "type": "x.models.Dense"}])

    doubled = _graph(output="embedding", inner="embedding")
    fixed = _graph()
    fixed.graph.node[-1].CopyFrom(
        helper.make_node("Reshape", ["hidden", "seven"], ["last_hidden_state"])
    )
    fixed.graph.initializer.append(numpy_helper.from_array(np.array([1, 7, 4]), "seven"))
    nan = _graph()
    nan.graph.initializer[0].CopyFrom(numpy_helper.from_array(TABLE * np.nan, "table"))
    pooling = "1_Pooling/config.json"
    return {
        "no graph": (remove("onnx/model.onnx"), "neither onnx/model.onnx nor model.onnx"),
        "no tokenizer": (remove("tokenizer.json"), "tokenizer.json is missing"),
        "not a tokenizer": (text("tokenizer.json", '{"a": 1}'), "not a tokenizer"),
        "tokenizer not json": (text("tokenizer.json", "{"), "tokenizer.json is not JSON"),
        "pooling is a list": (text(pooling, "[]"), "is to hold a JSON object"),
        "unknown pooling": (text(pooling, '{"pooling_mode_max_tokens": true}'), "max_tokens"),
        "two poolings": (
            text(pooling, '{"pooling_mode_cls_token": 1, "pooling_mode_mean_tokens": 1}'),
            "mean or cls, one of them",
        ),
        "no pooling": (text(pooling, "{}"), "of no kind"),
        "not onnx": (text("onnx/model.onnx", "hello world"), "not an ONNX file"),
        "empty onnx": (text("onnx/model.onnx", ""), "not an ONNX file"),
        "a further step": (dense, "none of it can be served"),
        "old opset": (save(_graph(opset=9)), "opset 9"),
        "no mask": (save(_graph(inputs=("input_ids",))), "must take input_ids and attention_mask"),
        "unknown input": (
            save(_graph(inputs=("input_ids", "attention_mask", "pixels"))),
            "nothing else",
        ),
        "real inputs": (save(_graph(kind=TensorProto.FLOAT)), "not of whole numbers"),
        "made twice": (save(doubled), "cannot load"),
        "one shape only": (save(fixed), "fails on a batch"),
        "not finite": (save(nan), "not finite"),
    }


REFUSALS = _refusals()


@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_be_served_is_refused_with_a_reason(
    case: str, source: Path, target: Path
) -> None:
    spoil, reason = REFUSALS[case]
    spoil(source)
    with pytest.raises(RecipeError, match=reason):
        _adopt(source, target)
    assert not (target / "manifest.json").exists()


def test_an_output_that_holds_no_vectors_is_refused(source: Path, target: Path) -> None:
    model = _graph()
    model.graph.node[-1].CopyFrom(helper.make_node("Shape", ["hidden"], ["sizes"]))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("sizes", TensorProto.INT64, [3]))
    onnx.save(model, source / "onnx/model.onnx")
    with pytest.raises(RecipeError, match="the graph gives sizes"):
        _adopt(source, target)


def test_a_missing_folder_is_refused(tmp_path: Path, target: Path) -> None:
    with pytest.raises(RecipeError, match="is not a folder"):
        _adopt(tmp_path / "nowhere", target)


def test_a_graph_beyond_what_one_file_holds_is_refused(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adoption, "LARGEST_FILE_BYTES", 10)
    with pytest.raises(RecipeError, match="at most 10"):
        _adopt(source, target)
