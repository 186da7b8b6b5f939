"""Graphs of one layer: what they are made of, and how sessions are kept."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest

from service.numerics.attention.forms import Heads
from service.numerics.attention.positions import RopeName, RopeScheme, rope_tables
from service.numerics.attention.reference import Conditions, Normaliser, Path, attend
from service.numerics.seeds import generator
from service.runtime.attention import sessions
from service.runtime.attention.graphs import GraphKind, build
from service.runtime.attention.sessions import LayerGraphs, kind_of
from service.runtime.session import SessionOptions
from service.settings import ProviderPolicy

OPTIONS = SessionOptions(("cpu",), ProviderPolicy.CPU, 1)
N = 6


def heads() -> Heads:
    rng = generator(2, "graphs")
    return Heads(*(rng.standard_normal((1, 2, N, 4)).astype(np.float32) for _ in range(3)))


def conditions(name: RopeName, normaliser: Normaliser, *, causal: bool = False) -> Conditions:
    at = np.arange(N)
    tables = rope_tables(
        RopeScheme(name=name, factor=2, window=2), queries=at, keys=at, rope_dim=4, base=1e4
    )
    return Conditions(tables=tables, scale=np.full(N, 0.5), normaliser=normaliser, causal=causal)


def kind(name: RopeName, normaliser: Normaliser) -> GraphKind:
    return kind_of(heads(), conditions(name, normaliser), path=Path.HEADS, weighed=True)


@pytest.mark.parametrize(
    ("name", "normaliser", "standard"),
    [
        (RopeName.NTK, Normaliser.SOFTMAX, True),
        (RopeName.REROPE, Normaliser.SOFTMAX, False),
        (RopeName.DIRECT, Normaliser.L2, False),
    ],
)
def test_the_standard_operator_is_used_where_it_can_say_it(
    name: RopeName, normaliser: Normaliser, standard: bool
) -> None:
    model = build(kind(name, normaliser))
    onnx.checker.check_model(model)
    operators = [node.op_type for node in model.graph.node]
    assert ("Attention" in operators) == standard
    assert ("Softmax" in operators) != standard
    assert model.ir_version == 11
    assert [(each.domain, each.version) for each in model.opset_import] == [("", 24)]


def test_schemes_that_are_tables_share_a_graph() -> None:
    kinds = {
        kind(name, Normaliser.SOFTMAX)
        for name in set(RopeName) - {RopeName.REROPE, RopeName.LEAKY_REROPE, RopeName.NONE}
    }
    assert len(kinds) == 1


def test_the_least_used_session_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "_MOST_SESSIONS", 2)
    graphs = LayerGraphs(OPTIONS)
    first, second, third = (
        conditions(RopeName.DIRECT, Normaliser.SOFTMAX),
        conditions(RopeName.DIRECT, Normaliser.L2),
        conditions(RopeName.DIRECT, Normaliser.SOFTMAX, causal=True),
    )
    for each in (first, second, first, third):
        graphs.attend(heads(), each, path=Path.HEADS)
    kept = list(graphs._sessions)
    expected = [kind_of(heads(), each, path=Path.HEADS, weighed=True) for each in (first, third)]
    assert kept == expected


def test_threads_share_a_session() -> None:
    graphs = LayerGraphs(OPTIONS)
    asked = conditions(RopeName.DIRECT, Normaliser.SOFTMAX)
    expected = attend(heads(), asked, path=Path.HEADS).output
    with ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda _: graphs.attend(heads(), asked, path=Path.HEADS), range(40))
        for each in found:
            np.testing.assert_allclose(each.output, expected, atol=1e-5)
    assert len(graphs._sessions) == 1


def test_weights_are_given_on_request_only() -> None:
    graphs = LayerGraphs(OPTIONS)
    asked = conditions(RopeName.DIRECT, Normaliser.SOFTMAX)
    bare = graphs.attend(heads(), asked, path=Path.HEADS, weighed=False)
    full = graphs.attend(heads(), asked, path=Path.HEADS)
    assert bare.weights is None
    assert full.weights is not None
    np.testing.assert_allclose(bare.output, full.output, atol=1e-6)
