"""Compare the built multilingual encoders with their sources and with plain NumPy.

`golden/multilingual_ids.json` holds the ids that the packers' own tokenizers give,
`golden/multilingual_vectors.json` what the packers' own engines compute (base64, float32,
little-endian; the e5 engine rounds activations to int8).
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper
from tokenizers import Tokenizer

from tests.support.e5_files import reference_poolings
from tests.support.graphs import open_graph, run_graph

E5, USE = "multilingual-e5-small", "use-multilingual-3"
MODELS = (E5, USE)
GOLDEN = Path(__file__).parent / "golden"
IDS = json.loads((GOLDEN / "multilingual_ids.json").read_text(encoding="utf-8"))
VECTORS = json.loads((GOLDEN / "multilingual_vectors.json").read_text(encoding="utf-8"))
TEXTS = [case["text"] for case in IDS]


@dataclass(frozen=True, slots=True)
class Encoder:
    """Hold one built model, opened."""

    folder: Path
    entry: dict[str, Any]
    tokenizer: Tokenizer
    session: onnxruntime.InferenceSession

    def ids(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(self.entry["prefix"] + text).ids)

    def vectors(self, texts: list[str], output: str = "mean") -> NDArray[np.float32]:
        return run_graph(self.session, [self.ids(text) for text in texts], output)[0]


@pytest.fixture(scope="module")
def encoders(models_dir: Path) -> dict[str, Encoder]:
    opened = {}
    for model in MODELS:
        folder = models_dir / model
        if not (folder / "manifest.json").is_file():
            pytest.fail(f"There is no {model} to test with: run `isotrope models build {model}`.")
        entry = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        opened[model] = Encoder(folder, entry, tokenizer, open_graph(str(folder / "model.onnx")))
    return opened


@pytest.mark.parametrize("model", MODELS)
def test_ids_are_those_of_the_source(encoders: dict[str, Encoder], model: str) -> None:
    assert len(IDS) >= 40
    for case in IDS:
        assert encoders[model].ids(case["text"]) == case[model], case["text"]


def test_published_ids_of_the_vocabulary(encoders: dict[str, Encoder]) -> None:
    # XLM-RoBERTa's well-known ids.
    assert encoders[E5].tokenizer.encode("Hello world!").ids == [0, 35378, 8999, 38, 2]


@pytest.mark.parametrize(("model", "least", "largest"), [(E5, 0.9995, 5e-3), (USE, 1 - 1e-6, 1e-6)])
def test_vectors_are_those_of_the_source(
    encoders: dict[str, Encoder], model: str, least: float, largest: float
) -> None:
    assert len(VECTORS) >= 8
    found = encoders[model].vectors([case["text"] for case in VECTORS])
    for case, vector in zip(VECTORS, found, strict=True):
        expected = np.frombuffer(base64.b64decode(case[model]), dtype="<f4")
        assert vector @ expected >= least
        np.testing.assert_allclose(vector, expected, atol=largest)


@pytest.mark.parametrize("model", MODELS)
def test_neighbours_and_padding_change_nothing(encoders: dict[str, Encoder], model: str) -> None:
    encoder = encoders[model]
    names = list(encoder.entry["outputs"])
    texts = [*TEXTS, " ".join(TEXTS[22:26]), *TEXTS][:64]
    rows = [encoder.ids(text) for text in texts]
    together = run_graph(encoder.session, rows, *names)
    for index in range(0, 64, 6):
        alone = run_graph(encoder.session, [rows[index]], *names)
        for name, many, one in zip(names, together, alone, strict=True):
            largest = 5e-6 if name.endswith("_raw") else 1e-6
            np.testing.assert_allclose(many[index], one[0], atol=largest, err_msg=name)


@pytest.mark.parametrize("model", MODELS)
def test_raw_and_unit_vectors_agree(encoders: dict[str, Encoder], model: str) -> None:
    encoder = encoders[model]
    for pooling in encoder.entry["poolings"]:
        raw = encoder.vectors(TEXTS[:6], f"{pooling}_raw")
        unit = encoder.vectors(TEXTS[:6], pooling)
        assert raw.shape == (6, encoder.entry["dimensions"])
        expected = raw / np.linalg.norm(raw, axis=1, keepdims=True)
        np.testing.assert_allclose(unit, expected, atol=1e-6)


@pytest.mark.parametrize("model", MODELS)
def test_special_pieces_are_plain_text(encoders: dict[str, Encoder], model: str) -> None:
    encoder = encoders[model]
    vocabulary = {piece: i for i, (piece, _) in enumerate(_vocabulary(encoder))}
    forbidden = {i for piece, i in vocabulary.items() if piece.startswith(" ")}
    assert len(forbidden) >= 5
    unknown = json.loads((encoder.folder / "tokenizer.json").read_bytes())["model"]["unk_id"]
    spellings = [piece.strip() for piece in vocabulary if piece.startswith(" ")]
    for spelling in spellings:
        for text in (spelling, f"a{spelling}b", f"今天 {spelling}", f"\u0001{spelling}"):
            inner = encoder.tokenizer.encode(text, add_special_tokens=False).ids
            assert not (forbidden - {unknown}) & set(inner), text


@pytest.mark.parametrize("model", MODELS)
def test_spaces_around_and_within_do_not_count(encoders: dict[str, Encoder], model: str) -> None:
    encoder = encoders[model]
    assert encoder.ids("  two \t words\n ") == encoder.ids("two words")
    assert len(encoder.tokenizer.encode("").ids) == 2
    assert len(encoder.tokenizer.encode(" \n").ids) == 2


@pytest.mark.parametrize("model", MODELS)
def test_decomposed_accents_are_composed(encoders: dict[str, Encoder], model: str) -> None:
    encoder = encoders[model]
    for composed, decomposed in (
        ("café", "cafe\u0301"),
        ("서울", "\u1109\u1165\u110b\u116e\u11af"),
        ("ガス", "カ\u3099ス"),
    ):
        assert encoder.ids(decomposed) == encoder.ids(composed)


@pytest.mark.parametrize("model", MODELS)
def test_hostile_text_is_encoded(encoders: dict[str, Encoder], model: str) -> None:
    encoder = encoders[model]
    texts = ["\0", "a\0b", "\u200d\ufeff", "😀👨‍👩‍👧", "\U0010ffff", "▁▁", "字" * 300]
    vectors = encoder.vectors(texts)
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_4_bit_stays_close_to_plain_float(encoders: dict[str, Encoder]) -> None:
    encoder = encoders[E5]
    weights = _unpacked(encoder.folder / "model.onnx")
    for text in [case["text"] for case in (VECTORS[0], VECTORS[-1])]:
        expected = reference_poolings(weights, encoder.ids(text), heads=12, layers=12)
        for pooling, raw in expected.items():
            vector = encoder.vectors([text], pooling)[0]
            assert vector @ (raw / np.linalg.norm(raw)) >= 0.9995, pooling


def test_translations_meet(encoders: dict[str, Encoder]) -> None:
    # The first 20 Chinese sentences of the list and their English versions, in one order.
    for model, bar in ((E5, 0.9), (USE, 0.95)):
        chinese = encoders[model].vectors(TEXTS[:20])
        english = encoders[model].vectors(TEXTS[22:42])
        nearest = np.argmax(english @ chinese.T, axis=1)
        assert np.mean(nearest == np.arange(20)) >= bar, model


def test_sizes_keep_their_bars(encoders: dict[str, Encoder]) -> None:
    assert (encoders[E5].folder / "model.onnx").stat().st_size <= 70_000_000
    assert (encoders[USE].folder / "model.onnx").stat().st_size <= 80_000_000
    for encoder in encoders.values():
        assert (encoder.folder / "NOTICE").is_file()


def _vocabulary(encoder: Encoder) -> list[tuple[str, float]]:
    described = json.loads((encoder.folder / "tokenizer.json").read_bytes())
    return [(piece, score) for piece, score in described["model"]["vocab"]]


def _unpacked(path: Path) -> dict[str, NDArray[np.float64]]:
    """Return the weights of the 4-bit graph in float64, under the names of the packed file."""
    graph = onnx.load(path).graph
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    halves = found["/embeddings/word/codes"]
    codes = np.concatenate([halves & 15, halves >> 4], axis=-1).astype(np.float32) - 8
    scales = found["/embeddings/word/scales"].astype(np.float32)
    weights: dict[str, Any] = {
        "emb.word": (codes * scales[..., None]).reshape(len(halves), -1),
        "emb.pos": found["/embeddings/position/table"],
        # The row of type 0 is already part of the positions.
        "emb.type": np.zeros((1, 384)),
        "emb.ln.w": found["/embeddings/norm/scale"],
        "emb.ln.b": found["/embeddings/norm/bias"],
    }
    parts = {"q": "attention/query", "k": "attention/key", "v": "attention/value"}
    parts |= {"ao": "attention/output", "fi": "feed_forward/inner", "fo": "feed_forward/outer"}
    for layer in range(12):
        place = f"/encoder/layers.{layer}"
        for short, part in parts.items():
            pairs = found[f"{place}/{part}/codes"]
            codes = np.stack([pairs & 15, pairs >> 4], axis=-1).astype(np.float32) - 8
            codes = codes.reshape(*pairs.shape[:2], 32)
            matrix = codes * found[f"{place}/{part}/scales"].reshape(*pairs.shape[:2], 1)
            factor = 32**0.5 if short == "q" else 1.0
            weights[f"l{layer}.{short}.w"] = matrix.reshape(len(pairs), -1) * factor
            weights[f"l{layer}.{short}.b"] = found[f"{place}/{part}/bias"] * factor
        for short, part in {"aln": "attention/norm", "oln": "feed_forward/norm"}.items():
            weights[f"l{layer}.{short}.w"] = found[f"{place}/{part}/scale"]
            weights[f"l{layer}.{short}.b"] = found[f"{place}/{part}/bias"]
    return {name: array.astype(np.float64) for name, array in weights.items()}
