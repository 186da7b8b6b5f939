"""Turn token vectors into sentence vectors inside the graph.

Every pooling p gives two outputs: `p_raw` (pooled) and `p` (the same at unit length). Only
what a caller asks for is computed by `session.run`; the rest is a few small nodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from models.graph import Dimension, GraphBuilder

CLS, MEAN, FIRST_LAST, EMBEDDING = "cls", "mean", "first_last", "embedding"


@dataclass(frozen=True, slots=True)
class TokenVectors:
    """Name the values of a graph that poolings read, each (batch, length, d) float32.

    Attributes:
        embedding: what the first layer reads (after the embedding's layer norm).
        first: what the first layer gives.
        last: what the last layer gives.
    """

    embedding: str
    first: str
    last: str


def token_shares(graph: GraphBuilder, mask: str) -> str:
    """Return the share of each token in a mean, (batch, 1, length) float32, 0 at padding.

    ```
    mask (b, l) ─ Cast ┬ Reshape (b, 1, l) ┬─────────── Div ─ shares
                       └ Reshape (b, l, 1) ┴ MatMul ─────┘
    ```

    Ones and zeros squared are themselves, so the product counts the real tokens. Only
    operators that never changed are used: this also completes graphs of old opsets.
    """
    weights = graph.apply("Cast", mask, to=1)
    row = _reshape(graph.at("row"), weights, shape=(0, 1, -1))
    column = _reshape(graph.at("column"), weights, shape=(0, -1, 1))
    return graph.apply("Div", row, graph.apply("MatMul", row, column))


def mean_pool(graph: GraphBuilder, hidden: str, *, shares: str) -> str:
    """Return the mean over real tokens, (batch, d): one product instead of multiply and sum."""
    return _reshape(graph, graph.apply("MatMul", shares, hidden), shape=(0, -1))


def _reshape(graph: GraphBuilder, value: str, *, shape: tuple[int, ...]) -> str:
    return graph.apply("Reshape", value, graph.constant("shape", np.array(shape, np.int64)))


def cls_pool(graph: GraphBuilder, hidden: str) -> str:
    """Return the first token's vector, (batch, d)."""
    return graph.apply("Gather", hidden, graph.constant("first", np.array(0, np.int64)), axis=1)


def four_poolings(graph: GraphBuilder, tokens: TokenVectors, *, mask: str) -> dict[str, str]:
    """Return the raw vectors of all four poolings, by name.

    ```
    shares ┬ MatMul embedding ────────────────── embedding
           ├ MatMul first ─┐
           │               ├ Add ─ Mul 0.5 ───── first_last
           ├ MatMul last ──┴──────────────────── mean
    last[:, 0] ───────────────────────────────── cls
    ```

    The mean is linear, so `first_last` adds two small means and not two large layers.
    """
    place = graph.at("poolings")
    shares = token_shares(place.at("shares"), mask)
    mean = mean_pool(place.at(MEAN), tokens.last, shares=shares)
    both = place.at(FIRST_LAST)
    first = mean_pool(both.at("first"), tokens.first, shares=shares)
    half = both.constant("half", np.array(0.5, dtype=np.float32))
    return {
        MEAN: mean,
        CLS: cls_pool(place.at(CLS), tokens.last),
        FIRST_LAST: both.apply("Mul", both.apply("Add", first, mean), half),
        EMBEDDING: mean_pool(place.at(EMBEDDING), tokens.embedding, shares=shares),
    }


def give_poolings(graph: GraphBuilder, raw: Mapping[str, str], *, dimensions: Dimension) -> None:
    """Declare the outputs `p` and `p_raw`, (batch, dimensions) float32, for each pooling p."""
    shape = ("batch", dimensions)
    for name, value in raw.items():
        unit = graph.at(f"normalise/{name}").apply("LpNormalization", value, axis=-1, p=2)
        graph.give(name, unit, dtype=np.float32, shape=shape)
        graph.give(f"{name}_raw", value, dtype=np.float32, shape=shape)
