"""Wish, policy, and what a session really uses; this machine's onnxruntime has the CPU only."""

from __future__ import annotations

import pytest

from service.errors import ProviderMissing
from service.runtime.providers import report_provider, requested_providers
from service.settings import ProviderPolicy

CPU = ["CPUExecutionProvider"]
STRICT, PREFER, ONLY_CPU = ProviderPolicy.STRICT, ProviderPolicy.PREFER, ProviderPolicy.CPU


@pytest.mark.parametrize(
    ("wish", "policy"),
    [
        ((), STRICT),
        (("cpu",), STRICT),
        (("cpu",), PREFER),
        (("cuda", "cpu"), PREFER),
        (("cuda",), PREFER),
        (("tensorrt", "cuda"), PREFER),
        (("cuda",), ONLY_CPU),
        (("no such",), ONLY_CPU),
    ],
)
def test_what_is_asked_for_on_a_cpu_build(wish: tuple[str, ...], policy: ProviderPolicy) -> None:
    assert requested_providers(wish, policy) == CPU


def test_order_is_kept_and_the_cpu_comes_last(monkeypatch: pytest.MonkeyPatch) -> None:
    have = ["TensorrtExecutionProvider", "CUDAExecutionProvider", *CPU]
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: have)
    assert requested_providers(("cuda",), STRICT) == ["CUDAExecutionProvider", *CPU]
    assert requested_providers(("cuda", "rocm", "tensorrt"), PREFER) == [have[1], have[0], *CPU]
    assert requested_providers(("cpu", "cuda"), PREFER) == [*CPU, have[1]]


def test_strict_refuses_what_the_build_lacks() -> None:
    with pytest.raises(ProviderMissing, match=r"'cuda'.*cpu"):
        requested_providers(("cuda", "cpu"), STRICT)


@pytest.mark.parametrize("policy", [STRICT, PREFER])
def test_an_unknown_name_is_refused_with_the_known_ones(policy: ProviderPolicy) -> None:
    with pytest.raises(ProviderMissing, match="'gpu'; known are cpu, cuda"):
        requested_providers(("cpu", "gpu"), policy)


def test_a_silent_fallback_is_reported() -> None:
    report = report_provider(CPU, ("cuda", "cpu"), PREFER)
    assert (report.wished, report.used, report.as_wished) == ("cuda", "cpu", False)


def test_a_silent_fallback_is_refused_when_strict() -> None:
    with pytest.raises(ProviderMissing, match="'cuda' and runs on 'cpu'"):
        report_provider(CPU, ("cuda", "cpu"), STRICT)


def test_a_wish_that_came_true() -> None:
    assert report_provider(["CUDAExecutionProvider", *CPU], ("cuda",), STRICT).as_wished
    assert report_provider(CPU, ("cuda",), ONLY_CPU).as_wished
    assert report_provider(CPU, (), STRICT).as_wished


def test_a_provider_without_a_short_name_keeps_its_long_one() -> None:
    assert report_provider(["NewExecutionProvider"], ("cuda",), PREFER).used == (
        "NewExecutionProvider"
    )
