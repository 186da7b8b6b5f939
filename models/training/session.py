"""Score bytes with an exported graph in onnxruntime, as the service does.

The graph's inputs are those of `docs/decisions/0023`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from models.decoder.description import cache_shapes
from models.training.evaluation import Measurement, Score, measure
from models.training.family import Arrays, forms, sizes, write_variant
from models.training.recipe import TRAINED_LENGTH, Recipe
from models.training.runs import Run
from models.training.shape import VARIANTS, Shape
from models.training.text import ByteText
from service.numerics.attention.positions import RopeScheme, RopeTables, Rotation, rope_tables
from service.numerics.attention.scales import ScaleName, ScaleScheme, row_scale

Feeds = dict[str, NDArray[Any]]


class Graphs:
    """Hold the sessions of one variant's graphs in a family's folder.

    Args:
        folder: the family.
        shape: the variant whose weights the graphs read.
        name: which of `forms(shape)`.
    """

    def __init__(self, folder: Path, shape: Shape, *, name: str) -> None:
        self._shape = shape
        self._form = forms(shape)[name]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._sessions = {
            windowed: onnxruntime.InferenceSession(
                folder / f"{name}{'.windowed' if windowed else ''}.onnx",
                options,
                providers=["CPUExecutionProvider"],
            )
            for windowed in (False, True)
        }

    def logits(
        self, ids: NDArray[np.int64], scheme: RopeScheme, scale: ScaleName
    ) -> NDArray[np.float32]:
        """Return the logits (n, 256) after each of ids (n,)."""
        feeds = self._feeds(len(ids), scheme, scale) | {"input_ids": ids[np.newaxis]}
        [found] = self._sessions[scheme.windowed].run(["logits"], feeds)
        rows: NDArray[np.float32] = found[0]
        return rows

    @property
    def score(self) -> Score:
        """Return what `evaluate` asks for."""

        def of(ids: NDArray[np.int64], scheme: RopeScheme, scale: ScaleName) -> NDArray[np.float32]:
            return np.stack([losses(self.logits(row[:-1], scheme, scale), row[1:]) for row in ids])

        return of

    def _feeds(self, length: int, scheme: RopeScheme, scale: ScaleName) -> Feeds:
        positions = np.arange(length)
        tables = rope_tables(
            scheme,
            queries=positions,
            keys=positions,
            rope_dim=self._shape.rotary_dim,
            base=Recipe().rope_base,
        )
        factors = row_scale(
            ScaleScheme(name=scale, length=TRAINED_LENGTH),
            positions + 1,
            head_dim=self._shape.score_dim,
        )
        past = {
            f"past.{layer}.{part}": np.zeros((1, heads, 0, width), dtype=np.float32)
            for layer in range(self._shape.layers)
            for part, (heads, width) in cache_shapes(sizes(self._shape), self._form).items()
        }
        return {
            "q_scale": factors.astype(np.float32)[np.newaxis, :, np.newaxis],
            "logits_from": np.array([0]),
            **past,
            **_tables(tables),
        }


def evaluate(run: Run, trained: Arrays, text: ByteText) -> list[Measurement]:
    """Return what the graphs of one run score in every case that its variant is measured in."""
    shape = VARIANTS[run.variant]
    with tempfile.TemporaryDirectory(prefix="isotrope-graphs-") as scratch:
        write_variant(Path(scratch), shape, trained)
        graphs = Graphs(Path(scratch), shape, name=shape.variant)
        return measure(shape, text, seed=run.seed, score=graphs.score)


def losses(logits: NDArray[np.float32], targets: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return log Σ exp(logits) - logits[target] of each row, nats."""
    wide = logits.astype(np.float64)
    top = wide.max(axis=1)
    total = top + np.log(np.exp(wide - top[:, np.newaxis]).sum(axis=1))
    found: NDArray[np.float32] = (total - wide[np.arange(len(targets)), targets]).astype(np.float32)
    return found


def _tables(tables: RopeTables) -> Feeds:
    feeds = _turned("q", "", tables.queries) | _turned("k", "", tables.keys)
    if tables.far is None:
        return feeds
    far = _turned("q", "_far", tables.far.queries) | _turned("k", "_far", tables.far.keys)
    return feeds | far | {"near": tables.far.near[np.newaxis]}


def _turned(side: str, suffix: str, rotation: Rotation) -> Feeds:
    return {
        f"{side}_cos{suffix}": rotation.cos[np.newaxis],
        f"{side}_sin{suffix}": rotation.sin[np.newaxis],
    }
