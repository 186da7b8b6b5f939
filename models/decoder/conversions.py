"""Turn grouped heads into another form by small matrices after the native projections.

The weights stay where they are; each class here answers for the parts of attention that differ
and leaves the rest to the source it wraps. With g key heads of width d and x = [keys, values] of
a token, 2 g d numbers:

```
Repeated    keys, values of each group once a query head                       exact
Pooled      mean of the key heads, mean of the value heads                     lossy
Latent      c = (x ∘ w) Bᵀ, x' = (c B) / w        B (r, 2 g d), orthonormal    exact at r = 2 g d
Decoupled   one rotated key for all heads, the rest in a latent                lossy
```

Decoupled: head s of group g scores qₛ·k_g. Pairs of one rotation speed f turn alike in all
heads, so a combination u over heads of each pair turns as well: k_r,f = Σ_g u_f,g k_g,f. What it
explains of k_g is u_f,g k_r,f; the query against it is u_f,g qₛ,f, rotated. The remainder
k_g - u_g k_r goes into the latent beside the values and is scored without rotation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.decoder.description import Sizes
from models.decoder.source import Source
from models.decoder.storage import DataFile
from models.graph import GraphBuilder

Floats = NDArray[np.float32]
_KEY, _VALUE = "attention/key", "attention/value"


@dataclass(frozen=True, slots=True)
class Basis:
    """Hold the latent of one layer.

    Attributes:
        rows: B, (at least r, 2 g d) float16; the first r rows are the basis of rank r.
        weight: w, (2 g d,) float32, how much an error of each number matters.
        share: u, (g, d) float32, both numbers of a pair alike; None without decoupling.
    """

    rows: NDArray[np.float16]
    weight: Floats
    share: Floats | None = None


class Converted:
    """Wrap a source; fits `models.decoder.source.Source`.

    Args:
        native: gives query, key and value of grouped heads, and everything else.
        sizes: of the decoder.
        kv_heads: g, key heads that `native` has.
    """

    def __init__(self, native: Source, *, sizes: Sizes, kv_heads: int) -> None:
        self._native = native
        self._groups = kv_heads
        self._width = sizes.head_dim
        self._heads = sizes.q_heads

    def embed(self, graph: GraphBuilder, ids: str) -> str:
        """Return the rows of the token table."""
        return self._native.embed(graph, ids)

    def head(self, graph: GraphBuilder, hidden: str) -> str:
        """Return the logits."""
        return self._native.head(graph, hidden)

    def tensor(self, graph: GraphBuilder, name: str) -> str:
        """Return a constant as it is."""
        return self._native.tensor(graph, name)

    def project(self, graph: GraphBuilder, hidden: str, *, layer: int, part: str) -> str:
        """Return `hidden` times one matrix."""
        return self._native.project(graph, hidden, layer=layer, part=part)

    def _split(self, graph: GraphBuilder, value: str) -> str:
        return _reshape(graph, value, 0, 0, -1, self._width)

    def _joined(self, graph: GraphBuilder, value: str, *, heads: int) -> str:
        return _reshape(graph, value, 0, 0, heads * self._width)


class Repeated(Converted):
    """Give each query head the keys and values of its group."""

    def project(self, graph: GraphBuilder, hidden: str, *, layer: int, part: str) -> str:
        """Return `hidden` times one matrix, key and value heads repeated."""
        native = super().project(graph, hidden, layer=layer, part=part)
        if part not in {_KEY, _VALUE}:
            return native
        of_head = np.arange(self._heads) // (self._heads // self._groups)
        indices = graph.constant("groups", of_head.astype(np.int64))
        repeated = graph.apply("Gather", self._split(graph, native), indices, axis=2)
        return self._joined(graph, repeated, heads=self._heads)


class Pooled(Converted):
    """Give all query heads the mean of the key heads and the mean of the value heads."""

    def project(self, graph: GraphBuilder, hidden: str, *, layer: int, part: str) -> str:
        """Return `hidden` times one matrix, key and value heads averaged."""
        native = super().project(graph, hidden, layer=layer, part=part)
        if part not in {_KEY, _VALUE}:
            return native
        axis = graph.constant("axis", np.array([2], dtype=np.int64))
        return graph.apply("ReduceMean", self._split(graph, native), axis, keepdims=0)


class Latent(Converted):
    """Give a latent of rank r, from which keys and values are rebuilt.

    Args:
        native: gives query, key and value of grouped heads.
        sizes: of the decoder.
        kv_heads: g.
        rank: r.
        bases: one a layer.
        prefix: of the names under which `file` keeps the bases.
        file: where they go.
    """

    def __init__(
        self,
        native: Source,
        *,
        sizes: Sizes,
        kv_heads: int,
        rank: int,
        bases: Mapping[int, Basis],
        prefix: str,
        file: DataFile,
    ) -> None:
        super().__init__(native, sizes=sizes, kv_heads=kv_heads)
        self._rank = rank
        self._bases = bases
        self._prefix = prefix
        self._file = file

    def project(self, graph: GraphBuilder, hidden: str, *, layer: int, part: str) -> str:
        """Return `hidden` times one matrix; `attention/latent` is c."""
        if part != "attention/latent":
            return super().project(graph, hidden, layer=layer, part=part)
        key, value = (
            super(Latent, self).project(graph, hidden, layer=layer, part=of)
            for of in (_KEY, _VALUE)
        )
        joined = graph.apply("Concat", self._content(graph, key, layer=layer), value, axis=-1)
        weighted = graph.apply("Mul", joined, self._weight(graph, layer))
        turned = graph.apply("Transpose", self._rows(graph, layer), perm=[1, 0])
        return graph.apply("MatMul", weighted, turned)

    def tensor(self, graph: GraphBuilder, name: str) -> str:
        """Return a constant; `key_up` and `value_up` are B / w by head, (g, r, d)."""
        place, _, part = name.rpartition("/")
        if part not in {"key_up", "value_up"}:
            return super().tensor(graph, name)
        layer = int(place.split("/")[0].removeprefix("layers."))
        up = graph.apply("Div", self._rows(graph, layer), self._weight(graph, layer))
        # (r, key or value, g, d), of which one half is taken: (g, r, d).
        halves = _reshape(graph, up, 0, 2, self._groups, self._width)
        own = graph.constant("half", np.array(int(part == "value_up"), dtype=np.int64))
        half = graph.apply("Gather", halves, own, axis=1)
        return graph.apply("Transpose", half, perm=[1, 0, 2])

    def _content(self, graph: GraphBuilder, key: str, *, layer: int) -> str:
        del graph, layer
        return key

    def _rows(self, graph: GraphBuilder, layer: int) -> str:
        basis = self._bases[layer].rows
        kept = self._file.refer(graph, f"{self._name(layer)}/rows", basis)
        starts, ends = (
            graph.constant(name, np.array([place], dtype=np.int64))
            for name, place in (("start", 0), ("rank", self._rank))
        )
        return graph.apply("Cast", graph.apply("Slice", kept, starts, ends, starts), to=1)

    def _weight(self, graph: GraphBuilder, layer: int) -> str:
        name = f"{self._name(layer)}/weight"
        return self._file.refer(graph, name, self._bases[layer].weight)

    def _name(self, layer: int) -> str:
        # An identity serves all layers: the same object is stored once.
        first = next(at for at, basis in self._bases.items() if basis is self._bases[layer])
        return f"{self._prefix}/layers.{first}"


class Decoupled(Latent):
    """Give one rotated key for all heads, and a latent of the rest of the keys and the values."""

    def project(self, graph: GraphBuilder, hidden: str, *, layer: int, part: str) -> str:
        """Return `hidden` times one matrix; `query_rope` and `rope_key` are the rotated parts."""
        if part == "attention/query_rope":
            query = super().project(graph, hidden, layer=layer, part="attention/query")
            share = self._share_of(layer)
            by_head = np.repeat(share, self._heads // self._groups, axis=0).reshape(-1)
            return graph.apply("Mul", query, graph.constant("share", by_head))
        if part == "attention/rope_key":
            key = super().project(graph, hidden, layer=layer, part=_KEY)
            return self._shared_key(graph, key, layer=layer)
        return super().project(graph, hidden, layer=layer, part=part)

    def _content(self, graph: GraphBuilder, key: str, *, layer: int) -> str:
        shared = self._shared_key(graph, key, layer=layer)
        share = graph.constant("share", self._share_of(layer))
        axis = graph.constant("heads", np.array([2], dtype=np.int64))
        explained = graph.apply("Mul", graph.apply("Unsqueeze", shared, axis), share)
        rest = graph.apply("Sub", self._split(graph, key), explained)
        return self._joined(graph, rest, heads=self._groups)

    def _shared_key(self, graph: GraphBuilder, key: str, *, layer: int) -> str:
        share = graph.constant("share", self._share_of(layer))
        axis = graph.constant("heads", np.array([2], dtype=np.int64))
        weighted = graph.apply("Mul", self._split(graph, key), share)
        return graph.apply("ReduceSum", weighted, axis, keepdims=0)

    def _share_of(self, layer: int) -> Floats:
        share = self._bases[layer].share
        assert share is not None
        return share


def _reshape(graph: GraphBuilder, value: str, *shape: int) -> str:
    return graph.apply("Reshape", value, graph.constant("shape", np.array(shape, dtype=np.int64)))
