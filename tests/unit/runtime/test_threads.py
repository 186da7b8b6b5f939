"""The cores that the control group and the scheduler leave."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from service.runtime.threads import count_cores

AFFINITY = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the scheduler grant 16 cores."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(16)), raising=False)


def version_1(folder: Path, quota: str, period: str) -> None:
    (folder / "cpu").mkdir()
    (folder / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (folder / "cpu" / "cpu.cfs_period_us").write_text(f"{period}\n")


def test_no_control_group(tmp_path: Path) -> None:
    cores = count_cores(tmp_path)
    assert (cores.affinity, cores.quota, cores.usable) == (AFFINITY, None, AFFINITY)


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize(
    ("text", "quota", "usable"),
    [
        ("200000 100000\n", 2.0, 2),
        ("250000 100000\n", 2.5, 2),
        ("50000 100000\n", 0.5, 1),
        ("3200000 100000\n", 32.0, 16),
        ("max 100000\n", None, 16),
        ("", None, 16),
        ("nonsense\n", None, 16),
        ("many 100000\n", None, 16),
        ("200000 0\n", None, 16),
    ],
)
def test_version_2(tmp_path: Path, text: str, quota: float | None, usable: int) -> None:
    (tmp_path / "cpu.max").write_text(text)
    cores = count_cores(tmp_path)
    assert (cores.affinity, cores.quota, cores.usable) == (16, quota, usable)


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize(
    ("limit", "period", "quota", "usable"),
    [
        ("300000", "100000", 3.0, 3),
        ("-1", "100000", None, 16),
        ("10000", "100000", 0.1, 1),
        ("100000", "0", None, 16),
        ("", "", None, 16),
    ],
)
def test_version_1(
    tmp_path: Path, limit: str, period: str, quota: float | None, usable: int
) -> None:
    version_1(tmp_path, limit, period)
    cores = count_cores(tmp_path)
    assert (cores.quota, cores.usable) == (quota, usable)


@pytest.mark.usefixtures("many")
def test_affinity_bounds_the_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {3})
    (tmp_path / "cpu.max").write_text("400000 100000")
    assert count_cores(tmp_path).usable == 1


def test_a_system_without_affinity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 6)
    assert count_cores(tmp_path).usable == 6
