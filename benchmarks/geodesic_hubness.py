"""Measure what choosing neighbours against hubs is worth: far pairs and the ten nearest, by set."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np

from benchmarks.geodesic_value import FAR, auc, embed, precision
from benchmarks.results import Bar
from service.numerics.distances import Metric, cross_distances, prepare
from service.numerics.dtypes import Ids64, Matrix32
from service.numerics.graphs import bridge_components, neighbour_graph
from service.numerics.neighbours import nearest_neighbours
from service.numerics.paths import distances_from
from service.numerics.shortlists import Hubness, choose_neighbours, shortlist_size

SETS = ("opinosis", "yelp", "amazon")
SENTENCES_A_REVIEW = 5
SENTENCES_A_TOPIC = 40
FEWEST_WORDS = 4


def hubness_bars(data: Path | None) -> list[Bar]:
    """Return the figures of every set that is there, without and with the reduction."""
    found = [] if data is None else [data / f"{name}_dev.json" for name in SETS]
    return [bar for path in found if path.exists() for bar in _bars_of(path)]


def _bars_of(path: Path) -> list[Bar]:
    labels, sentences = _sentences(path)
    vectors = prepare(embed(sentences), Metric.ANGULAR)
    straight = cross_distances(vectors, vectors, metric=Metric.ANGULAR)
    left, right = np.triu_indices(len(labels), 1)
    far = straight[left, right] > np.arccos(FAR)
    same = (labels[left] == labels[right])[far]
    bars = []
    for k in (10, 20):
        worth = {}
        for hubness in Hubness:
            along = np.maximum(_along(vectors, k, hubness), straight)
            worth[hubness] = auc(-along[left, right][far], same), precision(along, labels)
        none, csls = worth[Hubness.NONE], worth[Hubness.CSLS]
        what = f"{path.stem}, k = {k}"
        note = f"{none[0]:.4f} without; {len(labels)} sentences"
        bars.append(Bar(f"{what}: gain in area of far pairs by csls", csls[0] - none[0], note=note))
        note = f"{none[1]:.4f} without"
        bars.append(Bar(f"{what}: gain in precision at 10", csls[1] - none[1], note=note))
    return bars


def _along(vectors: Matrix32, k: int, hubness: Hubness) -> Matrix32:
    nearest = nearest_neighbours(vectors, k=shortlist_size(k, hubness), metric=Metric.ANGULAR)
    chosen = choose_neighbours(nearest, k=k, metric=Metric.ANGULAR, hubness=hubness)
    graph = bridge_components(neighbour_graph(chosen), vectors, metric=Metric.ANGULAR)
    return distances_from(graph, np.arange(len(vectors), dtype=np.int32))


def _sentences(path: Path) -> tuple[Ids64, list[str]]:
    """Return sentences and the number of the topic or product of each."""
    found: list[tuple[int, str]] = []
    for number, entry in enumerate(json.loads(path.read_text())):
        reviews = [each if isinstance(each, str) else each["text"] for each in entry["reviews"]]
        if path.stem.startswith("opinosis"):  # its reviews are sentences
            found += [(number, sentence) for sentence in reviews[:SENTENCES_A_TOPIC]]
            continue
        for review in reviews:
            parts = re.split(r"(?<=[.!?])\s+", review)
            long = [part for part in parts if len(part.split()) >= FEWEST_WORDS]
            found += [(number, part) for part in long[:SENTENCES_A_REVIEW]]
    return np.array([number for number, _ in found]), [sentence for _, sentence in found]
