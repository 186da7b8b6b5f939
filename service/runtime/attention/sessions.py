"""Run attention layers, and keep the sessions of the last kinds used."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from service.numerics.attention.forms import Heads, LayerForm
from service.numerics.attention.positions import RopeTables, Rotation
from service.numerics.attention.reference import Conditions, Path
from service.numerics.dtypes import Matrix32
from service.runtime.attention.graphs import GraphKind, Turn, build
from service.runtime.providers import requested_providers
from service.runtime.session import SessionOptions, ort_options

# A session without weights takes about 100 kB; few services see so many kinds.
_MOST_SESSIONS = 64
_ERRORS_ONLY = 3
Feeds = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class LayerRun:
    """Hold what a graph gave.

    Attributes:
        output: (batch, h, n, d_v) float32.
        weights: (batch, h, n, n) float32, or None where they were not asked for.
    """

    output: Matrix32
    weights: Matrix32 | None


class LayerGraphs:
    """Run attention layers; one session a kind of graph, the least used dropped first.

    Args:
        options: threads and providers.
    """

    def __init__(self, options: SessionOptions) -> None:
        self._options = options
        self._sessions: OrderedDict[GraphKind, ort.InferenceSession] = OrderedDict()
        self._lock = Lock()

    def attend(
        self, form: LayerForm, conditions: Conditions, *, path: Path, weighed: bool = True
    ) -> LayerRun:
        """Return the output of a layer, and its weights where they are wished.

        Args:
            form: heads, or a latent.
            conditions: positions, scale, mask, noise, normaliser; every row sees a key.
            path: how a latent is computed.
            weighed: whether the weights are wished; they take n² numbers a head.
        """
        kind = kind_of(form, conditions, path=path, weighed=weighed)
        names = ["output", "weights"] if weighed else ["output"]
        found = self._session(kind).run(names, _feeds(form, conditions, kind))
        return LayerRun(found[0], found[1] if weighed else None)

    def _session(self, kind: GraphKind) -> ort.InferenceSession:
        with self._lock:
            session = self._sessions.get(kind)
            if session is None:
                session = self._sessions[kind] = _open(kind, self._options)
            self._sessions.move_to_end(kind)
            while len(self._sessions) > _MOST_SESSIONS:
                self._sessions.popitem(last=False)
        return session


def _open(kind: GraphKind, options: SessionOptions) -> ort.InferenceSession:
    chosen = ort_options(options)
    # The operator infers 0 keys for its weights without a past, and warns at every run.
    chosen.log_severity_level = _ERRORS_ONLY
    providers = requested_providers(options.providers, options.policy)
    return ort.InferenceSession(build(kind).SerializeToString(), chosen, providers=providers)


def kind_of(form: LayerForm, conditions: Conditions, *, path: Path, weighed: bool) -> GraphKind:
    """Return the graph that computes a form under some conditions."""
    tables = conditions.tables
    turn = Turn.NONE if tables is None else Turn.ONCE if tables.far is None else Turn.WINDOWED
    kind = GraphKind(
        path=path,
        turn=turn,
        turning=0 if tables is None else 2 * tables.queries.cos.shape[-1],
        layout=conditions.layout,
        decoupled=not isinstance(form, Heads) and form.decoupled,
        normaliser=conditions.normaliser,
        causal=conditions.causal,
        biased=conditions.bias is not None,
        weighed=weighed,
    )
    if not (kind.explicit and kind.causal):
        return kind
    return kind_of(form, _with_causal_bias(form, conditions), path=path, weighed=weighed)


def _with_causal_bias(form: LayerForm, conditions: Conditions) -> Conditions:
    tokens = form.queries.shape[-2]
    bias = np.zeros((tokens, tokens), np.float32) if conditions.bias is None else conditions.bias
    seen = np.tril(np.ones((tokens, tokens), dtype=bool))
    return Conditions(
        tables=conditions.tables,
        layout=conditions.layout,
        scale=conditions.scale,
        bias=np.where(seen, bias, -np.inf).astype(np.float32),
        causal=False,
        normaliser=conditions.normaliser,
    )


def _feeds(form: LayerForm, conditions: Conditions, kind: GraphKind) -> Feeds:
    if conditions.causal and not kind.causal:
        conditions = _with_causal_bias(form, conditions)
    feeds = _operands(form, kind)
    feeds["scale"] = conditions.scale[:, np.newaxis].astype(np.float32)
    if conditions.bias is not None:
        axes = (1,) * (4 - conditions.bias.ndim)
        feeds["bias"] = conditions.bias.reshape(*axes, *conditions.bias.shape)
    if conditions.tables is not None:
        feeds |= _table_feeds(conditions.tables, batch=len(form.queries))
    return feeds


def _operands(form: LayerForm, kind: GraphKind) -> Feeds:
    if isinstance(form, Heads):
        # MatMul shares one head or none; the operator shares any number
        times = form.queries.shape[1] // form.keys.shape[1] if kind.explicit else 1
        return {
            "queries": form.queries,
            "keys": np.repeat(form.keys, times, axis=1),
            "values": np.repeat(form.values, times, axis=1),
        }
    feeds: Feeds = {
        "queries": form.queries,
        "latent": form.latent[:, np.newaxis],
        "key_maps": form.key_maps,
        "value_maps": form.value_maps,
    }
    if form.decoupled:
        feeds |= {"rope_queries": form.rope_queries, "rope_keys": form.rope_keys[:, np.newaxis]}
    return feeds


def _table_feeds(tables: RopeTables, *, batch: int) -> Feeds:
    feeds: Feeds = {}

    def put(rotation: Rotation, place: str, suffix: str) -> None:
        for part, table in (("cos", rotation.cos), ("sin", rotation.sin)):
            feeds[f"{place}_{part}{suffix}"] = np.repeat(table[np.newaxis], batch, axis=0)

    put(tables.queries, "q", "")
    put(tables.keys, "k", "")
    if tables.far is not None:
        put(tables.far.queries, "q", "_far")
        put(tables.far.keys, "k", "_far")
        feeds["near"] = tables.far.near
    return feeds
