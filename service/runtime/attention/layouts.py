"""Find out which numbers of a head a model's graph turns together."""

from __future__ import annotations

from pathlib import Path

from service.errors import ArtefactDamaged
from service.numerics.attention.reference import Layout


def read_layout(path: Path) -> Layout:
    """Return the layout of the pairs that a graph turns; halves where it turns none.

    Args:
        path: its file, already verified; its weights are not read.

    Raises:
        ArtefactDamaged: the file is no ONNX graph.
    """
    import onnx  # half a second, paid by the first layer of a model

    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:
        raise ArtefactDamaged(f"{path.name} cannot be read as a model: {error}") from error
    interleaved = any(
        attribute.name == "interleaved" and attribute.i
        for node in model.graph.node
        if node.op_type == "RotaryEmbedding"
        for attribute in node.attribute
    )
    return Layout.INTERLEAVED if interleaved else Layout.HALVES
