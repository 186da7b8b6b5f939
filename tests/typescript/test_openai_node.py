"""OpenAI's own Node client drives embeddings, completions and conversations unchanged."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import ServiceProcess, start_service

HERE = Path(__file__).with_name("openai")
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def service(models_dir: Path) -> Iterator[ServiceProcess]:
    with start_service(models_dir) as process:
        yield process


def test_the_node_client_works_unchanged(service: ServiceProcess) -> None:
    npm = shutil.which("npm")
    assert npm, "Node.js with npm is needed: apt-get install nodejs npm"
    quiet = ("--ignore-scripts", "--no-audit", "--no-fund")
    subprocess.run([npm, "ci", *quiet], check=True, cwd=HERE, capture_output=True)
    done = subprocess.run(
        ["node", "drive.mjs", service.url], check=False, cwd=HERE, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip() == "driven"
