"""Measure what geodesic distances are worth: on a known manifold, and on sentences of topics."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from scipy.stats import rankdata, spearmanr
from sklearn.datasets import make_swiss_roll

from benchmarks.results import Bar
from service.numerics.distances import Metric, cross_distances, prepare
from service.numerics.dtypes import Matrix32
from service.numerics.graphs import bridge_components, neighbour_graph
from service.numerics.neighbours import nearest_neighbours
from service.numerics.paths import all_pairs
from service.runtime.providers import ProviderPolicy
from service.runtime.session import SessionOptions, open_session
from service.settings import default_models_dir

FAR = 0.2
MODEL = "all-MiniLM-L6-v2"
SENTENCES_A_TOPIC = 40


def value_bars(data: Path | None) -> list[Bar]:
    """Return the bars on the swiss roll, and on sentences where there are some."""
    bars = swiss_roll_bars()
    return bars if data is None else [*bars, *sentence_bars(data / "opinosis_dev.json")]


def swiss_roll_bars() -> list[Bar]:
    """Return how well distances on the roll follow those on the sheet that was rolled up."""
    points, angle = make_swiss_roll(1000, random_state=0)
    arc = (angle * np.sqrt(1 + angle**2) + np.arcsinh(angle)) / 2
    sheet = np.column_stack([arc, points[:, 1]])
    true = np.linalg.norm(sheet[:, np.newaxis] - sheet, axis=2)
    rows = prepare(points.astype(np.float32), Metric.EUCLIDEAN)
    graph = neighbour_graph(nearest_neighbours(rows, k=10, metric=Metric.EUCLIDEAN))
    along = all_pairs(graph).lengths
    straight = cross_distances(rows, rows, metric=Metric.EUCLIDEAN)
    upper = np.triu_indices(1000, 1)
    curved, flat = (
        float(spearmanr(found[upper], true[upper]).statistic) for found in (along, straight)
    )
    what = "swiss roll, n = 1,000, k = 10: Spearman with the true arc"
    return [Bar(what, curved, None, ">=", 0.995), Bar(f"{what}, straight lines", flat)]


def sentence_bars(path: Path) -> list[Bar]:
    """Return the bars on sentences: far pairs of one topic, and the ten nearest."""
    entries = json.loads(path.read_text())
    topics = [
        (number, sentence)
        for number, entry in enumerate(entries)
        for sentence in entry["reviews"][:SENTENCES_A_TOPIC]
    ]
    labels = np.array([number for number, _ in topics])
    vectors = prepare(embed([sentence for _, sentence in topics]), Metric.ANGULAR)
    graph = neighbour_graph(nearest_neighbours(vectors, k=10, metric=Metric.ANGULAR))
    graph = bridge_components(graph, vectors, metric=Metric.ANGULAR)
    along = all_pairs(graph).lengths
    straight = cross_distances(vectors, vectors, metric=Metric.ANGULAR)
    along = np.maximum(along, straight)
    left, right = np.triu_indices(len(labels), 1)
    far = straight[left, right] > np.arccos(FAR)
    same = (labels[left] == labels[right])[far]
    cosine = auc(-straight[left, right][far], same)
    geodesic = auc(-along[left, right][far], same)
    lost = precision(straight, labels) - precision(along, labels)
    note = f"{len(labels)} sentences of {len(entries)} topics, {int(far.sum()):,} far pairs"
    return [
        Bar("far pairs of sentences, same topic: area under the curve, cosine", cosine, note=note),
        Bar("the same, geodesic", geodesic),
        Bar("gain", geodesic - cosine, None, ">=", 0.08),
        Bar("loss of precision among the ten nearest", lost, None, "<=", 0.005),
    ]


def embed(sentences: list[str]) -> Matrix32:
    """Return the embeddings of the default model, each sentence run alone."""
    from service.runtime.tokenizer import Truncate, open_tokenizer

    folder = default_models_dir() / MODEL
    options = SessionOptions(providers=("cpu",), policy=ProviderPolicy.PREFER, threads_per_run=1)
    session = open_session(folder / "model.onnx", options)
    tokenizer = open_tokenizer(folder / "tokenizer.json", max_tokens=256, prefix="")
    rows = []
    for text in tokenizer.encode_texts(sentences, Truncate.RIGHT):
        ids = np.array([text.ids], np.int64)
        rows.append(session.run(ids, np.ones_like(ids), ["mean"])[0][0])
    return np.stack(rows).astype(np.float32)


def auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Return the area under the curve: how often a positive pair scores above a negative one."""
    ranks = rankdata(scores)
    count = int(positive.sum())
    others = len(positive) - count
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * others))


def precision(distances: Matrix32, labels: np.ndarray) -> float:
    """Return the share of the ten nearest that have one's own label."""
    away = distances.copy()
    np.fill_diagonal(away, np.inf)
    near = np.argsort(away, axis=1, kind="stable")[:, :10]
    return float((labels[near] == labels[:, np.newaxis]).mean())
