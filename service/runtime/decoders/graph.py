"""Open one graph of a decoder and say what it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from service.errors import ArtefactDamaged, Internal
from service.runtime.decoders.pruning import Pruned, prune
from service.runtime.providers import ProviderReport, report_provider, requested_providers
from service.runtime.session import SessionOptions, ort_options

Array = npt.NDArray[Any]
_PAST, _PRESENT = "past.", "present."
_FOLDER_ENTRY = "session.model_external_initializers_file_folder_path"


class Giving(StrEnum):
    """Name what a loaded graph gives; whatever leads to other outputs is not loaded.

    CONTINUATION is logits and the cache: what scoring and generation need. ENTROPY adds the
    entropy of every attention row, TAPS everything that the file gives.
    """

    CONTINUATION = "continuation"
    ENTROPY = "entropy"
    TAPS = "taps"

    def wants(self, output: str) -> bool:
        """Return whether an output is kept."""
        if self is Giving.TAPS or output == "logits" or output.startswith(_PRESENT):
            return True
        return self is Giving.ENTROPY and output == "entropy"


@dataclass(frozen=True, slots=True)
class CachePart:
    """Name one part of the cache, as `0.key`, with its heads and the numbers of each."""

    name: str
    heads: int
    width: int


@dataclass(frozen=True, slots=True)
class DecoderGraph:
    """Hold a loaded graph.

    Attributes:
        session: onnxruntime's; it may be run from several threads at one time.
        provider: where it runs.
        inputs: names of what it takes.
        outputs: names of what it gives.
        parts: of the cache, in the graph's order.
        pairs: columns of the rotary tables, rope_dim / 2; 0 where the graph has its own angles.
        keys_over_total: whether the key tables cover past keys too, since those are cached as
            they were before they turned.
        held_bytes: memory that it is counted with: the weights that it reads, since matrices are
            packed for the processor, beside the file that all graphs of a family share.
    """

    session: ort.InferenceSession
    provider: ProviderReport
    inputs: frozenset[str]
    outputs: frozenset[str]
    parts: tuple[CachePart, ...]
    pairs: int
    keys_over_total: bool
    held_bytes: int

    def run(self, feed: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """Return the outputs of one run by name.

        Raises:
            Internal: the run failed, or it was asked for what the graph does not give.
        """
        try:
            found = self.session.run(list(outputs), dict(feed))
        except Exception as error:
            raise Internal(f"A run of a language model failed: {error}") from error
        return dict(zip(outputs, found, strict=True))

    def empty_cache(self, rows: int) -> tuple[Array, ...]:
        """Return the cache of `rows` sequences before their first token."""
        return tuple(np.zeros((rows, part.heads, 0, part.width), np.float32) for part in self.parts)


def open_graph(path: Path, pruned: Pruned, options: SessionOptions) -> DecoderGraph:
    """Load a graph.

    Args:
        path: its file, whose folder holds its weights; all verified.
        pruned: what is left of it, from `prune`.
        options: threads, providers and policy.

    Raises:
        ArtefactDamaged: onnxruntime cannot load it, or it is no decoder's graph.
        ProviderMissing: the policy is strict and the wished provider is not used.
    """
    wanted = requested_providers(options.providers, options.policy)
    chosen = ort_options(options)
    chosen.add_session_config_entry(_FOLDER_ENTRY, str(path.parent))
    # An arena keeps the most that any run ever took: 500 MB a graph after a text of 500 tokens.
    chosen.enable_cpu_mem_arena = False
    try:
        session = ort.InferenceSession(pruned.content, chosen, providers=wanted)
    except Exception as error:
        raise ArtefactDamaged(f"onnxruntime cannot load {path.name}: {error}") from error
    report = report_provider(session.get_providers(), options.providers, options.policy)
    return _describe(path, session, report, pruned.weight_bytes)


def read_graph(path: Path, giving: Giving) -> Pruned:
    """Return what is to be loaded of a graph's file.

    Raises:
        ArtefactDamaged: the file is no ONNX graph.
    """
    return prune(path, giving.wants)


def _describe(
    path: Path, session: ort.InferenceSession, report: ProviderReport, weight_bytes: int
) -> DecoderGraph:
    shapes = {node.name: node.shape for node in session.get_inputs()}
    outputs = frozenset(node.name for node in session.get_outputs())
    if "input_ids" not in shapes or "logits" not in outputs:
        raise ArtefactDamaged(f"{path.name} turns no input_ids into logits.")
    parts = tuple(
        CachePart(name.removeprefix(_PAST), int(shape[1]), int(shape[3]))
        for name, shape in shapes.items()
        if name.startswith(_PAST)
    )
    missing = [part.name for part in parts if _PRESENT + part.name not in outputs]
    if missing:
        raise ArtefactDamaged(f"{path.name} takes past.{missing[0]} and gives no present of it.")
    keys = shapes.get("k_cos")
    return DecoderGraph(
        session=session,
        provider=report,
        inputs=frozenset(shapes),
        outputs=outputs,
        parts=parts,
        pairs=0 if keys is None else int(keys[2]),
        keys_over_total=keys is not None and keys[1] == "total",
        held_bytes=weight_bytes,
    )
