"""Shape what this room answers."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np

from service.capabilities.geodesic.pipeline.answers import Hit, Way
from service.capabilities.geodesic.pipeline.corpus import Corpus, Description, Item
from service.capabilities.geodesic.pipeline.pairwise import Answer
from service.capabilities.geodesic.pipeline.room import Calibrated
from service.embedding.embedder import Embedded
from service.numerics.dtypes import Ids32, Matrix32
from service.web.wire import EncodingFormat


def describe_pairwise(answer: Answer, encoding_format: EncodingFormat) -> dict[str, object]:
    """Return the distances of one request; arrays stay arrays."""
    measured = answer.measured
    body: dict[str, object] = {
        "geodesic": _encode(measured.geodesic, encoding_format),
        "direct": _encode(measured.direct, encoding_format),
        "hops": _encode_hops(measured.hops, encoding_format),
        "components": measured.components,
        "labels": measured.labels,
        "graph": {"edges": measured.edges, "k_effective": measured.k_effective},
        "transform": answer.transform,
        **describe_model(answer.embedded),
    }
    if measured.paths:
        body["paths"] = measured.paths
    return body


def describe_model(embedded: Embedded | None) -> dict[str, object]:
    """Return which encoder embedded texts, and how many tokens it ran."""
    tokens = 0 if embedded is None else sum(embedded.tokens)
    return {
        "model": None if embedded is None else embedded.encoder.manifest.id,
        "model_sha256": None if embedded is None else embedded.encoder.sha256,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def describe_corpus(said: Description) -> dict[str, object]:
    """Return what a corpus is, without its items."""
    making = said.making
    return {
        "id": said.name,
        "name": said.name,
        "version": said.version,
        "items": said.items,
        "dimensions": said.dimensions,
        "k": making.options.k,
        "metric": making.options.metric,
        "graph": making.options.rule,
        "max_edge": making.options.max_edge,
        "hubness": making.options.hubness,
        "edges": said.edges,
        "components": said.components,
        "neighbours": "exact" if said.exact else "approximate",
        "recall": said.recall,
        "model": making.model,
        "model_sha256": making.model_sha256,
        "transform": making.transform,
        "created": making.created,
    }


def describe_found(
    corpus: Corpus, hits: Sequence[Hit], calibrated: Calibrated | None
) -> dict[str, object]:
    """Return hits, nearest first, each with its percentile where a calibration was named."""
    percentiles = [None] * len(hits) if calibrated is None else calibrated.percentiles.tolist()
    return {
        "hits": [
            {
                **describe_item(hit.item),
                "geodesic": hit.geodesic,
                "direct": hit.direct,
                "hops": hit.hops,
                "percentile": percentile,
            }
            for hit, percentile in zip(hits, percentiles, strict=True)
        ],
        "version": corpus.version,
        "calibration": None if calibrated is None else calibrated.calibration,
    }


def describe_way(corpus: Corpus, way: Way) -> dict[str, object]:
    """Return a path and its longest edge, the first of equal ones."""
    edges = list(zip(way.steps, way.steps[1:], strict=False))
    longest = max(edges, key=lambda edge: edge[1].length or 0, default=None)
    bottleneck = None
    if longest is not None:
        source, target = longest
        bottleneck = {
            "source": source.item.id,
            "target": target.item.id,
            "step": target.length,
        }
    return {
        "steps": [{**describe_item(step.item), "step": step.length} for step in way.steps],
        "bottleneck": bottleneck,
        "geodesic": way.geodesic,
        "direct": way.direct,
        "version": corpus.version,
    }


def describe_clusters(corpus: Corpus, rows: Ids32, labels: Ids32) -> dict[str, object]:
    """Return the cluster of every item, None for noise."""
    return {
        "clusters": int(labels.max(initial=-1)) + 1,
        "items": [
            {"id": corpus.item(row).id, "cluster": None if label < 0 else int(label)}
            for row, label in zip(rows, labels, strict=True)
        ],
        "noise": int((labels < 0).sum()),
        "version": corpus.version,
    }


def describe_names(corpus: Corpus, rows: Ids32) -> list[str]:
    """Return what people call each item: its text, or its id."""
    return [corpus.item(row).text or corpus.item(row).id for row in rows.tolist()]


def describe_places(corpus: Corpus, rows: Ids32, places: Matrix32) -> list[dict[str, object]]:
    """Return where every item stands; orjson writes NaN as null."""
    return [
        {"id": corpus.item(row).id, "x": x, "y": y}
        for row, (x, y) in zip(rows, places.tolist(), strict=True)
    ]


def describe_item(item: Item) -> dict[str, object]:
    """Return what a user wants back of an item."""
    kept = {"id": item.id, "text": item.text, "metadata": item.metadata}
    return {name: value for name, value in kept.items() if value is not None}


def _encode(array: np.ndarray[Any, Any], encoding_format: EncodingFormat) -> object:
    """Return an array for JSON, where infinity is written as null, or as base64, where it stays."""
    if encoding_format == "float":
        return array
    return {
        "shape": list(array.shape),
        "dtype": str(array.dtype),
        "data": base64.b64encode(array.tobytes()).decode("ascii"),
    }


def _encode_hops(hops: Ids32, encoding_format: EncodingFormat) -> object:
    if encoding_format == "base64" or (hops >= 0).all():
        return _encode(hops, encoding_format)
    nullable = hops.astype(object)
    nullable[hops < 0] = None
    return nullable.tolist()
