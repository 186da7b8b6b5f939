"""Make small weights of the convolutional encoder and compute it in plain NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Weights = Mapping[str, NDArray[Any]]
WINDOWS = {2: 0, 3: 1, 5: 2}


def small_weights(part_rows: int, *, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Return random weights of the right shapes, with a word table of 17 x `part_rows` rows."""
    draw = np.random.default_rng(seed)

    def matrix(*shape: int) -> NDArray[np.float32]:
        return (draw.normal(0, 1, shape) / np.sqrt(shape[0])).astype(np.float32)

    def vector(size: int, *, middle: float = 0.0) -> NDArray[np.float32]:
        return (middle + draw.normal(0, 0.1, size)).astype(np.float32)

    weights: dict[str, NDArray[Any]] = {
        f"q{part + 1}": draw.integers(0, 256, (part_rows, 512), dtype=np.uint8)
        for part in range(17)
    }
    for size in WINDOWS:
        weights |= {f"proj{size}": matrix(512, 256), f"proj_b{size}": vector(256)}
        weights |= {f"ln_g{size}": vector(256, middle=1), f"ln_b{size}": vector(256)}
        for step in (1, 2):
            weights |= {f"w{step}_{size}": matrix(size * 256, 256), f"b{step}_{size}": vector(256)}
    weights |= {"scale": vector(17, middle=0.5) / 100, "lo": vector(17, middle=-0.6)}
    weights |= {"ln_g": vector(1280, middle=1), "ln_b": vector(1280)}
    weights |= {"cnn_W": matrix(1280, 512), "cnn_b": vector(512)}
    weights |= {"d0": matrix(512, 320), "d1": matrix(320, 320), "p1": matrix(512, 320)}
    weights |= {"d2": matrix(320, 512), "p3": matrix(320, 512), "d3": matrix(512, 512)}
    return weights | {"eps": np.array(1e-6)}


def reference_use(weights: Weights, ids: list[int]) -> NDArray[np.float64]:
    """Return the vector of one text before it is brought to unit length, in float64."""
    wide = {name: array.astype(np.float64) for name, array in weights.items()}
    words = np.stack(
        [wide[f"q{i % 17 + 1}"][i // 17] * wide["scale"][i % 17] + wide["lo"][i % 17] for i in ids]
    )
    sizes = list(WINDOWS)
    projected = np.hstack([words @ wide[f"proj{n}"] + wide[f"proj_b{n}"] for n in sizes])
    normed = _norm(
        projected,
        np.hstack([wide[f"ln_g{n}"] for n in sizes]),
        np.hstack([wide[f"ln_b{n}"] for n in sizes]),
        epsilon=wide["eps"],
    )
    features = [words]
    for place, (size, left) in enumerate(WINDOWS.items()):
        value = normed[:, 256 * place : 256 * (place + 1)]
        for step in (1, 2):
            windows = np.pad(value, ((left, size - 1 - left), (0, 0)))
            rows = np.stack([windows[at : at + size].ravel() for at in range(len(ids))])
            summed = rows @ wide[f"w{step}_{size}"] + wide[f"b{step}_{size}"]
            value = np.maximum(summed, 0) + value
        features.append(value)
    joined = _norm(np.hstack(features), wide["ln_g"], wide["ln_b"], epsilon=wide["eps"])
    pooled = (joined @ wide["cnn_W"] + wide["cnn_b"]).sum(axis=0) / np.sqrt(len(ids))
    first = np.maximum(pooled @ wide["d0"], 0)
    second = np.maximum(pooled @ wide["p1"] + first @ wide["d1"], 0)
    third = np.maximum(second @ wide["d2"], 0)
    vector: NDArray[np.float64] = np.tanh(second @ wide["p3"] + third @ wide["d3"])
    return vector


def _norm(
    rows: NDArray[np.float64],
    scale: NDArray[np.float64],
    bias: NDArray[np.float64],
    *,
    epsilon: NDArray[np.float64],
) -> NDArray[np.float64]:
    centred = rows - rows.mean(axis=-1, keepdims=True)
    spread = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + epsilon)
    result: NDArray[np.float64] = centred / spread * scale + bias
    return result
