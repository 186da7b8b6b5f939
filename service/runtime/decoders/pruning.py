"""Take out of a graph what computes outputs that nobody asks for.

onnxruntime runs every node of a graph whatever outputs are fetched, and its option
`only_execute_path_to_fetches` changes nothing in the CPU build (docs/decisions/0025). Where the
entropy of attention is an output, its logarithms alone cost a third of a long run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.errors import ArtefactDamaged


@dataclass(frozen=True, slots=True)
class Pruned:
    """Hold a graph that is ready to be loaded.

    Attributes:
        content: the graph without what computes other outputs.
        weights: files that it reads, beside its own.
        weight_bytes: numbers that it reads, in the graph and in those files.
    """

    content: bytes
    weights: frozenset[str]
    weight_bytes: int


def prune(path: Path, wanted: Callable[[str], bool]) -> Pruned:
    """Return a graph that gives only the outputs that are wanted.

    ```
    outputs wanted ◄─ nodes that lead to them ◄─ initializers that those nodes read
    ```

    Args:
        path: the graph; its weights may lie in files beside it.
        wanted: says of each output whether it is kept.

    Raises:
        ArtefactDamaged: the file is no ONNX graph, or names a file outside of its folder.
    """
    import onnx

    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:
        raise ArtefactDamaged(f"{path.name} is no ONNX graph: {error}") from error
    graph = model.graph
    _keep(graph.output, lambda output: wanted(output.name))
    _drop_dead_nodes(graph)
    read = {name for node in graph.node for name in node.input}
    _keep(graph.initializer, lambda weight: weight.name in read)
    weights = frozenset(_file_of(weight, path) for weight in graph.initializer) - {""}
    size = sum(_bytes_of(weight) for weight in graph.initializer)
    return Pruned(model.SerializeToString(), weights, size)


def _keep(items: Any, wanted: Callable[[Any], bool]) -> None:  # noqa: ANN401 - a protobuf list
    kept = [item for item in items if wanted(item)]
    del items[:]
    items.extend(kept)


def _drop_dead_nodes(graph: Any) -> None:  # noqa: ANN401 - a protobuf message
    """Keep the nodes that lead to an output, and none of their last outputs that nobody reads.

    An Attention that need not give its probabilities never writes them down.
    """
    read = {output.name for output in graph.output}
    alive = []
    for node in reversed(graph.node):  # in the order of a graph, readers stand after writers
        if not read.intersection(node.output):
            continue
        while len(node.output) > 1 and node.output[-1] not in read:
            del node.output[-1]
        read.update(node.input)
        read.update(_read_inside(node))
        alive.append(node)
    del graph.node[:]
    graph.node.extend(reversed(alive))


def _read_inside(node: Any) -> set[str]:  # noqa: ANN401 - a protobuf message
    """Return every name that the branches or the body of a node read."""
    inner = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    names = {output.name for graph in inner for output in graph.output}
    for graph in inner:
        for each in graph.node:
            names |= set(each.input) | _read_inside(each)
    return names


def _file_of(weight: Any, path: Path) -> str:  # noqa: ANN401 - a protobuf message
    location = next((each.value for each in weight.external_data if each.key == "location"), "")
    if location != Path(location).name:
        raise ArtefactDamaged(f"{path.name} reads weights from {location[:80]!r}, not beside it.")
    return str(location)


def _bytes_of(weight: Any) -> int:  # noqa: ANN401 - a protobuf message
    for each in weight.external_data:
        if each.key == "length":
            return int(each.value)
    return int(weight.ByteSize())
