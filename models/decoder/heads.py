"""Arrange heads: split, merge, group, join with the past, rotate."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from models.decoder.inputs import Table
from models.graph import GraphBuilder


def split_heads(graph: GraphBuilder, value: str, *, heads: int, width: int) -> str:
    """Return (B, S, heads * width) as (B, heads, S, width)."""
    split = _reshape(graph, value, (0, 0, heads, width))
    return graph.apply("Transpose", split, perm=[0, 2, 1, 3])


def merge_heads(graph: GraphBuilder, value: str, *, heads: int, width: int) -> str:
    """Return (B, heads, S, width) as (B, S, heads * width)."""
    return _reshape(
        graph, graph.apply("Transpose", value, perm=[0, 2, 1, 3]), (0, 0, heads * width)
    )


def group_heads(graph: GraphBuilder, value: str, *, groups: int) -> str:
    """Return (B, heads, S, width) as (B, groups, heads / groups * S, width), without a copy."""
    fixed = graph.constant("groups", np.array([0, groups, -1], dtype=np.int64))
    width = graph.apply("Shape", value, start=-1)
    return graph.apply("Reshape", value, graph.apply("Concat", fixed, width, axis=0))


def ungroup_heads(graph: GraphBuilder, value: str, *, heads: int, like: str) -> str:
    """Return (B, groups, heads / groups * S, width) as (B, heads, S, width).

    Args:
        graph: the place to build in.
        value: what `group_heads` was the start of.
        heads: number of heads.
        like: a value of shape (…, S, anything), which S is taken from.
    """
    fixed = graph.constant("heads", np.array([0, heads], dtype=np.int64))
    length = graph.apply("Shape", like, start=-2, end=-1)
    rest = graph.constant("rest", np.array([-1], dtype=np.int64))
    return graph.apply("Reshape", value, graph.apply("Concat", fixed, length, rest, axis=0))


def as_one_head(graph: GraphBuilder, value: str) -> str:
    """Return (B, S, width) as (B, 1, S, width)."""
    return graph.apply("Unsqueeze", value, graph.constant("axis", np.array([1], dtype=np.int64)))


def append(graph: GraphBuilder, past: str, new: str) -> str:
    """Return past (B, heads, P, width) and new (B, heads, S, width) as (B, heads, T, width)."""
    return graph.apply("Concat", past, new, axis=2)


def rotate(
    graph: GraphBuilder, value: str, tables: Iterable[Table], *, interleaved: int
) -> list[str]:
    """Return (B, heads, length, width) rotated by each table in turn."""
    return [
        graph.apply("RotaryEmbedding", value, table.cos, table.sin, interleaved=interleaved)
        for table in tables
    ]


def _reshape(graph: GraphBuilder, value: str, shape: tuple[int, ...]) -> str:
    return graph.apply("Reshape", value, graph.constant("shape", np.array(shape, dtype=np.int64)))
