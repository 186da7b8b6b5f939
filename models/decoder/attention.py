"""Build one layer's attention in any form.

Whatever the formula, it comes down to queries, keys and values by head, which `attend` reads:

```
            queries (B, q_heads, S, ·)    keys (B, heads, T, ·)          values (B, heads, T, ·)
mha gqa mqa rotate(x Wq)                  rotate(x Wk)                   x Wv
mla         rotate(x Wq)                  rotate(c Wk)                   c Wv
mla, rope   [x Wq, rotate(x Wqr)]         [c Wk, rotate(x Wkr)]          c Wv
absorbed    [x Wq Wkᵀ, rotate(x Wqr)]     [c, rotate(x Wkr)], one head   c, then Wv after attention
```

c = x Wc is the latent, and all that MLA caches besides the rotated part of the key.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from models.decoder.description import Form, Sizes
from models.decoder.heads import (
    append,
    as_one_head,
    group_heads,
    merge_heads,
    rotate,
    split_heads,
    ungroup_heads,
)
from models.decoder.inputs import Inputs
from models.decoder.scores import Operands, attend
from models.decoder.source import Source
from models.graph import GraphBuilder


@dataclass(frozen=True, slots=True)
class Attended:
    """Name what one layer's attention gives.

    Attributes:
        output: (B, S, hidden), projected, without the residual.
        entropy: (B, q_heads, S), nats of each row of the softmax.
        present: part to (B, heads, T, width), what is cached.
        taps: `query`, `key`, `value` to (B, heads, S, head_dim); empty for other formulas
            than mha, gqa, mqa.
    """

    output: str
    entropy: str
    present: dict[str, str]
    taps: dict[str, str]


def attention(
    graph: GraphBuilder,
    hidden: str,
    *,
    layer: int,
    sizes: Sizes,
    form: Form,
    source: Source,
    inputs: Inputs,
) -> Attended:
    """Return one layer's attention over `hidden`, (B, S, hidden), which is normed already."""
    build = _Layer(graph, hidden, layer, sizes, form, source, inputs)
    operands = build.operands()
    context, entropy = attend(graph, operands, form=form, inputs=inputs, sizes=sizes)
    if form.formula == "mla_absorbed":
        context = build.values_after(context)
    merged = merge_heads(graph.at("output"), context, heads=sizes.q_heads, width=sizes.head_dim)
    output = source.project(graph.at("output"), merged, layer=layer, part="attention/output")
    return Attended(output, entropy, build.present, build.taps)


