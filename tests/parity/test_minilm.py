"""Compare the MiniLM artefacts with a forward pass written here, in NumPy, from the weights."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper
from tokenizers import Tokenizer

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime as ort

FP32, INT8 = "all-MiniLM-L6-v2", "all-MiniLM-L6-v2-int8"
HEADS = 12
TEXTS = [
    "A plane is taking off.",
    "An old man with a guitar sings in the street while two children listen to him.",
    "机器学习 mixed with English",
    "",
    "Prices rose 3.5% in 2024 — the fastest since 1991.",
]
POOLINGS = ["mean", "cls", "first_last", "embedding"]
Vectors = dict[str, NDArray[np.float64]]
_erf = np.vectorize(math.erf)


def _weights(folder: Path) -> dict[str, NDArray[np.float64]]:
    graph = onnx.load(folder / "model.onnx").graph
    return {
        tensor.name: numpy_helper.to_array(tensor).astype(np.float64)
        for tensor in graph.initializer
        if tensor.name.startswith(("/embeddings", "/encoder"))
    }


def _norm(x: NDArray[np.float64], weights: Vectors, name: str) -> NDArray[np.float64]:
    centred = x - x.mean(axis=-1, keepdims=True)
    spread = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-12)
    scaled: NDArray[np.float64] = centred / spread * weights[f"{name}/scale"]
    return scaled + weights[f"{name}/bias"]


def _layer(x: NDArray[np.float64], weights: Vectors, name: str) -> NDArray[np.float64]:
    def dense(value: NDArray[np.float64], part: str) -> NDArray[np.float64]:
        return value @ weights[f"{name}/{part}/weight"] + weights[f"{name}/{part}/bias"]

    length, width = x.shape
    q, k, v = (
        dense(x, f"attention/{part}").reshape(length, HEADS, width // HEADS).transpose(1, 0, 2)
        for part in ("query", "key", "value")
    )
    scores = q @ k.transpose(0, 2, 1)
    shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
    shares /= shares.sum(axis=-1, keepdims=True)
    context = (shares @ v).transpose(1, 0, 2).reshape(length, width)
    x = _norm(x + dense(context, "attention/output"), weights, f"{name}/attention/norm")
    inner = dense(x, "feed_forward/inner")
    inner = inner * 0.5 * (1.0 + _erf(inner / math.sqrt(2.0)))
    return _norm(x + dense(inner, "feed_forward/outer"), weights, f"{name}/feed_forward/norm")


def reference(ids: list[int], weights: Vectors) -> Vectors:
    """Return the raw vectors of one text, computed in float64 without padding or mask."""
    x = weights["/embeddings/words/table"][ids]
    x = _norm(x + weights["/embeddings/positions/table"][: len(ids)], weights, "/embeddings/norm")
    embedded, outputs = x, []
    for layer in range(6):
        x = _layer(x, weights, f"/encoder/layers.{layer}")
        outputs.append(x)
    return {
        "mean": x.mean(axis=0),
        "cls": x[0],
        "first_last": (outputs[0] + x).mean(axis=0) / 2,
        "embedding": embedded.mean(axis=0),
    }


def _session(folder: Path) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])


def _batch(rows: list[list[int]], *, length: int = 0) -> dict[str, NDArray[np.int64]]:
    length = max(length, *map(len, rows))
    ids, mask = np.zeros((2, len(rows), length), dtype=np.int64)
    for index, row in enumerate(rows):
        ids[index, : len(row)], mask[index, : len(row)] = row, 1
    return {"input_ids": ids, "attention_mask": mask}


@pytest.fixture(scope="module")
def rows(models_dir: Path) -> list[list[int]]:
    tokenizer = Tokenizer.from_file(str(models_dir / FP32 / "tokenizer.json"))
    return [encoding.ids for encoding in tokenizer.encode_batch(TEXTS)]


@pytest.fixture(scope="module")
def expected(models_dir: Path, rows: list[list[int]]) -> list[Vectors]:
    weights = _weights(models_dir / FP32)
    return [reference(row, weights) for row in rows]


def test_tokenizer_adds_the_special_tokens_and_neither_cuts_nor_pads(
    rows: list[list[int]], models_dir: Path
) -> None:
    tokenizer = Tokenizer.from_file(str(models_dir / FP32 / "tokenizer.json"))
    assert rows[3] == [101, 102]
    assert tokenizer.truncation is None
    assert tokenizer.padding is None
    assert len(tokenizer.encode("word " * 700).ids) == 702


@pytest.mark.parametrize("model_id", [FP32, INT8])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_vectors_equal_the_numpy_forward_pass(
    model_id: str,
    pooling: str,
    models_dir: Path,
    rows: list[list[int]],
    expected: list[Vectors],
) -> None:
    entry = json.loads((models_dir / model_id / "manifest.json").read_text(encoding="utf-8"))
    unit, raw = _session(models_dir / model_id).run([pooling, f"{pooling}_raw"], _batch(rows))
    wanted = np.stack([vectors[pooling] for vectors in expected])
    lengths = np.linalg.norm(wanted, axis=1, keepdims=True)
    tolerance = entry["tolerance"]["max_abs_difference"]
    assert unit.dtype == np.float32
    assert np.abs(unit - wanted / lengths).max() <= tolerance
    assert np.abs(raw - wanted).max() <= tolerance * lengths.max()


@pytest.mark.parametrize("model_id", [FP32, INT8])
def test_a_text_among_63_others_keeps_its_vectors(model_id: str, models_dir: Path) -> None:
    session = _session(models_dir / model_id)
    rng = np.random.default_rng(7)
    lengths = rng.integers(3, 60, size=64)
    texts = [[101, *rng.integers(1000, 30000, size=n).tolist(), 102] for n in lengths]
    names = [output.name for output in session.get_outputs()]
    together = session.run(names, _batch(texts, length=80))
    for index in (0, int(lengths.argmin()), int(lengths.argmax()), 63):
        alone = session.run(names, _batch([texts[index]]))
        for name, one, all_of_them in zip(names, alone, together, strict=True):
            scale = 1.0 if not name.endswith("_raw") else float(np.linalg.norm(one))
            assert np.abs(one[0] - all_of_them[index]).max() <= 1e-5 * scale, name


def test_int8_stays_close_to_float32(models_dir: Path, rows: list[list[int]]) -> None:
    exact, coarse = (
        _session(models_dir / model_id).run(["mean"], _batch(rows))[0] for model_id in (FP32, INT8)
    )
    assert (exact * coarse).sum(axis=1).min() > 0.97


def test_the_whole_numbers_of_int8_fit_processors_that_add_pairs_in_16_bits(
    models_dir: Path,
) -> None:
    graph = onnx.load(models_dir / INT8 / "model.onnx").graph
    weights = [
        numpy_helper.to_array(tensor)
        for tensor in graph.initializer
        if tensor.name.endswith("/weight")
    ]
    assert len(weights) == 36
    assert all(np.abs(weight.astype(np.int32)).max() == 63 for weight in weights)
