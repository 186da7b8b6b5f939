"""What every session promises, tried on the real one and on the fake one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from service.errors import ArtefactDamaged, ProviderMissing
from service.runtime.batcher import pad
from service.runtime.session import CpuSession, Session, SessionOptions, open_session
from service.settings import ProviderPolicy
from tests.fakes.sessions import FakeSession

OPTIONS = SessionOptions(providers=("cpu",), policy=ProviderPolicy.PREFER, threads_per_run=1)
IDS = [[101, 2023, 2003, 102], [101, 1037, 102], [101, 2023, 2003, 1037, 3231, 102]]


@pytest.fixture(scope="module")
def real(models_dir: Path) -> Session:
    return open_session(models_dir / "all-MiniLM-L6-v2" / "model.onnx", OPTIONS)


@pytest.fixture(params=["fake", "real"])
def session(request: pytest.FixtureRequest) -> Session:
    if request.param == "fake":
        return FakeSession()
    real: Session = request.getfixturevalue("real")
    return real


def test_it_says_where_it_runs(session: Session) -> None:
    assert session.provider.used == "cpu"
    assert session.provider.as_wished


def test_it_gives_one_matrix_an_output_in_the_order_asked(session: Session) -> None:
    ids, mask = pad(IDS)
    both = session.run(ids, mask, ["mean_raw", "cls"])
    assert len(both) == 2
    for matrix, name in zip(both, ("mean_raw", "cls"), strict=True):
        assert matrix.dtype == np.float32
        assert matrix.shape[0] == 3
        assert matrix.ndim == 2
        assert np.isfinite(matrix).all()
        (alone,) = session.run(ids, mask, [name])
        assert np.array_equal(alone, matrix)


def test_rows_have_length_1_unless_raw(session: Session) -> None:
    ids, mask = pad(IDS)
    unit, raw = session.run(ids, mask, ["mean", "mean_raw"])
    assert np.allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-6)
    lengths = np.linalg.norm(raw, axis=1, keepdims=True)
    assert (np.abs(lengths - 1) > 0.01).any()
    assert np.allclose(unit, raw / lengths, atol=1e-6)


def test_padding_and_neighbours_do_not_show(session: Session) -> None:
    (together,) = session.run(*pad(IDS), ["mean"])
    for row, ids in zip(together, IDS, strict=True):
        (alone,) = session.run(*pad([ids]), ["mean"])
        (padded,) = session.run(*pad([ids, [101] * 40]), ["mean"])
        assert np.abs(alone[0] - row).max() <= 1e-5
        assert np.abs(padded[0] - row).max() <= 1e-5


def test_different_ids_give_different_rows(session: Session) -> None:
    (rows,) = session.run(*pad([[101, 1037, 102], [101, 2023, 102]]), ["mean"])
    assert np.abs(rows[0] - rows[1]).max() > 1e-3


def test_an_output_that_it_lacks_raises(session: Session) -> None:
    with pytest.raises(Exception, match="nothing_like_it"):
        session.run(*pad(IDS), ["nothing_like_it"])


def test_threads_may_share_it(session: Session) -> None:
    (expected,) = session.run(*pad(IDS), ["mean"])
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: session.run(*pad(IDS), ["mean"])[0], range(12)))
    assert all(np.array_equal(each, expected) for each in results)


def test_a_file_that_is_no_graph_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"no graph")
    with pytest.raises(ArtefactDamaged, match=r"model\.onnx"):
        open_session(path, OPTIONS)
    with pytest.raises(ArtefactDamaged):
        open_session(tmp_path / "absent.onnx", OPTIONS)


def test_a_graph_with_other_inputs_is_refused(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["b", "l"])
    out = helper.make_tensor_value_info("out", TensorProto.INT64, ["b", "l"])
    graph = helper.make_graph(
        [helper.make_node("Identity", ["input_ids"], ["out"])], "half", [value], [out]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(ArtefactDamaged, match="attention_mask"):
        open_session(tmp_path / "model.onnx", OPTIONS)


def test_prefer_runs_elsewhere_and_says_so(models_dir: Path) -> None:
    wish = SessionOptions(
        providers=("cuda", "cpu"), policy=ProviderPolicy.PREFER, threads_per_run=1
    )
    session = open_session(models_dir / "all-MiniLM-L6-v2" / "model.onnx", wish)
    assert isinstance(session, CpuSession)
    assert (session.provider.wished, session.provider.used) == ("cuda", "cpu")
    assert not session.provider.as_wished
    assert session.run(*pad(IDS), ["mean"])[0].shape == (3, 384)


def test_strict_does_not_run_elsewhere(models_dir: Path) -> None:
    wish = SessionOptions(providers=("cuda",), policy=ProviderPolicy.STRICT, threads_per_run=1)
    with pytest.raises(ProviderMissing, match="cuda"):
        open_session(models_dir / "all-MiniLM-L6-v2" / "model.onnx", wish)
