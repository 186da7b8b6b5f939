"""After set-up the service needs no network, and writes nothing below HOME."""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.support.processes import start_service

ROOT = Path(__file__).parents[2]
INTERFACE_UP = 0x1
SET_INTERFACE_FLAGS = 0x8914  # SIOCSIFFLAGS
UNSHARES = (("unshare", "--net"), ("unshare", "--map-root-user", "--net"))


def clean_environment(home: Path) -> dict[str, str]:
    """Return an environment as on a fresh machine: nothing that tests or CI put there."""
    kept = {"PATH", "LANG", "LC_ALL", "TMPDIR"}
    found = {name: value for name, value in os.environ.items() if name in kept}
    return found | {"HOME": str(home), "PYTHONPATH": str(ROOT)}


def talk(models_dir: Path) -> dict[str, int]:
    """Start a service, use it through loopback, and return what came back."""
    with start_service(models_dir) as running, httpx.Client(base_url=running.url) as client:
        embedded = client.post("/v1/embeddings", json={"input": ["a", "b"]}, timeout=30)
        compared = client.post("/v1/similarity", json={"pairs": [["a", "b"]]}, timeout=30)
        seen = {
            "ready": client.get("/readyz").status_code,
            "vectors": len(embedded.json()["data"]),
            "scores": len(compared.json()["scores"]),
            "page": client.get("/docs").status_code,
        }
        return seen | {"exit": running.stop()}


EXPECTED = {"ready": 200, "vectors": 2, "scores": 1, "page": 200, "exit": 0}


def drive(models_dir: Path) -> None:
    """Run inside a network namespace of our own: raise loopback, prove the isolation, talk."""
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("16sh14x", b"lo", INTERFACE_UP)
        fcntl.ioctl(probe, SET_INTERFACE_FLAGS, request)
        probe.settimeout(5)
        try:
            probe.connect(("192.0.2.1", 53))
        except OSError as error:
            unreachable = error.strerror
        else:
            unreachable = None
    sys.stdout.write(json.dumps({"unreachable": unreachable, "seen": talk(models_dir)}))


def run_driver(prefix: tuple[str, ...], models_dir: Path, home: Path) -> dict[str, object]:
    done = subprocess.run(
        [*prefix, sys.executable, __file__, str(models_dir)],
        check=False,
        env=clean_environment(home),
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def permitted() -> tuple[str, ...] | None:
    """Return the first way to unshare the network that this machine permits."""
    if shutil.which("unshare") is None:
        return None
    for command in UNSHARES:
        if subprocess.run([*command, "true"], check=False, capture_output=True).returncode == 0:
            return command
    return None


def test_it_serves_without_a_network_and_leaves_home_empty(
    models_dir: Path, tmp_path: Path
) -> None:
    prefix = permitted()
    if prefix is None:
        pytest.skip("this machine permits no network namespaces")
    found = run_driver(prefix, models_dir, tmp_path)
    assert found["unreachable"], "the namespace has a way out, so nothing is proven"
    assert found["seen"] == EXPECTED
    assert list(tmp_path.rglob("*")) == []


def test_home_stays_empty_with_a_network_too(
    models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in set(os.environ) - {"PATH", "LANG", "LC_ALL", "TMPDIR"}:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert talk(models_dir) == EXPECTED
    assert list(tmp_path.rglob("*")) == []


if __name__ == "__main__":
    drive(Path(sys.argv[1]))
