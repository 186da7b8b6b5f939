"""Decoder graphs against plain NumPy, in every form, and against each other."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.decoder.description import Form, Formula, cache_shapes
from models.decoder.storage import DataFile
from tests.support.decoder_reference import Positions, direct, leaky, reference_decoder
from tests.support.decoder_runs import DecoderRun
from tests.support.decoders import (
    FORMS,
    ROPE_BASE,
    SIZES,
    build_graph,
    random_weights,
    write_decoder,
)

IDS = np.array([[73, 115, 111, 116, 114, 111, 112, 101, 32, 105, 115]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("models")
    write_decoder(place)
    return place / "tiny-decoder"


def plain(form: Form) -> Positions:
    return direct(form.rope_dim or SIZES.head_dim, base=ROPE_BASE)


def open_run(folder: Path, name: str) -> DecoderRun:
    return DecoderRun(
        folder / f"{name}.onnx", sizes=SIZES, form=FORMS[name], positions=plain(FORMS[name])
    )


@pytest.mark.parametrize("name", FORMS)
def test_logits_and_entropies_are_those_of_plain_numpy(folder: Path, name: str) -> None:
    form = FORMS[name]
    given = open_run(folder, name).step(IDS)
    logits, entropies = reference_decoder(
        IDS[0].tolist(), weights=random_weights(SIZES, form), sizes=SIZES, form=form,
        positions=plain(form),
    )  # fmt: skip
    np.testing.assert_allclose(given["logits"][0], logits, atol=1e-5)
    np.testing.assert_allclose(given["entropy"][:, 0], entropies, atol=1e-5)


@pytest.mark.parametrize("name", FORMS)
def test_windowed_graph_bends_the_distance_beyond_the_window(folder: Path, name: str) -> None:
    form = replace(FORMS[name], reach="near_and_far", tapped=frozenset())
    positions = leaky(form.rope_dim or SIZES.head_dim, base=ROPE_BASE, window=4, factor=3)
    run = DecoderRun(folder / f"{name}.windowed.onnx", sizes=SIZES, form=form, positions=positions)
    logits, entropies = reference_decoder(
        IDS[0].tolist(), weights=random_weights(SIZES, form), sizes=SIZES, form=form,
        positions=positions,
    )  # fmt: skip
    first = run.step(IDS[:, :6])
    second = run.step(IDS[:, 6:])
    joined = np.concatenate([first["logits"], second["logits"]], axis=1)
    np.testing.assert_allclose(joined[0], logits, atol=1e-5)
    np.testing.assert_allclose(second["entropy"][:, 0], entropies[:, :, 6:], atol=1e-5)


@pytest.mark.parametrize("name", FORMS)
def test_prefill_and_steps_give_what_one_run_gives(folder: Path, name: str) -> None:
    whole = open_run(folder, name).step(IDS)
    run = open_run(folder, name)
    chunks = [run.step(IDS[:, :5])["logits"]]
    chunks += [run.step(IDS[:, at : at + 1])["logits"] for at in range(5, IDS.shape[1])]
    np.testing.assert_allclose(np.concatenate(chunks, axis=1), whole["logits"], atol=1e-4)
    for layer in range(SIZES.layers):
        for part, (heads, width) in cache_shapes(SIZES, FORMS[name]).items():
            held = run.past[f"past.{layer}.{part}"]
            assert held.shape == (1, heads, IDS.shape[1], width)
            np.testing.assert_allclose(held, whole[f"present.{layer}.{part}"], atol=1e-5)


def test_absorbed_form_is_the_same_function(folder: Path) -> None:
    one = open_run(folder, "mla").step(IDS)
    other = open_run(folder, "mla_absorbed").step(IDS)
    np.testing.assert_allclose(one["logits"], other["logits"], atol=1e-4)
    np.testing.assert_array_equal(one["present.0.latent"], other["present.0.latent"])


@pytest.mark.parametrize("name", ["gqa", "mla", "mla_rebuilt"])
def test_rows_of_a_batch_and_padding_on_the_right_change_nothing(folder: Path, name: str) -> None:
    padded = np.concatenate([IDS, np.zeros((1, 3), dtype=np.int64)], axis=1)
    both = np.concatenate([padded, padded[:, ::-1]])
    alone = open_run(folder, name).step(IDS)
    among = open_run(folder, name).step(both)
    length = IDS.shape[1]
    np.testing.assert_allclose(among["logits"][:1, :length], alone["logits"], atol=1e-5)
    np.testing.assert_allclose(among["entropy"][:, :1, :, :length], alone["entropy"], atol=1e-5)


def test_logits_begin_where_they_are_wanted(folder: Path) -> None:
    whole = open_run(folder, "gqa").step(IDS)["logits"]
    last = open_run(folder, "gqa").step(IDS, logits_from=IDS.shape[1] - 2)["logits"]
    assert last.shape == (1, 2, SIZES.vocabulary)
    np.testing.assert_allclose(last, whole[:, -2:], atol=1e-5)


def test_row_scale_multiplies_each_query(folder: Path) -> None:
    form = FORMS["gqa"]
    positions = replace(plain(form), row_scale=lambda t: np.log(t + 1) / np.log(8))
    run = DecoderRun(folder / "gqa.onnx", sizes=SIZES, form=form, positions=positions)
    logits, _ = reference_decoder(
        IDS[0].tolist(), weights=random_weights(SIZES, form), sizes=SIZES, form=form,
        positions=positions,
    )  # fmt: skip
    np.testing.assert_allclose(run.step(IDS)["logits"][0], logits, atol=1e-5)


def test_taps_are_the_projections_before_rotation(folder: Path) -> None:
    weights = random_weights(SIZES, FORMS["gqa"])
    given = open_run(folder, "gqa").step(IDS)
    rows = weights["embedding"][IDS[0]]
    rows = rows / np.sqrt((rows**2).mean(axis=-1, keepdims=True) + SIZES.epsilon)
    rows = rows * weights["layers.0/attention/norm"]
    for part, heads in (("query", 4), ("key", 2), ("value", 2)):
        tapped = given[f"{part}.0"]
        assert tapped.shape == (1, heads, IDS.shape[1], SIZES.head_dim)
        flat = tapped[0].transpose(1, 0, 2).reshape(IDS.shape[1], -1)
        np.testing.assert_allclose(flat, rows @ weights[f"layers.0/attention/{part}"], atol=1e-5)
    assert "query.1" in given


def test_key_heads_repeated_give_the_same_model(folder: Path, tmp_path: Path) -> None:
    gqa = FORMS["gqa"]
    weights = random_weights(SIZES, gqa)
    for layer in range(SIZES.layers):
        for part in ("key", "value"):
            name = f"layers.{layer}/attention/{part}"
            heads = weights[name].reshape(SIZES.hidden, 2, SIZES.head_dim)
            weights[name] = np.repeat(heads, 2, axis=1).reshape(SIZES.hidden, -1)
    form = Form("mha", 4, gqa.score_scale)
    path = build_graph(
        tmp_path, "mha", sizes=SIZES, form=form, weights=weights, file=DataFile("mha.bin")
    )
    run = DecoderRun(path, sizes=SIZES, form=form, positions=plain(form))
    native = open_run(folder, "gqa").step(IDS)["logits"]
    np.testing.assert_allclose(run.step(IDS)["logits"], native, atol=1e-5)


def test_latent_of_full_rank_gives_the_same_model(folder: Path, tmp_path: Path) -> None:
    gqa = FORMS["gqa"]
    weights = random_weights(SIZES, gqa)
    width = 2 * gqa.kv_heads * SIZES.head_dim
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(width, width)))[0]
    for layer in range(SIZES.layers):
        place = f"layers.{layer}/attention"
        joined = np.hstack([weights.pop(f"{place}/key"), weights.pop(f"{place}/value")])
        weights[f"{place}/latent"] = (joined @ turn).astype(np.float32)
        ups = turn.T.reshape(width, 2, gqa.kv_heads, SIZES.head_dim).transpose(1, 2, 0, 3)
        weights[f"{place}/key_up"], weights[f"{place}/value_up"] = ups.astype(np.float32)
    form = Form("mla", gqa.kv_heads, gqa.score_scale, kv_rank=width)
    path = build_graph(
        tmp_path, "mla", sizes=SIZES, form=form, weights=weights, file=DataFile("mla.bin")
    )
    run = DecoderRun(path, sizes=SIZES, form=form, positions=plain(form))
    native = open_run(folder, "gqa").step(IDS)["logits"]
    np.testing.assert_allclose(run.step(IDS)["logits"], native, atol=1e-4)


def test_folder_is_small_and_says_what_is_in_it(folder: Path) -> None:
    entry = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert sum(path.stat().st_size for path in folder.iterdir()) < 2**20
    assert entry["default_variant"] == "gqa"
    assert entry["variants"]["mla"]["cache_elements"] == 12
    assert set(entry["files"]) == {path.name for path in folder.iterdir()} - {"manifest.json"}


def test_same_seed_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    entry = write_decoder(tmp_path, names=("gqa",))
    for name, pin in entry["files"].items():
        assert (folder / name).read_bytes() == (tmp_path / "tiny-decoder" / name).read_bytes(), pin


@pytest.mark.parametrize(
    ("formula", "rest", "said"),
    [
        ("mla", {}, "kv_rank belongs to mla"),
        ("gqa", {"kv_rank": 8}, "kv_rank belongs to mla"),
        ("gqa", {"rope_dim": 8}, "rope_dim belongs to mla"),
        ("mla_absorbed", {"kv_rank": 8}, "needs rope_dim"),
    ],
)
def test_forms_that_no_graph_can_have_are_refused(
    formula: Formula, rest: dict[str, int], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        Form(formula, 2, 1.0, **rest)  # type: ignore[arg-type]
