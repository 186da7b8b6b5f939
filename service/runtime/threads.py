"""Count the cores that this process may really use."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
# A third of the weight of a thread at the default priority.
_STEPS_BACK = 5


@dataclass(frozen=True, slots=True)
class Cores:
    """Say how many cores there are and what bounds them.

    Attributes:
        affinity: cores that the scheduler may place this process on.
        quota: cores' worth of time that the control group grants, or None for no bound.
        usable: the smaller of both, rounded down, at least 1.
    """

    affinity: int
    quota: float | None
    usable: int


def count_cores(cgroup: Path = _CGROUP) -> Cores:
    """Return the usable cores from the CPU affinity and the control group's quota.

    A container on a 128-core host with a quota of 2 must run 2 threads: sized to the host, its
    threads spend their quota on waiting for each other.

    Args:
        cgroup: mount point of the control groups, version 2 or version 1.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    affinity = affinity or 1
    quota = _quota_v2(cgroup) or _quota_v1(cgroup)
    usable = affinity if quota is None else min(affinity, int(quota))
    return Cores(affinity=affinity, quota=quota, usable=max(1, usable))


def _quota_v2(cgroup: Path) -> float | None:
    try:
        # "200000 100000" -> 2.0 cores; "max 100000" -> no bound
        limit, period = (cgroup / "cpu.max").read_text().split()
        return None if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _quota_v1(cgroup: Path) -> float | None:
    try:
        limit = int((cgroup / "cpu" / "cpu.cfs_quota_us").read_text())
        period = int((cgroup / "cpu" / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return None
    return limit / period if limit > 0 and period > 0 else None


def step_back() -> None:
    """Let other threads go before the calling one, where the system knows priorities of threads.

    The event loop needs a core for a fraction of a millisecond at a time; behind an executor that
    computes for 20 ms, every request would wait for it.
    """
    if not sys.platform.startswith("linux"):
        return
    thread = threading.get_native_id()
    with suppress(OSError):  # a sandbox may forbid it; then all threads are equal
        os.setpriority(
            os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + _STEPS_BACK
        )
