"""Define the bodies of this room."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    WithJsonSchema,
)

from service.web.arrays import decode_base64
from service.web.wire import EncodingFormat, GivenVectors, WireModel, leave_out_default, whole

_MOST_PAIRWISE_NEIGHBOURS = 5000
_MOST_NEIGHBOURS = 256
_MOST_HITS = 1000
_FLOAT32_MOST = 3.4028234663852886e38
_NUMBERS = {int, float}
_PAIR = 2

MetricName = Literal["angular", "euclidean"]
GraphName = Literal["union", "mutual"]

_Small = Annotated[int, Field(ge=1, le=_MOST_NEIGHBOURS)]
Neighbours = Annotated[_Small, BeforeValidator(whole, json_schema_input_type=_Small)]
_Any = Annotated[int, Field(ge=1, le=_MOST_PAIRWISE_NEIGHBOURS)]
AnyNeighbours = Annotated[_Any, BeforeValidator(whole, json_schema_input_type=_Any)]
_Top = Annotated[int, Field(ge=1, le=_MOST_HITS)]
Top = Annotated[_Top, BeforeValidator(whole, json_schema_input_type=_Top)]
_Size = Annotated[int, Field(ge=2)]
Size = Annotated[_Size, BeforeValidator(whole, json_schema_input_type=_Size)]
_Count = Annotated[int, Field(ge=1)]
Count = Annotated[_Count, BeforeValidator(whole, json_schema_input_type=_Count)]
Length = Annotated[float, Field(ge=0, le=1e30, allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1, max_length=64, pattern="^[A-Za-z0-9][A-Za-z0-9._-]*$")]
TransformId = Annotated[str, Field(min_length=1)]
ItemId = Annotated[str, Field(min_length=1, max_length=256)]

K_FIELD = "Near neighbours that each item is joined to; where there are fewer, all of them."
EDGE_FIELD = "Longest edge allowed, in radians or in the unit of the vectors; absent allows all."


def _read_pairs(value: object) -> np.ndarray[Any, np.dtype[np.int32]]:
    if not isinstance(value, list) or not value:
        raise ValueError("must be a list of at least one pair of items, counted from 0")
    for number, pair in enumerate(value):
        if not isinstance(pair, list) or len(pair) != _PAIR:
            raise ValueError(f"pair {number} is {pair!r:.40}; a pair is [item, item]")
        for item in pair:
            place = whole(item)
            if type(place) is not int or not 0 <= place < 2**31:
                raise ValueError(f"pair {number} names {item!r:.40}; items are counted from 0")
    return np.array(value, dtype=np.int32)


Pairs = Annotated[
    np.ndarray[Any, np.dtype[np.int32]] | None,
    PlainValidator(_read_pairs),
    WithJsonSchema(
        {
            "description": "Pairs of items, counted from 0; absent means all.",
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "array",
                "minItems": 2,
                "maxItems": 2,
                "items": {"type": "integer", "minimum": 0, "maximum": 2**31 - 1},
            },
        }
    ),
    Field(json_schema_extra=leave_out_default),
]


def _read_vector(value: object) -> np.ndarray[Any, np.dtype[np.float32]]:
    if isinstance(value, str):
        raw = decode_base64(value, what="the vector")
        if not raw or len(raw) % 4:
            raise ValueError(f"the vector has {len(raw)} bytes; float32 needs 4 a number")
        vector = np.frombuffer(raw, dtype="<f4")
    else:
        if not isinstance(value, list) or not value or not set(map(type, value)) <= _NUMBERS:
            raise ValueError("a vector is a list of numbers, or base64 of little-endian float32")
        with np.errstate(over="ignore"):
            vector = np.array(value, dtype=np.float64).astype(np.float32)
    if not np.isfinite(vector).all():
        raise ValueError("every number must be finite in float32")
    return vector


Vector = Annotated[
    np.ndarray[Any, np.dtype[np.float32]] | None,
    PlainValidator(_read_vector),
    WithJsonSchema(
        {
            "description": "Numbers, or base64 of little-endian float32.",
            "anyOf": [
                {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "type": "number",
                        "minimum": -_FLOAT32_MOST,
                        "maximum": _FLOAT32_MOST,
                    },
                },
                {"type": "string", "format": "byte", "minLength": 8},
            ],
        }
    ),
    Field(json_schema_extra=leave_out_default),
]


class PairwiseRequest(WireModel):
    """Ask for distances between texts or vectors; exactly one of the two."""

    matrix_field: ClassVar[str] = "vectors"
    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [{"required": ["texts"]}, {"required": ["vectors"]}],
            "examples": [
                {"texts": ["A cat sat.", "A feline rested.", "The train left."], "k": 2},
                {"vectors": [[1, 0], [0.8, 0.6], [0, 1]], "k": 1, "pairs": [[0, 2]]},
            ],
        }
    )

    texts: list[str] = Field(default_factory=list, min_length=1)
    vectors: GivenVectors = None
    model: str | None = Field(None, min_length=1, description="Encoder; absent means the default.")
    transform: TransformId | None = Field(
        None, description="Whitening that texts or vectors go through first; none is the default."
    )
    k: AnyNeighbours = Field(10, description=K_FIELD)
    metric: MetricName = Field("angular", description="`angular` is in radians.")
    graph: GraphName = Field(
        "union", description="`union` joins where one names the other, `mutual` where both do."
    )
    max_edge: Length | None = Field(None, description=EDGE_FIELD)
    bridge: Literal["none", "mst"] = Field(
        "none", description="`mst` joins components by a minimum spanning tree."
    )
    pairs: Pairs = None
    paths: bool = Field(False, description="Whether the items on each path are listed.")
    encoding_format: EncodingFormat = Field(
        "float", description="`base64` sends matrices as {shape, dtype, data}."
    )


class CorpusItem(WireModel):
    """Give an item: a text, a vector, or a vector and the text that it stands for."""

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": ["text"]}, {"required": ["vector"]}]}
    )

    id: ItemId
    text: str | None = None
    vector: Vector = None
    metadata: dict[str, Any] | None = Field(None, description="Comes back with every hit.")


Items = Annotated[list[CorpusItem], Field(min_length=1)]


class CorpusRequest(WireModel):
    """Make a corpus."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "phone-reviews",
                    "items": [
                        {"id": "a", "text": "The battery lasts two days."},
                        {"id": "b", "text": "Battery life is great."},
                    ],
                },
                {
                    "name": "points",
                    "items": [{"id": "x", "vector": [1, 0]}, {"id": "y", "vector": [0.8, 0.6]}],
                    "k": 1,
                    "metric": "euclidean",
                },
            ]
        }
    )

    name: Name
    items: Items
    model: str | None = Field(None, min_length=1, description="Encoder; absent means the default.")
    transform: TransformId | None = Field(
        None, description="Whitening that texts or vectors go through first; none is the default."
    )
    k: Neighbours = Field(10, description=K_FIELD)
    metric: MetricName = Field("angular", description="`angular` is in radians.")
    graph: GraphName = Field("union", description="As for pairwise.")
    max_edge: Length | None = Field(None, description=EDGE_FIELD)


