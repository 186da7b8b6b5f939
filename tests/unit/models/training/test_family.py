from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from safetensors.numpy import load_file

from models.errors import RecipeError
from models.training.evaluation import PARITY_SCHEMES
from models.training.family import for_graphs, for_training, forms, read_variant, write_variant
from models.training.session import Graphs, losses
from models.training.shape import VARIANTS, Latent, Shape
from service.numerics.attention.scales import ScaleName

TINY = {
    "gqa": Shape(variant="gqa", kv_heads=2, layers=2),
    "mla": Shape(variant="mla", kv_heads=4, layers=2, latent=Latent(kv_rank=12, rope_dim=8)),
    "gqa_l2": Shape(variant="gqa_l2", kv_heads=2, layers=1, normalization="l2"),
}


def weights_of(shape: Shape, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {
        name: random.normal(0, 0.1, size).astype(np.float32)
        if len(size) > 1
        else (1 + random.normal(0, 0.1, size)).astype(np.float32)
        for name, size in shape.tensors().items()
    }


@pytest.mark.parametrize("shape", TINY.values(), ids=TINY)
def test_written_weights_are_read_back_to_the_bit(tmp_path: Path, shape: Shape) -> None:
    trained = weights_of(shape)
    write_variant(tmp_path, shape, trained)
    read = read_variant(tmp_path, shape)
    assert read.keys() == trained.keys()
    assert all(np.array_equal(read[name], trained[name]) for name in trained)


def test_graphs_refer_to_the_named_bytes_of_the_safetensors_file(tmp_path: Path) -> None:
    shape = TINY["mla"]
    trained = weights_of(shape)
    write_variant(tmp_path, shape, trained)
    stored = load_file(tmp_path / "mla.safetensors")
    graph = onnx.load(tmp_path / "mla.onnx").graph
    held = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    query = held["/layers.1/attention/query/query"]
    assert np.array_equal(query, trained["layers.1/attention/query"])
    assert any(
        np.array_equal(value, stored["layers.0/attention/key_up"]) for value in held.values()
    )


def test_a_map_out_of_the_latent_is_cut_by_head() -> None:
    shape = TINY["mla"]
    trained = weights_of(shape)
    apart = for_graphs(shape, trained)
    whole, cut = trained["layers.0/attention/key_up"], apart["layers.0/attention/key_up"]
    assert cut.shape == (4, 12, 32)
    for head in range(4):
        assert np.array_equal(cut[head], whole[:, 32 * head : 32 * (head + 1)])
    again = for_training(shape, apart)
    assert all(np.array_equal(again[name], trained[name]) for name in trained)


@pytest.mark.parametrize("shape", TINY.values(), ids=TINY)
def test_graphs_depend_on_the_past_alone(tmp_path: Path, shape: Shape) -> None:
    write_variant(tmp_path, shape, weights_of(shape))
    ids = np.random.default_rng(1).integers(0, 256, 24)
    changed = ids.copy()
    changed[16:] = 0
    for name in forms(shape):
        graphs = Graphs(tmp_path, shape, name=name)
        for scheme in PARITY_SCHEMES.values():
            whole = graphs.logits(ids, scheme, ScaleName.SQRT)
            cut = graphs.logits(changed, scheme, ScaleName.SQRT)
            assert np.abs(whole[:16] - cut[:16]).max() < 1e-5
            assert np.abs(whole[16:] - cut[16:]).max() > 1e-3


def test_the_absorbed_graph_computes_what_the_latent_one_does(tmp_path: Path) -> None:
    shape = TINY["mla"]
    write_variant(tmp_path, shape, weights_of(shape))
    ids = np.random.default_rng(1).integers(0, 256, 40)
    for scheme in PARITY_SCHEMES.values():
        plain, absorbed = (
            Graphs(tmp_path, shape, name=name).logits(ids, scheme, ScaleName.SQRT)
            for name in ("mla", "mla_absorbed")
        )
        assert np.abs(plain - absorbed).max() < 1e-4


def test_a_family_without_the_variant_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"no mqa\.safetensors"):
        read_variant(tmp_path, VARIANTS["mqa"])


def test_weights_of_another_size_are_refused(tmp_path: Path) -> None:
    write_variant(tmp_path, TINY["gqa"], weights_of(TINY["gqa"]))
    with pytest.raises(RecipeError, match=r"layers\.2/attention/norm"):
        read_variant(tmp_path, VARIANTS["gqa"])


def test_losses_by_hand() -> None:
    logits = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]], dtype=np.float32)) + 300
    assert losses(logits, np.array([0, 1])) == pytest.approx([np.log(2), np.log(10)], abs=1e-4)
