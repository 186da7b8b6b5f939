"""Build a whole Llama-shaped decoder: norms, attention, SwiGLU, residuals, tied head.

```
input_ids ─ embed ┬ norm ─ attention ─ Add ┬ norm ─ SwiGLU ─ Add ┬ … ─ norm ─ head ─ logits
                  └────────────────────┘   └─────────────────┘
```
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.decoder.attention import Attended, attention
from models.decoder.description import Form, Sizes, cache_shapes
from models.decoder.inputs import END, Inputs, take_inputs
from models.decoder.source import Source
from models.graph import GraphBuilder


def decoder_graph(name: str, *, sizes: Sizes, form: Form, source: Source) -> GraphBuilder:
    """Return one variant's graph, with the inputs and outputs that `docs/decisions/0023` names."""
    graph = GraphBuilder(name)
    inputs = take_inputs(graph, sizes=sizes, form=form)
    hidden = source.embed(graph.at("embedding"), inputs.ids)
    attended = []
    for layer in range(sizes.layers):
        place = graph.at(f"layers.{layer}")
        normed = norm(place.at("attention/norm"), hidden, sizes=sizes, source=source,
                      name=f"layers.{layer}/attention/norm")  # fmt: skip
        given = attention(
            place.at("attention"), normed,
            layer=layer, sizes=sizes, form=form, source=source, inputs=inputs,
        )  # fmt: skip
        attended.append(given)
        hidden = place.at("attention").apply("Add", hidden, given.output)
        fed = feed_forward(
            place.at("feed_forward"), hidden, layer=layer, sizes=sizes, source=source
        )
        hidden = place.at("feed_forward").apply("Add", hidden, fed)
    logits = _logits(graph.at("head"), hidden, sizes=sizes, source=source, inputs=inputs)
    _give(graph, logits, attended, sizes=sizes, form=form)
    return graph


def norm(graph: GraphBuilder, hidden: str, *, sizes: Sizes, source: Source, name: str) -> str:
    """Return `hidden` at mean square 1 over its last axis, scaled."""
    scale = source.tensor(graph, name)
    return graph.apply("RMSNormalization", hidden, scale, axis=-1, epsilon=sizes.epsilon)


def feed_forward(
    graph: GraphBuilder, hidden: str, *, layer: int, sizes: Sizes, source: Source
) -> str:
    """Return down(silu(gate x) * up x) for x = norm(hidden), without the residual."""
    name = f"layers.{layer}/feed_forward/norm"
    normed = norm(graph.at("norm"), hidden, sizes=sizes, source=source, name=name)
    gate, up = (
        source.project(graph.at(part), normed, layer=layer, part=f"feed_forward/{part}")
        for part in ("gate", "up")
    )
    active = graph.apply("Mul", gate, graph.apply("Sigmoid", gate))
    gated = graph.apply("Mul", active, up)
    return source.project(graph.at("down"), gated, layer=layer, part="feed_forward/down")


def _logits(
    graph: GraphBuilder, hidden: str, *, sizes: Sizes, source: Source, inputs: Inputs
) -> str:
    # Rows that nobody asked for are cut before the head, the widest product of the graph.
    end = graph.constant("end", np.array([END], dtype=np.int64))
    axis = graph.constant("axis", np.array([1], dtype=np.int64))
    wanted = graph.apply("Slice", hidden, inputs.logits_from, end, axis)
    return source.head(
        graph, norm(graph.at("norm"), wanted, sizes=sizes, source=source, name="norm")
    )


def _give(
    graph: GraphBuilder, logits: str, attended: Sequence[Attended], *, sizes: Sizes, form: Form
) -> None:
    def give(name: str, value: str, *shape: int | str) -> None:
        graph.give(name, value, dtype=np.float32, shape=shape)

    give("logits", logits, "batch", "rows", sizes.vocabulary)
    for layer, given in enumerate(attended):
        for part, (heads, width) in cache_shapes(sizes, form).items():
            give(f"present.{layer}.{part}", given.present[part], "batch", heads, "total", width)
    place = graph.at("entropy")
    axis = place.constant("axis", np.array([0], dtype=np.int64))
    rows = [place.apply("Unsqueeze", given.entropy, axis) for given in attended]
    entropy = place.apply("Concat", *rows, axis=0)
    give("entropy", entropy, sizes.layers, "batch", sizes.q_heads, "sequence")
    for layer in sorted(form.tapped):
        for part, value in attended[layer].taps.items():
            heads = sizes.q_heads if part == "query" else form.kv_heads
            give(f"{part}.{layer}", value, "batch", heads, "sequence", sizes.head_dim)
