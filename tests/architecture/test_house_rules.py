"""Hold the house to its rules."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from service.registry import CAPABILITIES

ROOT = Path(__file__).parents[2]
MOST_LINES = 400
FOLDERS = ("service", "models", "tests", "openapi", "benchmarks", "docs")


def test_imports_go_one_way() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("folder", FOLDERS)
def test_top_folders_explain_themselves(folder: str) -> None:
    assert (ROOT / folder / "README.md").is_file()


def test_packages_of_the_service_explain_themselves() -> None:
    packages = [path.parent for path in (ROOT / "service").rglob("__init__.py")]
    assert len(packages) > 5
    missing = [
        str(path.relative_to(ROOT)) for path in packages if not (path / "README.md").exists()
    ]
    assert missing == []


def test_no_source_file_is_longer_than_a_reader_holds() -> None:
    sources = [*(ROOT / "service").rglob("*.py"), *(ROOT / "models").rglob("*.py")]
    assert len(sources) > 20
    long = {
        str(path.relative_to(ROOT)): count
        for path in sources
        if (count := len(path.read_text(encoding="utf-8").splitlines())) > MOST_LINES
    }
    assert long == {}


def test_each_room_is_wired_alike() -> None:
    rooms = [
        path.name
        for path in (ROOT / "service" / "capabilities").iterdir()
        if (path / "wiring.py").is_file()
    ]
    assert sorted(rooms) == sorted(room.name for room in CAPABILITIES)
    for name in rooms:
        wiring = import_module(f"service.capabilities.{name}.wiring")
        assert wiring.capability in CAPABILITIES


def test_numerics_load_no_framework() -> None:
    code = (
        "import sys, service.numerics.vectors; "
        "sys.exit(any(m in sys.modules for m in ('fastapi', 'pydantic', 'onnxruntime', 'redis')))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_locks_name_no_address() -> None:
    for name in ("requirements.lock", "requirements-dev.lock"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert "--hash=sha256:" in text
        assert "://" not in text
