"""Keep the weights of a family's graphs in files beside them, each array once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from models.graph import FilePlace, GraphBuilder, serialise

# Where an array begins: a cache line, the widest that a kernel loads at once.
ALIGNMENT = 64


class DataFile:
    """Collect arrays for one file; a name that is already in it is not stored again.

    Args:
        name: the file's name, such as `weights.bin`.
    """

    __slots__ = ("_content", "_places", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self._content = bytearray()
        self._places: dict[str, FilePlace] = {}

    @property
    def size(self) -> int:
        """Return how many bytes are stored."""
        return len(self._content)

    def refer(self, graph: GraphBuilder, name: str, array: NDArray[Any]) -> str:
        """Return a constant of `graph` that stands for `array`, stored under `name`.

        Raises:
            ValueError: other bytes are already stored under this name.
        """
        content = np.ascontiguousarray(array).tobytes()
        place = self._places.get(name)
        if place is None:
            place = self._places[name] = self._append(content)
        elif self._content[place.offset : place.offset + place.length] != content:
            message = f"{self.name} already holds other bytes under {name!r}"
            raise ValueError(message)
        return graph.refer(
            name.rpartition("/")[2], dtype=array.dtype.type, shape=array.shape, place=place
        )

    def write(self, folder: Path) -> None:
        """Write the file into `folder`."""
        (folder / self.name).write_bytes(self._content)

    def _append(self, content: bytes) -> FilePlace:
        self._content.extend(bytes(-len(self._content) % ALIGNMENT))
        place = FilePlace(self.name, len(self._content), len(content))
        self._content.extend(content)
        return place


def write_graph(graph: GraphBuilder, path: Path) -> None:
    """Write a graph beside its data files, which are written already, and check it.

    Raises:
        onnx.checker.ValidationError: a node breaks its operator's schema, or a data file lacks.
    """
    path.write_bytes(serialise(graph.model()))
    onnx.checker.check_model(path)
