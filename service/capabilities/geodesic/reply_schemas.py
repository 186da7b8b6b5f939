"""Define the answers of this room."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from service.capabilities.geodesic.schemas import GraphName, HubnessName, MetricName


class TextUsage(BaseModel):
    """Count the tokens of a request, special ones included."""

    prompt_tokens: int
    total_tokens: int


class Encoded(BaseModel):
    """Hold an array as base64, little-endian."""

    shape: list[int]
    dtype: Literal["float32", "int32"]
    data: str


class GraphReply(BaseModel):
    """Describe the graph that distances were measured along."""

    edges: int
    k_effective: int = Field(description="Smaller than k where there were fewer other items.")


Lengths = list[float | None] | list[list[float | None]] | Encoded
Hops = list[int | None] | list[list[int | None]] | Encoded


class PairwiseReply(BaseModel):
    """Hold distances, of all pairs as matrices or of the given ones as lists."""

    geodesic: Lengths = Field(description="Along the graph; null where there is no path.")
    direct: Lengths = Field(description="Straight.")
    hops: Hops = Field(description="Edges on the path; null where there is none.")
    components: int = Field(description="Pieces of the graph that hang together.")
    labels: list[int] = Field(description="Component of each item.")
    graph: GraphReply
    paths: list[list[int] | None] | None = Field(
        None, description="Items on each path, pairs in reading order; where asked for."
    )
    metric: MetricName
    model: str | None = Field(description="Null where vectors were given.")
    model_sha256: str | None
    transform: str | None
    usage: TextUsage


class CorpusReply(BaseModel):
    """Describe a corpus."""

    id: str
    name: str
    version: int = Field(description="Grows with every change.")
    items: int
    dimensions: int
    k: int
    metric: MetricName
    graph: GraphName
    max_edge: float | None
    hubness: HubnessName
    edges: int
    components: int
    neighbours: Literal["exact", "approximate"]
    recall: float = Field(
        description="Share of the true neighbours found, measured on a sample; 1 where exact."
    )
    model: str | None = Field(description="Encoder of its texts; null where made of vectors.")
    model_sha256: str | None
    transform: str | None
    created: str


class CorporaReply(BaseModel):
    """List corpora by name."""

    data: list[CorpusReply]


class HitReply(BaseModel):
    """Hold an item that was reached."""

    id: str
    text: str | None = None
    metadata: dict[str, Any] | None = None
    geodesic: float = Field(description="Length of the path.")
    direct: float = Field(description="Straight distance.")
    hops: int = Field(description="Edges on the path, the first one from the query included.")
    percentile: float | None = Field(
        description="0 to 100: share of the calibration's scores below this likeness; null without."
    )


class QueryReply(BaseModel):
    """Hold what was reached, nearest first."""

    hits: list[HitReply]
    version: int
    calibration: str | None = Field(description="Which version was used.")
    model: str | None
    model_sha256: str | None
    usage: TextUsage


class StepReply(BaseModel):
    """Hold an item on the path."""

    id: str
    text: str | None = None
    metadata: dict[str, Any] | None = None
    step: float | None = Field(description="Length of the edge that led here; null at the source.")


class BottleneckReply(BaseModel):
    """Hold the longest edge of a path: its weakest link."""

    source: str
    target: str
    step: float


class PathReply(BaseModel):
    """Hold the shortest path."""

    steps: list[StepReply] = Field(description="Empty where there is no path.")
    bottleneck: BottleneckReply | None
    geodesic: float | None
    direct: float
    version: int


class ClusterItem(BaseModel):
    """Hold an item's cluster."""

    id: str
    cluster: int | None = Field(description="Null for noise.")


class ClustersReply(BaseModel):
    """Hold the cluster of every item."""

    method: Literal["hdbscan", "agglomerative"]
    clusters: int
    items: list[ClusterItem]
    noise: int
    version: int


class MapItem(BaseModel):
    """Hold an item's place; null where it hangs apart from the largest component."""

    id: str
    x: float | None
    y: float | None


class MapReply(BaseModel):
    """Hold a map of a corpus."""

    items: list[MapItem]
    placed: int
    explained: float = Field(description="Share of squared distances that two axes keep.")
    version: int
