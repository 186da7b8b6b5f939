"""Thousands of generated requests against a running service, one room at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from service.registry import CAPABILITIES
from tests.support.processes import ServiceProcess

ROOT = Path(__file__).parents[2]
SEED = "20260731"
TAGS = (*(room.name for room in CAPABILITIES), "discovery", "operations")


@pytest.mark.timeout(180)
@pytest.mark.parametrize("tag", TAGS)
def test_schemathesis_finds_nothing(live: ServiceProcess, tmp_path: Path, tag: str) -> None:
    done = subprocess.run(
        [
            Path(sys.executable).parent / "schemathesis",
            *("--config-file", ROOT / "schemathesis.toml"),
            *("run", f"{live.url}/openapi.json", "--include-tag", tag),
            *("--checks", "all", "--seed", SEED, "--max-examples", "30"),
            *("--workers", "1", "--generation-database", "none", "--no-color"),
        ],
        check=False,
        cwd=tmp_path,
        env={
            **os.environ,
            "SCHEMATHESIS_HOOKS": "tests.contract.schemathesis_hooks",
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "No issues found" in done.stdout
    assert httpx.get(f"{live.url}/livez").status_code == 200
    assert '"level":"error"' not in live.output()
