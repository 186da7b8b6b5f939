"""Write what a scenario measured, with the machine, the commit and the versions beside it."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.contestants import CHECKOUT

RESULTS = Path(__file__).parent / "results"
_OURS = ("isotrope", "onnxruntime", "numpy", "tokenizers", "fastapi", "uvicorn", "orjson", "redis")
_PEERS = {
    "infinity": ("infinity_emb", "torch", "onnxruntime", "optimum-onnx", "fastapi", "uvicorn"),
    "litserve": ("litserve", "onnxruntime", "tokenizers", "fastapi", "uvicorn"),
}


@dataclass(frozen=True, slots=True)
class Bar:
    """Hold one measured figure and what it must keep.

    Attributes:
        what: in words.
        value: the figure; for a ratio of rounds, their median.
        worst: the worst round, or None where rounds do not apply.
        relation: `>=` or `<=`.
        limit: the bar; None for a figure that is shown but not judged.
        unit: shown behind the figure.
        note: whatever a reader must know beside it.
    """

    what: str
    value: float
    worst: float | None = None
    relation: str = ">="
    limit: float | None = None
    unit: str = ""
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Return whether the bar holds; None where there is none."""
        if self.limit is None:
            return None
        return self.value >= self.limit if self.relation == ">=" else self.value <= self.limit


def median_bar(
    what: str, rounds: Sequence[float], *, relation: str, limit: float | None, **rest: str
) -> Bar:
    """Return the bar of a figure taken once a round: its median, and the worst round beside it."""
    if not rounds:
        return Bar(what, float("nan"), None, relation, limit, note="no valid round")
    worst = min(rounds) if relation == ">=" else max(rounds)
    return Bar(what, statistics.median(rounds), worst, relation, limit, **rest)


def machine() -> dict[str, object]:
    """Return what the numbers depend on and a reader cannot see otherwise."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory / 2**30, 1),
        "load_average": [round(value, 2) for value in os.getloadavg()],
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def commit() -> str:
    """Return the commit of this checkout, with `+changes` where files differ from it."""
    git = ["git", "--no-optional-locks", "-C", str(CHECKOUT)]
    found = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    if found.returncode:
        return "unknown"
    status = subprocess.run(
        [*git, "status", "--porcelain"], capture_output=True, text=True, check=False
    )
    # Results written by this very run are no change of what was measured.
    changed = [line for line in status.stdout.splitlines() if "benchmarks/results/" not in line]
    return found.stdout.strip() + ("+changes" if changed else "")


def versions() -> dict[str, dict[str, str]]:
    """Return the versions of what ran, ours and the peers'."""
    ours = {}
    for name in _OURS:
        try:
            ours[name] = version(name)
        except PackageNotFoundError:
            ours[name] = "not installed"
    return {"ours": ours} | {peer: _pinned(peer, names) for peer, names in _PEERS.items()}


def _pinned(peer: str, names: Sequence[str]) -> dict[str, str]:
    lines = (Path(__file__).parent / "peers" / f"{peer}.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line)
    return {name: pins.get(name, "not pinned") for name in names}


def write(
    scenario: str,
    *,
    settings: Mapping[str, object],
    rounds: Sequence[Mapping[str, object]],
    bars: Sequence[Bar],
    load_average_before: Sequence[float],
) -> None:
    """Write `results/<scenario>.json`.

    Args:
        scenario: name of the file.
        settings: whatever was chosen for this run.
        rounds: everything measured, in order.
        bars: what the report shows.
        load_average_before: of the machine, before the scenario loaded it.
    """
    RESULTS.mkdir(exist_ok=True)
    body = {
        "scenario": scenario,
        "finished": datetime.now(tz=UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine() | {"load_average_before": [round(v, 2) for v in load_average_before]},
        "versions": versions(),
        "settings": dict(settings),
        "bars": [_shown(bar) for bar in bars],
        "rounds": list(rounds),
    }
    text = json.dumps(body, indent=1, ensure_ascii=False, allow_nan=False)
    (RESULTS / f"{scenario}.json").write_text(text + "\n")


def _shown(bar: Bar) -> dict[str, Any]:
    fields = {
        name: round(value, 4) if isinstance(value, float) else value
        for name, value in asdict(bar).items()
    }
    if bar.value != bar.value:  # JSON has no NaN
        fields["value"] = None
    return fields | {"met": bar.met}


def read(scenario: str) -> dict[str, Any] | None:
    """Return a scenario's result file, or None where there is none."""
    path = RESULTS / f"{scenario}.json"
    return dict(json.loads(path.read_text())) if path.is_file() else None


def report(scenarios: Sequence[str]) -> str:
    """Return the table of bars, met or missed, from the result files."""
    lines = [f"{'':7} {'measured':>12} {'worst':>9}  {'bar':>9}  what"]
    for scenario in scenarios:
        found = read(scenario)
        if found is None:
            lines.append(f"\n{scenario}: no result; python -m benchmarks run --only {scenario}")
            continue
        load = found["machine"]["load_average_before"][0]
        lines.append(
            f"\n{scenario}: commit {found['commit'][:10]}, {found['machine']['cores']} cores of "
            f"{found['machine']['cpu']}, load average before {load}"
        )
        lines += [_row(bar) for bar in found["bars"]]
    return "\n".join(lines) + "\n"


def _row(bar: Mapping[str, Any]) -> str:
    verdict = {True: "met", False: "MISSED", None: ""}[bar["met"]]
    value = "-" if bar["value"] is None else f"{bar['value']:.3g} {bar['unit']}".strip()
    worst = "" if bar["worst"] is None else f"[{bar['worst']:.3g}]"
    limit = "" if bar["limit"] is None else f"{bar['relation']} {bar['limit']:g}"
    note = f" ({bar['note']})" if bar["note"] else ""
    return f"{verdict:7} {value:>12} {worst:>9}  {limit:>9}  {bar['what']}{note}"


def say(text: str) -> None:
    """Print a line of progress at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
