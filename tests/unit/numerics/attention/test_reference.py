"""Plain attention: worked numbers, published facts, and forms that are one function."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import softmax

from service.errors import DimensionMismatch, NotFinite
from service.numerics.attention.forms import (
    GroupedWeights,
    Heads,
    LatentWeights,
    compress,
    parts,
    pool_heads,
    project_heads,
    project_latents,
)
from service.numerics.attention.measures import (
    expected_noise,
    normalized_entropy,
    rank,
    row_concentration,
    row_entropy,
)
from service.numerics.attention.positions import RopeScheme, rope_tables
from service.numerics.attention.reference import (
    Conditions,
    Layout,
    Normaliser,
    Path,
    attend,
    rotate,
)
from service.numerics.seeds import generator

RNG = generator(11, "reference")


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def plain(tokens: int, **other: object) -> Conditions:
    return Conditions(tables=None, scale=np.ones(tokens), **other)  # type: ignore[arg-type]


def one_head(q: list[list[float]], k: list[list[float]], v: list[list[float]]) -> Heads:
    return Heads(*(np.array([[rows]], dtype=np.float32) for rows in (q, k, v)))


def test_a_worked_causal_example() -> None:
    # scores ln 3 and 0 of the second row: weights 3/4 and 1/4
    heads = one_head([[0], [math.log(3)]], [[1], [0]], [[4], [8]])
    found = attend(heads, plain(2, causal=True), path=Path.HEADS)
    np.testing.assert_allclose(found.weights[0, 0], [[1, 0], [0.75, 0.25]], rtol=1e-6)
    np.testing.assert_allclose(found.output[0, 0], [[4], [5]], rtol=1e-6)


def test_rows_of_length_one() -> None:
    # weights e^s in the ratio 3 : 4 become .6 and .8
    heads = one_head([[1], [1]], [[math.log(3)], [math.log(4)]], [[1], [0]])
    found = attend(heads, plain(2, normaliser=Normaliser.L2), path=Path.HEADS)
    np.testing.assert_allclose(found.weights[0, 0], [[0.6, 0.8]] * 2, rtol=1e-6)


def test_head_s_reads_its_group() -> None:
    heads = Heads(normal(1, 6, 5, 4), normal(1, 2, 5, 4), normal(1, 2, 5, 3))
    found = attend(heads, plain(5), path=Path.HEADS).output
    for head, group in enumerate([0, 0, 0, 1, 1, 1]):
        weights = softmax(heads.queries[0, head] @ heads.keys[0, group].T, axis=-1)
        np.testing.assert_allclose(found[0, head], weights @ heads.values[0, group], atol=1e-5)


@pytest.mark.parametrize("layout", Layout)
def test_scores_of_turned_vectors_depend_on_distance_alone(layout: Layout) -> None:
    near, far = np.arange(4), np.arange(4) + 1000
    q, k = np.repeat(normal(1, 8), 4, 0).astype(float), np.repeat(normal(1, 8), 4, 0).astype(float)
    found = []
    for at in (near, far):
        tables = rope_tables(RopeScheme(), queries=at, keys=at, rope_dim=8, base=100.0)
        found.append(rotate(q, tables.queries, layout) @ rotate(k, tables.keys, layout).T)
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)
    np.testing.assert_allclose(np.diagonal(found[0], 1), found[0][0, 1], atol=1e-6)
    assert found[0][0, 1] != pytest.approx(found[0][1, 0], abs=1e-3)


def test_the_two_layouts_pair_other_numbers() -> None:
    tables = rope_tables(
        RopeScheme(), queries=np.array([1]), keys=np.array([1]), rope_dim=4, base=1e4
    )
    c, s = math.cos(1), math.sin(1)
    found = rotate(np.array([[1.0, 0, 0, 0, 9]]), tables.queries, Layout.INTERLEAVED)
    np.testing.assert_allclose(found, [[c, s, 0, 0, 9]], atol=1e-6)
    found = rotate(np.array([[1.0, 0, 0, 0, 9]]), tables.queries, Layout.HALVES)
    np.testing.assert_allclose(found, [[c, 0, s, 0, 9]], atol=1e-6)


def test_projected_heads() -> None:
    hidden = normal(2, 5, 6)
    weights = GroupedWeights(normal(4, 6, 3), normal(2, 6, 3), normal(2, 6, 7))
    heads = project_heads(hidden, weights)
    np.testing.assert_allclose(heads.queries[1, 3], hidden[1] @ weights.w_q[3], atol=1e-5)
    assert heads.values.shape == (2, 2, 5, 7)


def latent_weights(
    hidden: int = 6, heads: int = 3, rank_: int = 4, turning: int = 2
) -> LatentWeights:
    return LatentWeights(
        w_qc=normal(heads, hidden, 5),
        w_qr=normal(heads, hidden, turning),
        w_kv_down=normal(hidden, rank_),
        w_kc=normal(heads, rank_, 5),
        w_kr=normal(hidden, turning),
        w_v=normal(heads, rank_, 3),
    )


def test_a_latent_is_the_heads_that_it_makes() -> None:
    hidden, weights = normal(1, 7, 6), latent_weights()
    latents = project_latents(hidden, weights)
    tables = rope_tables(
        RopeScheme(), queries=np.arange(7), keys=np.arange(7), rope_dim=2, base=1e4
    )
    conditions = Conditions(tables=tables, scale=np.full(7, 7**-0.5), causal=True)
    expanded, absorbed = (
        attend(latents, conditions, path=path).output for path in (Path.EXPANDED, Path.ABSORBED)
    )
    np.testing.assert_allclose(absorbed, expanded, atol=1e-9)
    x = hidden[0].astype(float)
    c = x @ weights.w_kv_down
    for head in range(3):
        q = np.hstack(
            [x @ weights.w_qc[head], rotate(x @ weights.w_qr[head], tables.queries, Layout.HALVES)]
        )
        k = np.hstack(
            [c @ weights.w_kc[head], rotate(x @ weights.w_kr, tables.keys, Layout.HALVES)]
        )
        scores = np.where(np.tril(np.ones((7, 7), bool)), q @ k.T / 7**0.5, -np.inf)
        expected = softmax(scores, axis=-1) @ (c @ weights.w_v[head])
        np.testing.assert_allclose(expanded[0, head], expected, atol=1e-5)


def test_a_cut_latent_loses_what_it_says() -> None:
    heads = Heads(normal(1, 4, 12, 3), normal(1, 2, 12, 3), normal(1, 2, 12, 3))
    made = compress(heads, rank=5)
    keys = made.latents.latent[0] @ made.latents.key_maps[0]
    values = made.latents.latent[0] @ made.latents.value_maps[2]  # head 2 reads group 1
    assert made.latents.latent.shape == (1, 12, 5)
    assert 0.1 < made.error < 0.9
    rest = [
        np.square(
            heads.keys[0, group] - made.latents.latent[0] @ made.latents.key_maps[2 * group]
        ).sum()
        + np.square(
            heads.values[0, group] - made.latents.latent[0] @ made.latents.value_maps[2 * group]
        ).sum()
        for group in range(2)
    ]
    whole = np.square(heads.keys).sum() + np.square(heads.values).sum()
    assert math.sqrt(sum(rest) / whole) == pytest.approx(made.error, rel=1e-4)
    assert keys.shape == values.shape == (12, 3)
    with pytest.raises(DimensionMismatch, match="a rank of at most 12"):
        compress(heads, rank=13)


def test_pooled_heads_are_means() -> None:
    heads = Heads(normal(1, 4, 3, 2), normal(1, 2, 3, 2), normal(1, 2, 3, 2))
    pooled = pool_heads(heads)
    np.testing.assert_allclose(pooled.keys[0, 0], heads.keys[0].mean(axis=0), atol=1e-6)
    assert pooled.values.shape == (1, 1, 3, 2)


@pytest.mark.parametrize("most", [1, 60, 200, 10**9])
def test_parts_are_the_whole(most: int) -> None:
    heads = Heads(normal(2, 6, 5, 4), normal(2, 3, 5, 4), normal(2, 3, 5, 3))
    whole = attend(heads, plain(5), path=Path.HEADS).output
    found = np.full_like(whole, np.nan)
    for part in parts(heads, most_scores=most):
        found[part.batch, part.heads] = attend(part.form, plain(5), path=Path.HEADS).output
        assert part.form.queries.shape[:2] == found[part.batch, part.heads].shape[:2]
    np.testing.assert_allclose(found, whole, atol=1e-12)


def test_weights_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DimensionMismatch, match=r"w_k has the shape \(2, 5, 3\)"):
        project_heads(
            normal(1, 4, 6), GroupedWeights(normal(4, 6, 3), normal(2, 5, 3), normal(2, 6, 7))
        )
    wrong = replace(latent_weights(), w_kc=normal(3, 3, 5))
    with pytest.raises(DimensionMismatch, match="w_kc"):
        project_latents(normal(1, 4, 6), wrong)


def test_projections_that_grow_too_large_are_refused() -> None:
    large = np.full((1, 2, 3), 1e5, dtype=np.float32)
    with pytest.raises(NotFinite, match="x w_q"):
        project_heads(
            large,
            GroupedWeights(
                large.repeat(3, 1)[:, :3] * 10, large[:, :1].repeat(3, 1), normal(1, 3, 2)
            ),
        )


def test_entropy_of_rows() -> None:
    weights = np.array([[0.5, 0.5, 0, 0], [0.25, 0.25, 0.25, 0.25], [3, 4, 0, 0]])
    found = row_entropy(weights)
    expected = -(3 / 7 * math.log(3 / 7) + 4 / 7 * math.log(4 / 7))
    np.testing.assert_allclose(found, [math.log(2), math.log(4), expected], rtol=1e-12)
    shares = normalized_entropy(found, np.array([2, 4, 2]))
    assert shares[:2] == pytest.approx([1, 1])
    assert np.isnan(normalized_entropy(np.zeros(1), np.array([1]))[0])


def test_concentration_is_relative_to_visible_keys() -> None:
    found = row_concentration(np.array([[[0.5, 0.5, 0, 0]]]), np.array([2]))
    assert found["normalized_entropy"][0, 0] == pytest.approx(1)
    assert found["n_eff"][0, 0] == pytest.approx(2)


def test_rank_counts_independent_rows() -> None:
    twice = np.array([[0.5, 0.5], [0.5, 0.5]])
    found = rank(np.stack([twice, np.eye(2)]))
    assert found.numerical.tolist() == [1, 2]
    assert found.largest == pytest.approx([1, 1])
    assert found.smallest == pytest.approx([0, 1], abs=1e-12)


def test_expected_noise_is_what_noise_does() -> None:
    heads = Heads(normal(1, 1, 512, 8), normal(1, 1, 512, 8), normal(1, 1, 512, 8))
    clean = attend(heads, Conditions(tables=None, scale=np.full(512, 8**-0.5)), path=Path.HEADS)
    expected = expected_noise(clean.weights[0], heads.values[0], sigma=0.3).mean()
    noisy = Conditions(tables=None, scale=np.full(512, 8**-0.5), bias=0.3 * normal(1, 1, 512, 512))
    moved = attend(heads, noisy, path=Path.HEADS).output - clean.output
    assert np.square(moved).sum(axis=-1).mean() == pytest.approx(expected, rel=0.1)


def test_softmax_averages_noise_away_as_keys_grow() -> None:
    changes = []
    for n in (16, 1024, 8192):
        scores = generator(5, "scores", n).standard_normal((32, n))
        values = generator(5, "values", n).standard_normal((n, 32)) + 1
        noise = 0.5 * generator(5, "noise", n).standard_normal((32, n))
        clean, noisy = softmax(scores, axis=1) @ values, softmax(scores + noise, axis=1) @ values
        changes.append(np.linalg.norm(noisy - clean) / np.linalg.norm(clean))
    assert changes[2] <= 0.02
    assert changes[2] <= changes[0] / 8
