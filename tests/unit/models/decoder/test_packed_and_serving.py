"""4-bit graphs against the numbers of the file, and the serving graph against the float one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.decoder.packed import pack
from models.gguf.blocks import dequantise
from models.gguf.reader import GgufFile, parse_gguf
from models.recipes.smollm2 import NATIVE
from tests.support.decoder_reference import direct, reference_decoder
from tests.support.decoder_runs import DecoderRun
from tests.support.decoders import ROPE_BASE
from tests.support.gguf_files import gguf_bytes, random_tensor, tiny_llama
from tests.support.serving_decoders import tiny_family, write_serving_decoder
from tests.support.serving_runs import ServingRun

IDS = [73, 115, 111, 116, 114, 111, 112, 101, 32, 105, 115, 33]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("models")
    write_serving_decoder(place)
    return place / "tiny-serving"


def open_serving(folder: Path, *, rows: int = 4) -> ServingRun:
    family, form = tiny_family()
    return ServingRun(
        folder / "serving.onnx", sizes=family.llama.sizes, kv_heads=form.kv_heads,
        base=ROPE_BASE, rows=rows, capacity=32,
    )  # fmt: skip


def float_logits(folder: Path) -> NDArray[np.float32]:
    family, form = tiny_family()
    sizes = family.llama.sizes
    run = DecoderRun(
        folder / f"{NATIVE}.onnx", sizes=sizes, form=form,
        positions=direct(sizes.head_dim, base=ROPE_BASE),
    )  # fmt: skip
    logits: NDArray[np.float32] = run.step(np.array([IDS]))["logits"][0]
    return logits


def plain_weights(file: GgufFile, *, layers: int) -> dict[str, Any]:
    parts = {
        "attention/query": "attn_q", "attention/key": "attn_k", "attention/value": "attn_v",
        "attention/output": "attn_output", "feed_forward/gate": "ffn_gate",
        "feed_forward/up": "ffn_up", "feed_forward/down": "ffn_down",
    }  # fmt: skip
    weights = {
        "embedding": dequantise(file.tensor("token_embd.weight")),
        "norm": dequantise(file.tensor("output_norm.weight")),
    }
    for layer in range(layers):
        for part, name in parts.items():
            matrix = dequantise(file.tensor(f"blk.{layer}.{name}.weight"))
            weights[f"layers.{layer}/{part}"] = matrix.T
        for part, name in (("attention", "attn"), ("feed_forward", "ffn")):
            scale = dequantise(file.tensor(f"blk.{layer}.{name}_norm.weight"))
            weights[f"layers.{layer}/{part}/norm"] = scale
    return weights


def test_packed_graph_computes_with_the_numbers_of_the_file(folder: Path) -> None:
    family, form = tiny_family()
    sizes = family.llama.sizes
    logits, _ = reference_decoder(
        IDS, weights=plain_weights(parse_gguf(tiny_llama()), layers=sizes.layers), sizes=sizes,
        form=form, positions=direct(sizes.head_dim, base=ROPE_BASE),
    )  # fmt: skip
    np.testing.assert_allclose(float_logits(folder), logits, atol=1e-4)


def test_nibbles_lie_in_the_order_of_the_kernel() -> None:
    written = random_tensor(np.random.default_rng(1), "w", "Q4_1", (2, 64))
    tensor = parse_gguf(gguf_bytes({}, [written])).tensor("w")
    packed = pack(tensor)
    whole = np.stack([packed.whole & 15, packed.whole >> 4], axis=-1).reshape(2, 2, 32)
    numbers = (whole.astype(np.float32) - 8) * packed.scale[..., None]
    numbers += packed.correction[..., None]
    np.testing.assert_array_equal(numbers.reshape(2, 64), dequantise(tensor))


def test_serving_graph_is_the_float_graph_but_for_8_bit_activations(folder: Path) -> None:
    wanted = float_logits(folder)
    found = open_serving(folder).step([0], [IDS])[0]
    error = np.sqrt(((found - wanted) ** 2).mean() / (wanted**2).mean())
    assert 0 < error < 0.03


def test_prompt_in_parts_and_steps_follow_the_whole_prompt(folder: Path) -> None:
    whole = open_serving(folder).step([0], [IDS])[0]
    run = open_serving(folder)
    parts = [run.step([0], [IDS[:5]])[0], run.step([0], [IDS[5:9]])[0]]
    parts += [run.step([0], [[token]])[0] for token in IDS[9:]]
    found = np.concatenate(parts)
    assert np.sqrt(((found - whole) ** 2).mean() / (whole**2).mean()) < 0.03


def test_a_row_has_the_same_bits_in_any_batch_of_two_or_more(folder: Path) -> None:
    prompts = [IDS[:3], IDS[:11], IDS[4:9], IDS[2:8]]
    given: dict[int, list[NDArray[np.float32]]] = {}
    for rows in ([0, 1], [0, 1, 2], [2, 1, 3, 0]):
        run = open_serving(folder)
        for row in rows:
            run.step([row], [prompts[row]])
        for token in (7, 200):
            logits = run.step(rows, [[token]] * len(rows))
        for place, row in enumerate(rows):
            given.setdefault(row, []).append(logits[place])
    for found in given.values():
        for other in found[1:]:
            np.testing.assert_array_equal(other, found[0])


def test_logits_begin_where_they_are_wanted(folder: Path) -> None:
    whole = open_serving(folder).step([0], [IDS])
    last = open_serving(folder).step([0], [IDS], logits_from=len(IDS) - 2)
    assert last.shape == (1, 2, 256)
    np.testing.assert_allclose(last, whole[:, -2:], rtol=0.05, atol=0.05)


def test_graphs_share_one_file_of_weights(folder: Path) -> None:
    names = {path.name for path in folder.iterdir()}
    assert names == {"manifest.json", "weights.bin", "gqa.onnx", "serving.onnx"}
    assert sum(path.stat().st_size for path in folder.iterdir()) < 2**19
