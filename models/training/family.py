"""Write trained weights as a decoder family: graphs, and the bytes that they share.

The bytes of a variant lie in `<variant>.safetensors`, under the names that the graphs' builder asks
for. The graphs refer into that file, so any reader of safetensors can open the weights by name, and
the graphs can be written anew without training or torch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from models.decoder.body import decoder_graph
from models.decoder.description import Form, Formula, Sizes
from models.decoder.source import FloatSource
from models.decoder.storage import DataFile, write_graph
from models.errors import RecipeError
from models.graph import FilePlace, GraphBuilder
from models.training.shape import BYTES, EPSILON, VARIANTS, Shape

FAMILY = "isotrope-bytes"
DEFAULT_VARIANT = "gqa"
# the two maps out of the latent: one matrix in training, one a head in a graph
LATENT_MAPS = ("attention/key_up", "attention/value_up")
Arrays = Mapping[str, NDArray[np.float32]]


class SafetensorsFile(DataFile):
    """Refer into the bytes of a safetensors file.

    Args:
        name: the file's name.
        weights: everything that the graphs will ask for.
    """

    __slots__ = ("_spans", "_whole")

    def __init__(self, name: str, weights: Arrays) -> None:
        super().__init__(name)
        self._whole = save(dict(weights))
        length = 8 + int.from_bytes(self._whole[:8], "little")
        header = json.loads(self._whole[8:length])
        self._spans = {
            tensor: (length + told["data_offsets"][0], length + told["data_offsets"][1])
            for tensor, told in header.items()
        }

    def refer(self, graph: GraphBuilder, name: str, array: NDArray[Any]) -> str:
        """Return a constant of `graph` that stands for the tensor `name` of the file."""
        start, end = self._spans[name]
        place = FilePlace(self.name, start, end - start)
        return graph.refer(
            name.rpartition("/")[2], dtype=array.dtype.type, shape=array.shape, place=place
        )

    def write(self, folder: Path) -> None:
        """Write the file into `folder`."""
        (folder / self.name).write_bytes(self._whole)


def sizes(shape: Shape) -> Sizes:
    """Return what the graphs' builder must know of a variant's sizes."""
    return Sizes(
        layers=shape.layers,
        hidden=shape.model_dim,
        q_heads=shape.heads,
        head_dim=shape.head_dim,
        vocabulary=BYTES,
        epsilon=EPSILON,
        interleaved=1,
    )


def forms(shape: Shape) -> dict[str, Form]:
    """Return the forms of attention that a variant's weights run in, the trained one first."""
    scale = 1.0 / math.sqrt(shape.score_dim)
    if shape.latent is None:
        names: dict[int, Formula] = {1: "mqa", shape.heads: "mha"}
        tapped = range(shape.layers) if shape.variant == DEFAULT_VARIANT else ()
        form = Form(
            names.get(shape.kv_heads, "gqa"),
            shape.kv_heads,
            scale,
            normaliser=shape.normalization,
            tapped=frozenset(tapped),
        )
        return {shape.variant: form}
    form = Form(
        "mla",
        shape.heads,
        scale,
        kv_rank=shape.latent.kv_rank,
        rope_dim=shape.latent.rope_dim,
    )
    return {shape.variant: form, "mla_absorbed": replace(form, formula="mla_absorbed")}


def write_variant(folder: Path, shape: Shape, trained: Arrays) -> None:
    """Write one variant's weights and graphs into `folder`.

    Args:
        folder: the family's folder.
        shape: the variant.
        trained: the weights by the names and sizes of `shape.tensors()`.
    """
    weights = for_graphs(shape, trained)
    file = SafetensorsFile(f"{shape.variant}.safetensors", weights)
    file.write(folder)
    source = FloatSource(weights, file=file)
    for name, form in forms(shape).items():
        windowed = replace(form, reach="near_and_far", tapped=frozenset())
        for graph_name, one in ((name, form), (f"{name}.windowed", windowed)):
            graph = decoder_graph(graph_name, sizes=sizes(shape), form=one, source=source)
            write_graph(graph, folder / f"{graph_name}.onnx")


def read_variant(folder: Path, shape: Shape) -> Arrays:
    """Return one variant's weights as `shape.tensors()` describes them.

    Raises:
        RecipeError: the family has no such variant, or of other sizes.
    """
    path = folder / f"{shape.variant}.safetensors"
    if not path.is_file():
        raise RecipeError(f"{folder} has no {path.name}: export the trained runs first")
    trained = for_training(shape, load_file(path))
    for name, size in shape.tensors().items():
        if name not in trained or trained[name].shape != tuple(size):
            raise RecipeError(f"{path.name} has no tensor {name!r} of size {tuple(size)}")
    return trained


def rewrite(folder: Path) -> None:
    """Write every graph of a family anew around the weights that lie in it."""
    for shape in VARIANTS.values():
        write_variant(folder, shape, read_variant(folder, shape))


def for_graphs(shape: Shape, trained: Arrays) -> Arrays:
    """Return the weights with maps out of the latent as (heads, kv_rank, head_dim)."""

    def apart(array: NDArray[np.float32]) -> NDArray[np.float32]:
        by_head = array.reshape(array.shape[0], shape.heads, shape.head_dim)
        return np.ascontiguousarray(by_head.transpose(1, 0, 2))

    return {
        name: apart(array) if name.endswith(LATENT_MAPS) else array
        for name, array in trained.items()
    }


def for_training(shape: Shape, stored: Arrays) -> Arrays:
    """Return the weights with maps out of the latent as (kv_rank, heads · head_dim)."""

    def together(array: NDArray[np.float32]) -> NDArray[np.float32]:
        wide = shape.heads * shape.head_dim
        return np.ascontiguousarray(array.transpose(1, 0, 2).reshape(-1, wide))

    return {
        name: together(array) if name.endswith(LATENT_MAPS) else array
        for name, array in stored.items()
    }
