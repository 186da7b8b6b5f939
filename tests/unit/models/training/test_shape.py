from __future__ import annotations

import pytest

from models.training.shape import BYTES, LAYER_BUDGET, VARIANTS, Shape


def test_mha_by_hand() -> None:
    shape = VARIANTS["mha"]
    # 4 products of 128 x 128, 3 of 128 x 512, 2 norms of 128; four times, a last norm, 256 bytes
    layer = 4 * 128 * 128 + 3 * 128 * 512 + 2 * 128
    assert shape.ffn_dim == 512
    assert shape.parameters == 4 * layer + 128 + BYTES * 128 == 1_082_496


@pytest.mark.parametrize("shape", VARIANTS.values(), ids=VARIANTS)
def test_variants_spend_the_same_parameters(shape: Shape) -> None:
    most = VARIANTS["mha"].parameters
    assert 0.995 * most <= shape.parameters <= most
    assert 1_000_000 <= shape.parameters <= 3_000_000
    assert shape.ffn_dim % 8 == 0
    products = [size for size in shape.layer().values() if len(size) == 2]
    assert sum(rows * columns for rows, columns in products) <= LAYER_BUDGET


def test_cache_elements_by_hand() -> None:
    held = {name: shape.cache_elements for name, shape in VARIANTS.items()}
    assert held == {
        "mha": 2 * 4 * 32,
        "gqa": 2 * 2 * 32,
        "mqa": 2 * 32,
        "mla": 2 * 32,  # the latent and the turned key: as much as MQA
        "gqa_log_n": 2 * 2 * 32,
        "gqa_l2": 2 * 2 * 32,
    }


def test_a_latent_head_is_scored_over_both_parts() -> None:
    shape = VARIANTS["mla"]
    assert shape.latent is not None
    assert shape.rotary_dim == shape.latent.rope_dim
    assert shape.score_dim == 32 + shape.latent.rope_dim
    assert VARIANTS["gqa"].rotary_dim == VARIANTS["gqa"].score_dim == 32


def test_variants_differ_by_attention_alone() -> None:
    for shape in VARIANTS.values():
        assert (shape.model_dim, shape.layers, shape.heads, shape.head_dim) == (128, 4, 4, 32)
    assert {name for name, shape in VARIANTS.items() if shape.scale == "log_n"} == {"gqa_log_n"}
    assert {name for name, shape in VARIANTS.items() if shape.normalization == "l2"} == {"gqa_l2"}
