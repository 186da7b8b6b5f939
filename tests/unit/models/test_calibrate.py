"""What is fitted to moments: directions, the shared key, and what an error moves."""

from __future__ import annotations

import numpy as np

from models.calibrate import (
    Moments,
    fit_layer,
    importance,
    leading,
    remainder,
    shared_direction,
)
from models.gguf.llama import describe
from models.gguf.reader import parse_gguf
from tests.support.gguf_files import tiny_llama

LLAMA = describe(parse_gguf(tiny_llama(layers=1, hidden=64, heads=4, kv_heads=2)))
GROUPS, WIDTH = 2, 16


def filled(seed: int = 0) -> Moments:
    draw = np.random.default_rng(seed)
    moments = Moments(LLAMA)
    for _ in range(3):
        moments.add(*(draw.normal(size=(heads, 20, WIDTH)) for heads in (4, 2, 2)))
    return moments


def test_moments_are_those_of_all_tokens_together() -> None:
    draw = np.random.default_rng(4)
    query, key, value = (draw.normal(size=(heads, 20, WIDTH)) for heads in (4, 2, 2))
    whole, parts = Moments(LLAMA), Moments(LLAMA)
    whole.add(query, key, value)
    for part in (slice(0, 7), slice(7, 20)):
        parts.add(query[:, part], key[:, part], value[:, part])
    np.testing.assert_allclose(parts.joined, whole.joined)
    np.testing.assert_allclose(parts.queries, whole.queries)
    rows = np.hstack([*key, *value])
    np.testing.assert_allclose(whole.joined, rows.T @ rows)
    np.testing.assert_allclose(whole.queries[1], (query[2:] ** 2).sum(axis=1).mean(axis=0))


def test_leading_directions_come_largest_first_and_point_one_way() -> None:
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(5, 5)))[0]
    moment = turn @ np.diag([1.0, 9, 4, 16, 2]) @ turn.T
    rows = leading(moment, 3)
    np.testing.assert_allclose(rows @ moment @ rows.T, np.diag([16, 9, 4]), atol=1e-12)
    assert (np.take_along_axis(rows, np.abs(rows).argmax(axis=1)[:, None], axis=1) > 0).all()


def test_shared_key_is_what_heads_have_in_common() -> None:
    draw = np.random.default_rng(2)
    common = draw.normal(size=(50, WIDTH))
    keys = np.hstack([0.6 * common, 0.8 * common])
    joined = np.zeros((4 * WIDTH,) * 2)
    joined[: 2 * WIDTH, : 2 * WIDTH] = keys.T @ keys
    share = shared_direction(joined, groups=GROUPS, width=WIDTH)
    np.testing.assert_allclose(share, np.tile([[0.6], [0.8]], WIDTH), atol=1e-9)
    np.testing.assert_allclose(keys @ remainder(share), 0, atol=1e-9)


def test_remainder_takes_off_a_direction_and_no_more() -> None:
    share = shared_direction(filled().joined, groups=GROUPS, width=WIDTH)
    rest = remainder(share)
    np.testing.assert_allclose(rest @ rest, rest, atol=1e-12)
    np.testing.assert_allclose(rest, rest.T)
    assert round(np.trace(rest)) == (GROUPS - 1) * WIDTH


def test_errors_weigh_as_the_output_moves() -> None:
    moments = filled()
    output = np.random.default_rng(3).normal(size=(64, 64))
    weight = importance(moments, output)
    louder = output.copy()
    louder[:, :32] *= 3  # columns of the first group's two heads
    changed = importance(moments, louder)
    values = weight[2 * WIDTH :], changed[2 * WIDTH :]
    ratio = values[1] / values[0]
    np.testing.assert_allclose(ratio[:WIDTH] / ratio[WIDTH:], 3)
    np.testing.assert_allclose(weight[: 2 * WIDTH : 2], weight[1 : 2 * WIDTH : 2])
    assert np.isclose(weight.mean(), 1)


def test_one_layer_is_fitted_in_the_shapes_that_the_recipe_reads() -> None:
    output = np.random.default_rng(3).normal(size=(64, 64))
    arrays = fit_layer(filled(), output, layer=7, llama=LLAMA)
    assert arrays["layers.7/share"].shape == (GROUPS, WIDTH)
    for kind in ("latent", "decoupled"):
        rows = arrays[f"layers.7/{kind}/rows"]
        assert rows.dtype == np.float16
        assert rows.flags.c_contiguous
        assert rows.shape[1] == 4 * WIDTH
