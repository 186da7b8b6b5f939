"""Make each peer's own virtual environment and infinity's model folder, under `.cache/peers`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper
from tokenizers import Tokenizer

from benchmarks.contestants import CACHE, INFINITY_MODEL, graph_sha256, model_folder

_PINS = Path(__file__).parent
_LEAST_COSINE = 0.99999
_PROBES = ("a short text", "Another, rather longer one: it has commas, and it ends here.")
# What transformers wants to know of the architecture; the weights are in the graph.
_CONFIG = {
    "architectures": ["BertModel"], "model_type": "bert", "hidden_act": "gelu",
    "hidden_size": 384, "intermediate_size": 1536, "num_attention_heads": 12,
    "num_hidden_layers": 6, "layer_norm_eps": 1e-12, "max_position_embeddings": 512,
    "type_vocab_size": 2, "vocab_size": 30522, "pad_token_id": 0,
}  # fmt: skip
_TOKENIZER_CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 512,
    "model_input_names": ["input_ids", "attention_mask"], "unk_token": "[UNK]",
    "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]", "mask_token": "[MASK]",
}  # fmt: skip


class WrongModelError(RuntimeError):
    """The graph made for infinity does not give our vectors."""


def set_up() -> None:
    """Make whatever is missing; an environment whose pins changed is made again."""
    for peer in ("infinity", "litserve"):
        make_environment(peer)
    make_infinity_model()


def make_environment(peer: str) -> None:
    """Install a peer from its pins, unless that was done before."""
    folder = CACHE / peer
    pins = _PINS / f"{peer}.txt"
    stamp = folder / "installed.txt"
    if stamp.is_file() and stamp.read_text() == pins.read_text():
        sys.stdout.write(f"{peer}: there already\n")
        return
    sys.stdout.write(f"{peer}: installing\n")
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    for line in pins.read_text().splitlines():
        if line.startswith("torch=="):  # alone, so that pip takes the build meant for this machine
            subprocess.run([*pip, line], check=True)
    subprocess.run([*pip, "--requirement", str(pins)], check=True)
    stamp.write_text(pins.read_text())


def make_infinity_model() -> None:
    """Write a folder that infinity reads: our graph up to the token vectors, which it pools.

    Raises:
        WrongModelError: pooled, they differ from our vectors.
    """
    ours = model_folder()
    shutil.rmtree(INFINITY_MODEL, ignore_errors=True)
    INFINITY_MODEL.mkdir(parents=True)
    onnx.save(
        cut_at_tokens(onnx.load(str(ours / "model.onnx"))), str(INFINITY_MODEL / "model.onnx")
    )
    shutil.copy(ours / "tokenizer.json", INFINITY_MODEL / "tokenizer.json")
    (INFINITY_MODEL / "config.json").write_text(json.dumps(_CONFIG))
    (INFINITY_MODEL / "tokenizer_config.json").write_text(json.dumps(_TOKENIZER_CONFIG))
    cosine = least_cosine(ours, INFINITY_MODEL)
    if cosine < _LEAST_COSINE:
        raise WrongModelError(f"infinity's graph gives a cosine of {cosine:.6f} to ours.")
    (INFINITY_MODEL / "made_from.txt").write_text(graph_sha256())
    sys.stdout.write(f"infinity's model: cosine to ours at least {cosine:.7f}\n")


def cut_at_tokens(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph without its poolings; the output is `last_hidden_state`.

    The last layer norm gives the token vectors; nodes are in order of use, so it is the last of
    its kind.
    """
    graph = model.graph
    tokens = next(
        node.output[0] for node in reversed(graph.node) if node.op_type == "LayerNormalization"
    )
    named = helper.make_node("Identity", [tokens], ["last_hidden_state"], name="last_hidden_state")
    graph.node.append(named)
    needed, kept = {"last_hidden_state"}, []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    constants = [constant for constant in graph.initializer if constant.name in needed]
    del graph.node[:], graph.initializer[:], graph.output[:], graph.value_info[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(constants)
    shape: list[str | int | None] = ["batch", "length", 384]
    graph.output.append(
        helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, shape)
    )
    onnx.checker.check_model(model)
    return model


def least_cosine(ours: Path, theirs: Path) -> float:
    """Return the smallest cosine between our vectors and the pooled token vectors of the cut."""
    tokenizer = Tokenizer.from_file(str(ours / "tokenizer.json"))
    tokenizer.enable_padding()
    found = tokenizer.encode_batch(list(_PROBES))
    feed = {
        "input_ids": np.array([one.ids for one in found], dtype=np.int64),
        "attention_mask": np.array([one.attention_mask for one in found], dtype=np.int64),
    }
    [vectors] = _open(ours).run(["mean"], feed)
    [tokens] = _open(theirs).run(["last_hidden_state"], feed)
    weights = feed["attention_mask"][:, :, np.newaxis]
    pooled = (np.asarray(tokens, dtype=np.float64) * weights).sum(axis=1) / weights.sum(axis=1)
    pooled /= np.linalg.norm(pooled, axis=1, keepdims=True)
    return float((pooled * np.asarray(vectors)).sum(axis=1).min())


def _open(folder: Path) -> ort.InferenceSession:
    return ort.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
