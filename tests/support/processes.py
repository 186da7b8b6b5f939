"""Start the service as a user does: in a process of its own, on a port that is free."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_ADDRESS = re.compile(r"Isotrope listens on (http://\S+) ")
_START_SECONDS = 60.0
_STOP_SECONDS = 40.0


@dataclass(slots=True)
class ServiceProcess:
    """Hold a running service.

    Attributes:
        url: its base address.
        process: to send signals to.
        log: file that has both of its output streams.
    """

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def output(self) -> str:
        """Return everything it printed so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def stop(self) -> int:
        """Send SIGTERM and return the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(_STOP_SECONDS)


@contextmanager
def start_service(
    models_dir: Path, environment: Mapping[str, str] | None = None, *, wrapper: tuple[str, ...] = ()
) -> Iterator[ServiceProcess]:
    """Start `isotrope serve` on a free port, wait until it says where, and stop it at the end.

    Args:
        models_dir: folder of built models.
        environment: settings on top of the tests' own.
        wrapper: command to run it under, as `unshare --net`.
    """
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "service.log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [*wrapper, sys.executable, "-m", "service", "serve", "--port", "0"],
                stdout=stream,
                stderr=subprocess.STDOUT,
                env={
                    **os.environ,
                    "SERVICE_MODELS_DIR": str(models_dir),
                    "SERVICE_DATA_LOCATION": str(Path(folder) / "data"),
                    "SERVICE_DRAIN_SECONDS": "0.2",
                    **(environment or {}),
                },
            )
        running = ServiceProcess("", process, log)
        try:
            running.url = _wait_for_address(running)
            yield running
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(_STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def _wait_for_address(running: ServiceProcess) -> str:
    give_up = time.monotonic() + _START_SECONDS
    while time.monotonic() < give_up:
        found = _ADDRESS.search(running.output())
        if found:
            return found[1]
        if running.process.poll() is not None:
            break
        time.sleep(0.05)
    raise AssertionError(f"The service did not start:\n{running.output()}")