@dataclass(slots=True)
class _Layer:
    """Hold what the steps of one layer share, and collect what it caches."""

    graph: GraphBuilder
    hidden: str
    layer: int
    sizes: Sizes
    form: Form
    source: Source
    inputs: Inputs
    present: dict[str, str] = field(default_factory=dict)
    taps: dict[str, str] = field(default_factory=dict)

    def operands(self) -> Operands:
        """Return the queries, keys and values that the formula makes."""
        if self.form.kv_rank is None:
            return self._own_heads()
        latent = self._cache("latent", as_one_head(self.graph.at("latent"), self._rows("latent")))
        if self.form.rope_dim is None:
            return self._rebuilt(latent)
        if self.form.formula == "mla":
            return self._decoupled(latent)
        return self._absorbed(latent)

    def values_after(self, context: str) -> str:
        """Return (B, q_heads, S, kv_rank) times each head's map out of the latent."""
        place = self.graph.at("value_up")
        grouped = group_heads(place, context, groups=self.form.kv_heads)
        mapped = place.apply("MatMul", grouped, self._map("value_up"))
        return ungroup_heads(place, mapped, heads=self.sizes.q_heads, like=context)

    def _own_heads(self) -> Operands:
        query, key, value = (
            self._heads(part, heads=heads)
            for part, heads in (
                ("query", self.sizes.q_heads),
                ("key", self.form.kv_heads),
                ("value", self.form.kv_heads),
            )
        )
        self.taps = {"query": query, "key": key, "value": value}
        keys = self._rotated_keys("key", key)
        return Operands(self._rotated(query), keys, self._cache("value", value))

    def _rebuilt(self, latent: str) -> Operands:
        query = self._heads("query", heads=self.sizes.q_heads)
        key = self.graph.at("key_up").apply("MatMul", latent, self._map("key_up"))
        value = self.graph.at("value_up").apply("MatMul", latent, self._map("value_up"))
        return Operands(self._rotated(query), self._rotate_keys(key), value)

    def _decoupled(self, latent: str) -> Operands:
        query = self._heads("query", heads=self.sizes.q_heads)
        key = self.graph.at("key_up").apply("MatMul", latent, self._map("key_up"))
        value = self.graph.at("value_up").apply("MatMul", latent, self._map("value_up"))
        shape = np.array([1, self.form.kv_heads, 1, 1], dtype=np.int64)
        place = self.graph.at("rope_key")
        heads = place.constant("heads", shape)
        shared = [place.apply("Expand", part, heads) for part in self._shared_keys()]
        return Operands(
            [self._beside("query", query, part) for part in self._rope_queries()],
            [self._beside("key", key, part) for part in shared],
            value,
        )

    def _absorbed(self, latent: str) -> Operands:
        query = self._heads("query", heads=self.sizes.q_heads)
        place = self.graph.at("key_up")
        turned = place.apply("Transpose", self._map("key_up"), perm=[0, 2, 1])
        grouped = group_heads(place, query, groups=self.form.kv_heads)
        absorbed = place.apply("MatMul", grouped, turned)
        absorbed = ungroup_heads(place, absorbed, heads=self.sizes.q_heads, like=query)
        return Operands(
            [self._beside("query", absorbed, part) for part in self._rope_queries()],
            [self._beside("key", latent, part) for part in self._shared_keys()],
            latent,
        )

    def _rope_queries(self) -> list[str]:
        assert self.form.rope_dim is not None
        width = self.form.rope_dim
        return self._rotated(self._heads("query_rope", heads=self.sizes.q_heads, width=width))

    def _shared_keys(self) -> list[str]:
        part = self._rows("rope_key")
        return self._rotated_keys("rope_key", as_one_head(self.graph.at("rope_key"), part))

    def _rotated_keys(self, part: str, key: str) -> list[str]:
        # A cache of rotated keys serves one table; two tables need the keys as they were.
        if self.form.keys_rotated_before_caching:
            return [self._cache(part, rotated) for rotated in self._rotate_keys(key)]
        return self._rotate_keys(self._cache(part, key))

    def _rotated(self, query: str) -> list[str]:
        interleaved = self.sizes.interleaved
        return rotate(self.graph.at("query"), query, self.inputs.queries, interleaved=interleaved)

    def _rotate_keys(self, key: str) -> list[str]:
        interleaved = self.sizes.interleaved
        return rotate(self.graph.at("key"), key, self.inputs.keys, interleaved=interleaved)

    def _heads(self, part: str, *, heads: int, width: int | None = None) -> str:
        width = self.sizes.head_dim if width is None else width
        return split_heads(self.graph.at(part), self._rows(part), heads=heads, width=width)

    def _rows(self, part: str) -> str:
        part_of_layer = f"attention/{part}"
        return self.source.project(
            self.graph.at(part), self.hidden, layer=self.layer, part=part_of_layer
        )

    def _map(self, part: str) -> str:
        return self.source.tensor(self.graph.at(part), f"layers.{self.layer}/attention/{part}")

    def _cache(self, part: str, new: str) -> str:
        past = self.inputs.past[self.layer, part]
        self.present[part] = append(self.graph.at(part), past, new)
        return self.present[part]

    def _beside(self, place: str, content: str, rotated: str) -> str:
        return self.graph.at(place).apply("Concat", content, rotated, axis=-1)