class ItemsRequest(WireModel):
    """Add items, or replace those of the same ids."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"items": [{"id": "c", "text": "It charges fast."}]},
                {"items": [{"id": "d", "text": "Too heavy.", "metadata": {"stars": 2}}]},
            ]
        }
    )

    items: Items


class QueryRequest(WireModel):
    """Ask what is near a text or a vector; exactly one of the two."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [{"required": ["text"]}, {"required": ["vector"]}],
            "examples": [
                {"text": "How long does the battery last?", "top": 5},
                {"text": "It charges fast.", "max_distance": 1.2},
            ],
        }
    )

    text: str | None = None
    vector: Vector = None
    top: Top = Field(10, description="Most items wanted.")
    max_distance: Length | None = Field(None, description="Longest path wanted.")
    calibration: Annotated[str, Field(min_length=1)] | None = Field(
        None, description="Stored law of scores; hits then carry the percentile of their likeness."
    )


class PathRequest(WireModel):
    """Ask how two items hang together."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"source": "a", "target": "b"}, {"source": "b", "target": "a"}]
        }
    )

    source: ItemId
    target: ItemId


class ClustersRequest(WireModel):
    """Ask for clusters by distance along the graph."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"min_cluster_size": 2}, {"method": "agglomerative", "clusters": 2}]
        }
    )

    method: Literal["hdbscan", "agglomerative"] = Field(
        "hdbscan", description="Dense regions, or pairs merged until `clusters` are left."
    )
    min_cluster_size: Size = Field(5, description="Of `hdbscan`: smaller groups are noise.")
    clusters: Count = Field(8, description="Of `agglomerative`: how many; at most the items.")
