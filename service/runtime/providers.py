"""Choose execution providers, and find out which one a session really uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnxruntime as ort

from service.errors import ProviderMissing
from service.settings import ProviderPolicy

_ORT_NAMES = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "rocm": "ROCMExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
}
_SHORT_NAMES = {long: short for short, long in _ORT_NAMES.items()}


@dataclass(frozen=True, slots=True)
class ProviderReport:
    """Set the wish beside what happened.

    Attributes:
        wished: provider asked for first.
        used: provider that the session really runs on.
    """

    wished: str
    used: str

    @property
    def as_wished(self) -> bool:
        """Return whether the first wish was met."""
        return self.wished == self.used


def requested_providers(wish: Sequence[str], policy: ProviderPolicy) -> list[str]:
    """Return onnxruntime's names of the providers to ask for, best first, CPU last.

    Raises:
        ProviderMissing: a name is unknown, or the policy is strict and this build of onnxruntime
            lacks the first wish.
    """
    if policy is ProviderPolicy.CPU or not wish:
        return [_ORT_NAMES["cpu"]]
    unknown = [name for name in wish if name not in _ORT_NAMES]
    if unknown:
        raise ProviderMissing(
            f"SERVICE_PROVIDERS names {unknown[0]!r}; known are {', '.join(_ORT_NAMES)}."
        )
    available = ort.get_available_providers()
    first = _ORT_NAMES[wish[0]]
    if policy is ProviderPolicy.STRICT and first not in available:
        raise ProviderMissing(
            f"SERVICE_PROVIDERS wishes for {wish[0]!r} and this onnxruntime has "
            f"{', '.join(_SHORT_NAMES.get(name, name) for name in available)}. Install the build "
            "that has it, or set SERVICE_PROVIDER_POLICY=prefer."
        )
    chosen = [_ORT_NAMES[name] for name in wish if _ORT_NAMES[name] in available]
    cpu = _ORT_NAMES["cpu"]
    return chosen if cpu in chosen else [*chosen, cpu]


def report_provider(
    session_providers: Sequence[str], wish: Sequence[str], policy: ProviderPolicy
) -> ProviderReport:
    """Compare what a session says it uses with the wish: onnxruntime may fall back silently.

    Raises:
        ProviderMissing: the policy is strict and the session runs elsewhere.
    """
    used = _SHORT_NAMES.get(session_providers[0], session_providers[0])
    wished = "cpu" if policy is ProviderPolicy.CPU or not wish else wish[0]
    report = ProviderReport(wished=wished, used=used)
    if policy is ProviderPolicy.STRICT and not report.as_wished:
        raise ProviderMissing(
            f"The session was asked to run on {wished!r} and runs on {used!r}. Mend the driver, "
            "or set SERVICE_PROVIDER_POLICY=prefer."
        )
    return report
