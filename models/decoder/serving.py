"""Build the fast graph: many sequences of different lengths at once, 8-bit activations.

It reads the bytes of the float graphs. What makes it fast, each measured (decision 0027):

- query, key and value are one product, and so are gate and up;
- the body runs on (B S, hidden), so that a product's correction is one Gemm with its result;
- a residual and the norm after it are one node;
- GroupQueryAttention writes new keys and values into the memory that holds the old ones;
- activations are rounded to 8 bits, one scale for 32 numbers, before each product.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from models.decoder.description import Sizes
from models.decoder.inputs import END
from models.decoder.packed import PackedWeights
from models.decoder.storage import DataFile
from models.gguf.blocks import BLOCK
from models.graph import CONTRIB_DOMAIN, GraphBuilder

# Of MatMulNBits: activations in 8 bits.
_EIGHT_BITS = 4
_PAIRS = 2


def serving_graph(
    name: str, *, sizes: Sizes, kv_heads: int, weights: PackedWeights, file: DataFile
) -> GraphBuilder:
    """Return the serving graph, with the inputs and outputs that `docs/decisions/0023` names."""
    graph = GraphBuilder(name)
    build = _Serving(graph, sizes, kv_heads, weights, file)
    build.take()
    hidden = build.embed()
    width = graph.constant("width", np.array([-1, sizes.hidden], dtype=np.int64))
    hidden = graph.apply("Reshape", hidden, width)
    place = graph.at("layers.0/attention/norm")
    scale = build.vector(place, "layers.0/attention/norm")
    normed = place.apply("RMSNormalization", hidden, scale, axis=-1, epsilon=sizes.epsilon)
    for layer in range(sizes.layers):
        place, part = graph.at(f"layers.{layer}"), f"layers.{layer}"
        added = build.attention(place.at("attention"), normed, layer=layer)
        normed, hidden = build.add_and_norm(
            place.at("feed_forward/norm"), hidden, added, f"{part}/feed_forward/norm"
        )
        added = build.feed_forward(place.at("feed_forward"), normed, layer=layer)
        last = layer == sizes.layers - 1
        after = "norm" if last else f"layers.{layer + 1}/attention/norm"
        normed, hidden = build.add_and_norm(graph.at(after), hidden, added, after)
    build.give(graph.at("head"), normed)
    return graph


@dataclass(slots=True)
class _Serving:
    """Hold what the parts of the graph share."""

    graph: GraphBuilder
    sizes: Sizes
    kv_heads: int
    weights: PackedWeights
    file: DataFile
    present: dict[tuple[int, str], str] = field(default_factory=dict)

    def take(self) -> None:
        """Declare the inputs."""
        sizes, take = self.sizes, self.graph.take
        take("input_ids", dtype=np.int64, shape=("batch", "sequence"))
        for table in ("q_cos", "q_sin", "k_cos", "k_sin"):
            columns = sizes.head_dim // _PAIRS
            take(table, dtype=np.float32, shape=("batch", "sequence", columns))
        take("seqlens_k", dtype=np.int32, shape=("batch",))
        take("total_length", dtype=np.int32, shape=(1,))
        take("logits_from", dtype=np.int64, shape=(1,))
        for layer in range(sizes.layers):
            for part in ("key", "value"):
                take(f"past.{layer}.{part}", dtype=np.float32, shape=self._cache_shape())

    def embed(self) -> str:
        """Return the rows of the token table, (B, S, hidden)."""
        place = self.graph.at("embedding")
        table = self.weights.table
        whole, scale = (
            place.apply("Gather", self.file.refer(place, name, array), "input_ids", axis=0)
            for name, array in (("table/whole", table.whole), ("table/scale", table.scale))
        )
        middle = place.constant("middle", np.array(128, dtype=np.float32))
        centred = place.apply("Sub", place.apply("Cast", whole, to=1), middle)
        last = place.constant("last", np.array([-1], dtype=np.int64))
        return place.apply("Mul", centred, place.apply("Unsqueeze", scale, last))

    def attention(self, graph: GraphBuilder, normed: str, *, layer: int) -> str:
        """Return one layer's attention, (B S, hidden), without the residual."""
        sizes = self.sizes
        product = self.product(graph.at("qkv"), normed, f"layers.{layer}/attention/qkv")
        shape = graph.apply("Shape", "input_ids")
        rest = graph.constant("rest", np.array([-1], dtype=np.int64))
        rows = graph.apply("Reshape", product, graph.apply("Concat", shape, rest, axis=0))
        own = self.kv_heads * sizes.head_dim
        widths = np.array([sizes.q_heads * sizes.head_dim, own, own], dtype=np.int64)
        query, key, value = graph.apply_many(
            "Split", rows, graph.constant("widths", widths), outputs=3, axis=-1
        )
        query, key = (
            graph.at(name).apply(
                "RotaryEmbedding", each, f"{name[0]}_cos", f"{name[0]}_sin",
                num_heads=heads, interleaved=sizes.interleaved,
            )
            for name, each, heads in (
                ("query", query, sizes.q_heads),
                ("key", key, self.kv_heads),
            )
        )  # fmt: skip
        context, keys, values = graph.apply_many(
            "GroupQueryAttention", query, key, value,
            f"past.{layer}.key", f"past.{layer}.value", "seqlens_k", "total_length",
            outputs=3, domain=CONTRIB_DOMAIN, num_heads=sizes.q_heads,
            kv_num_heads=self.kv_heads, scale=float(1 / np.sqrt(sizes.head_dim)),
        )  # fmt: skip
        self.present[layer, "key"], self.present[layer, "value"] = keys, values
        width = graph.constant("width", np.array([-1, int(widths[0])], dtype=np.int64))
        flat = graph.apply("Reshape", context, width)
        return self.product(graph.at("output"), flat, f"layers.{layer}/attention/output")

    def feed_forward(self, graph: GraphBuilder, normed: str, *, layer: int) -> str:
        """Return down(silu(gate x) * up x), without the residual."""
        place = f"layers.{layer}/feed_forward"
        both = self.product(graph.at("gate_up"), normed, f"{place}/gate_up")
        gate, up = graph.apply_many("Split", both, outputs=2, axis=-1, num_outputs=2)
        # At alpha 1 this is x · sigmoid(x).
        active = graph.apply("QuickGelu", gate, domain=CONTRIB_DOMAIN, alpha=1.0)
        return self.product(graph.at("down"), graph.apply("Mul", active, up), f"{place}/down")

    def add_and_norm(
        self, graph: GraphBuilder, hidden: str, added: str, name: str
    ) -> tuple[str, str]:
        """Return norm(hidden + added) and hidden + added."""
        normed, _, _, total = graph.apply_many(
            "SkipSimplifiedLayerNormalization", hidden, added, self.vector(graph, name),
            outputs=4, domain=CONTRIB_DOMAIN, epsilon=self.sizes.epsilon,
        )  # fmt: skip
        return normed, total

    def vector(self, graph: GraphBuilder, name: str) -> str:
        """Return a norm's scale."""
        return self.file.refer(graph, name, self.weights.vectors[name])

    def product(self, graph: GraphBuilder, rows: str, name: str) -> str:
        """Return (tokens, n) times one matrix, (tokens, m)."""
        matrix = self.weights.matrices[name]
        count, blocks, _ = matrix.whole.shape
        product = graph.apply(
            "MatMulNBits", rows,
            self.file.refer(graph, f"{name}/whole", matrix.whole),
            self.file.refer(graph, f"{name}/scale", matrix.scale),
            domain=CONTRIB_DOMAIN, K=blocks * BLOCK, N=count, bits=4, block_size=BLOCK,
            accuracy_level=_EIGHT_BITS,
        )  # fmt: skip
        correction = self.file.refer(graph, f"{name}/correction", matrix.correction)
        return graph.apply("Gemm", self._sums(graph, rows, blocks), correction, product, transB=1)

    def give(self, graph: GraphBuilder, normed: str) -> None:
        """Declare the outputs; rows that nobody asked for are cut before the head."""
        shape = graph.apply("Shape", "input_ids")
        rest = graph.constant("rest", np.array([-1], dtype=np.int64))
        rows = graph.apply("Reshape", normed, graph.apply("Concat", shape, rest, axis=0))
        end = graph.constant("end", np.array([END], dtype=np.int64))
        axis = graph.constant("axis", np.array([1], dtype=np.int64))
        wanted = graph.apply("Slice", rows, "logits_from", end, axis)
        table = self.weights.table
        count, blocks, _ = table.whole.shape
        logits = graph.apply(
            "MatMulNBits", wanted,
            self.file.refer(graph, "table/whole", table.whole),
            self.file.refer(graph, "table/scale", table.scale),
            domain=CONTRIB_DOMAIN, K=blocks * BLOCK, N=count, bits=8, block_size=BLOCK,
            accuracy_level=_EIGHT_BITS,
        )  # fmt: skip
        self.graph.give("logits", logits, dtype=np.float32, shape=("batch", "rows", count))
        for (layer, part), value in self.present.items():
            name = f"present.{layer}.{part}"
            self.graph.give(name, value, dtype=np.float32, shape=self._cache_shape())

    def _sums(self, graph: GraphBuilder, rows: str, blocks: int) -> str:
        """Return the sums of 32 numbers each, (tokens, n / 32).

        By a product with zeros and ones where the row is short, which is one node.
        """
        if blocks * BLOCK == self.sizes.hidden:
            ones = np.repeat(np.eye(blocks, dtype=np.float32), BLOCK, axis=0)
            return graph.apply("MatMul", rows, self.file.refer(graph, "sums/blocks", ones))
        shape = graph.constant("blocks", np.array([-1, blocks, BLOCK], dtype=np.int64))
        last = graph.constant("last", np.array([-1], dtype=np.int64))
        return graph.apply("ReduceSum", graph.apply("Reshape", rows, shape), last, keepdims=0)

    def _cache_shape(self) -> tuple[str | int, ...]:
        return ("batch", self.kv_heads, "capacity", self.sizes.head_dim)
