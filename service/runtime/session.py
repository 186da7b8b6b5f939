"""Run one ONNX graph on padded token ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import onnxruntime as ort

from service.errors import ArtefactDamaged
from service.numerics.dtypes import Ids64, Matrix32
from service.runtime.providers import ProviderReport, report_provider, requested_providers
from service.settings import ProviderPolicy

INPUTS = ("input_ids", "attention_mask")


class Session(Protocol):
    """Turn padded ids into vectors; onnxruntime's in production, a plain one in tests."""

    provider: ProviderReport

    def run(
        self, input_ids: Ids64, attention_mask: Ids64, outputs: Sequence[str]
    ) -> list[Matrix32]:
        """Return one `(batch, d)` float32 matrix for each named output."""
        ...


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """Hold what every session of this process shares.

    Attributes:
        providers: ordered wish.
        policy: what to do when the wish is not met.
        threads_per_run: threads inside one run.
    """

    providers: tuple[str, ...]
    policy: ProviderPolicy
    threads_per_run: int


def ort_options(options: SessionOptions) -> ort.SessionOptions:
    """Return onnxruntime's own form of the options."""
    chosen = ort.SessionOptions()
    chosen.intra_op_num_threads = options.threads_per_run
    chosen.inter_op_num_threads = 1
    chosen.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    # Waiting threads that spin cost twice the CPU of the work itself as soon as cores are shared.
    chosen.add_session_config_entry("session.intra_op.allow_spinning", "0")
    chosen.add_session_config_entry("session.inter_op.allow_spinning", "0")
    # A memory pattern is kept for every shape ever seen; with free lengths that only grows.
    chosen.enable_mem_pattern = False
    return chosen


class CpuSession:
    """Run a graph on the CPU provider; outputs are host memory already, so nothing is bound."""

    def __init__(self, session: ort.InferenceSession, provider: ProviderReport) -> None:
        self._session = session
        self.provider = provider

    def run(
        self, input_ids: Ids64, attention_mask: Ids64, outputs: Sequence[str]
    ) -> list[Matrix32]:
        """Return one `(batch, d)` float32 matrix for each named output."""
        feed = {INPUTS[0]: input_ids, INPUTS[1]: attention_mask}
        return self._session.run(list(outputs), feed)  # type: ignore[no-any-return]


class BoundSession:
    """Run a graph on a device through I/O binding: one copy in, one copy of the vectors out.

    onnxruntime's Python interface gives no page-locked host buffers; with a few hundred floats a
    text, the copy is far below the run itself (docs/decisions/0004-execution-providers.md).
    """

    def __init__(
        self, session: ort.InferenceSession, provider: ProviderReport, device: str
    ) -> None:
        self._session = session
        self._device = device
        self.provider = provider

    def run(
        self, input_ids: Ids64, attention_mask: Ids64, outputs: Sequence[str]
    ) -> list[Matrix32]:
        """Return one `(batch, d)` float32 matrix for each named output."""
        binding = self._session.io_binding()
        for name, array in zip(INPUTS, (input_ids, attention_mask), strict=True):
            value = ort.OrtValue.ortvalue_from_numpy(array, self._device, 0)
            binding.bind_ortvalue_input(name, value)
        for name in outputs:
            binding.bind_output(name, "cpu")
        self._session.run_with_iobinding(binding)
        return [np.asarray(value.numpy()) for value in binding.get_outputs()]


def open_session(path: Path, options: SessionOptions) -> Session:
    """Load a graph and return a session that runs it.

    Args:
        path: the `model.onnx` file, already verified.
        options: threads, providers and policy.

    Raises:
        ArtefactDamaged: onnxruntime cannot load the graph.
        ProviderMissing: the policy is strict and the wished provider is not used.
    """
    wanted = requested_providers(options.providers, options.policy)
    try:
        session = ort.InferenceSession(path, ort_options(options), providers=wanted)
    except Exception as error:
        raise ArtefactDamaged(f"onnxruntime cannot load {path.name}: {error}") from error
    missing = set(INPUTS) - {node.name for node in session.get_inputs()}
    if missing:
        raise ArtefactDamaged(f"{path.name} has no input {sorted(missing)[0]!r}.")
    report = report_provider(session.get_providers(), options.providers, options.policy)
    if report.used in {"cuda", "tensorrt"}:
        return BoundSession(session, report, "cuda")
    return CpuSession(session, report)
