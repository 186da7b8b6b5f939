"""onnxruntime writes a device id below HOME unless it is told not to before it is imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_SESSION = """
import os, sys
import service.runtime
assert "onnxruntime" not in sys.modules
assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"

from pathlib import Path
from service.runtime.batcher import pad
from service.runtime.session import SessionOptions, open_session
from service.settings import ProviderPolicy

options = SessionOptions(providers=("cpu",), policy=ProviderPolicy.STRICT, threads_per_run=1)
session = open_session(Path(sys.argv[1]), options)
(rows,) = session.run(*pad([[101, 2023, 102]]), ["mean"])
print(rows.shape)
"""


def test_nothing_is_written_below_home(models_dir: Path, tmp_path: Path) -> None:
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    graph = models_dir / "all-MiniLM-L6-v2" / "model.onnx"
    done = subprocess.run(
        [sys.executable, "-c", _SESSION, graph],
        # no CI variable, nor any other by which a library could tell that it is being tested
        env={"HOME": str(home), "PATH": "/usr/bin:/bin"},
        cwd=work,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "(1, 384)\n", done.stderr
    assert list(home.rglob("*")) == []
    assert list(work.rglob("*")) == []
