"""Write a decoder the way exporters do: positions and a mask go in, angles are made inside."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.decoder.description import Form, Sizes
from models.decoder.storage import DataFile
from tests.support.byte_pairs import trained_tokenizer
from tests.support.decoders import FORMS, MAX_TOKENS, ROPE_BASE, SIZES, build_graph, random_weights

FORM: Form = replace(FORMS["gqa"], tapped=frozenset())
_OURS = ("q_cos", "q_sin", "k_cos", "k_sin", "q_scale", "logits_from")
PARTS = [f"{layer}.{part}" for layer in range(SIZES.layers) for part in ("key", "value")]


def export_sizes() -> Sizes:
    """Return the tiny decoder's sizes, with the trained tokenizer's vocabulary."""
    return replace(SIZES, vocabulary=len(trained_tokenizer().pieces.texts))


def write_decoder_export(folder: Path) -> Path:
    """Write `model.onnx`, `tokenizer.json`, `config.json`; beside them, `gqa.onnx` is the twin.

    The twin is the same decoder under our own names, to compare with; adoption ignores it.
    """
    folder.mkdir(parents=True)
    twin = folder / "twin"
    twin.mkdir()
    sizes = export_sizes()
    weights = random_weights(sizes, FORM)
    path = build_graph(twin, "gqa", sizes=sizes, form=FORM, weights=weights, file=DataFile("g.bin"))
    model = onnx.load(path)
    _turn_around(model)
    onnx.checker.check_model(model)
    onnx.save(model, folder / "model.onnx")
    (folder / "tokenizer.json").write_text(trained_tokenizer().tokenizer.to_str())
    (folder / "config.json").write_text(json.dumps(config()))
    (folder / "tokenizer_config.json").write_text(json.dumps({"add_bos_token": False}))
    return folder


def config() -> dict[str, Any]:
    """Return what the exported folder says of itself."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "num_attention_heads": SIZES.q_heads,
        "num_key_value_heads": FORM.kv_heads,
        "hidden_size": SIZES.hidden,
        "max_position_embeddings": MAX_TOKENS,
        "rope_theta": ROPE_BASE,
        "eos_token_id": export_sizes().vocabulary - 1,
        "bos_token_id": None,
    }


def _turn_around(model: onnx.ModelProto) -> None:
    """Replace our inputs by those of an exporter."""
    graph = model.graph
    pairs = SIZES.head_dim // 2
    speeds = ROPE_BASE ** (-np.arange(pairs) / pairs)
    angles = np.arange(MAX_TOKENS)[:, np.newaxis] * speeds
    for name, of in (("cos", np.cos), ("sin", np.sin)):
        table = numpy_helper.from_array(of(angles).astype(np.float32), f"table_{name}")
        graph.initializer.append(table)
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.zeros(1, np.int64), "logits_from"),
            numpy_helper.from_array(np.array([2], np.int64), "last_axis"),
            numpy_helper.from_array(np.array([1], np.int64), "token_axis"),
        ]
    )
    make = helper.make_node
    before = [
        make("Gather", [f"table_{of}", "position_ids"], [f"{side}_{of}"])
        for side in "qk"
        for of in ("cos", "sin")
    ]
    # a mask of ones gives 1; anything else would show in the logits
    before += [
        make("ReduceMin", ["attention_mask", "token_axis"], ["least"], keepdims=1),
        make("Shape", ["input_ids"], ["ids_shape"]),
        make("Expand", ["least", "ids_shape"], ["least_rows"]),
        make("Cast", ["least_rows"], ["factor"], to=TensorProto.FLOAT),
        make("Unsqueeze", ["factor", "last_axis"], ["q_scale"]),
    ]
    before += [make("Identity", [f"past_key_values.{part}"], [f"past.{part}"]) for part in PARTS]
    own = list(graph.node)
    del graph.node[:]
    graph.node.extend([*before, *own])
    value = helper.make_tensor_value_info
    cache = ["batch", FORM.kv_heads, "past_length", SIZES.head_dim]
    inputs = [
        value("input_ids", TensorProto.INT64, ["batch", "new"]),
        value("attention_mask", TensorProto.INT64, ["batch", "all"]),
        value("position_ids", TensorProto.INT64, ["batch", "new"]),
        *(value(f"past_key_values.{part}", TensorProto.FLOAT, cache) for part in PARTS),
    ]
    outputs = [each for each in graph.output if each.name != "entropy"]
    del graph.input[:], graph.output[:]
    graph.input.extend(inputs)
    graph.output.extend(outputs)
