"""Start, pause, watch and stop a server with all its child processes (Linux only)."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.error import URLError
from urllib.request import urlopen

_TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_SESSION, _TIMES, _RSS = 3, slice(11, 15), 21  # fields of /proc/<pid>/stat after the name


class ServerError(RuntimeError):
    """A server did not start, or ended by itself."""


def free_port() -> int:
    """Return a TCP port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True, slots=True)
class Server:
    """Hold one running server; it leads a session, so that its children are found by it.

    Attributes:
        name: shown in results.
        process: the first process of the tree.
        port: where it listens.
        log: its output.
    """

    name: str
    process: subprocess.Popen[bytes]
    port: int
    log: IO[bytes]

    def cpu_ms(self) -> float:
        """Return the CPU time, user and system, that the tree has spent, in milliseconds."""
        return _TICK_MS * sum(
            sum(int(ticks) for ticks in fields[_TIMES]) for _, fields in self._members()
        )

    def rss_bytes(self) -> int:
        """Return the resident memory of the tree; pages shared by two processes count twice."""
        return _PAGE_BYTES * sum(int(fields[_RSS]) for _, fields in self._members())

    def pause(self) -> None:
        """Stop every process of the tree from running."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let the tree run again."""
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """End the tree, gently first."""
        self.resume()
        self.process.terminate()
        try:
            self.process.wait(timeout=8)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self.process.wait(timeout=8)
        self._signal(signal.SIGKILL)  # children that outlived their parent
        self.log.close()

    def fetch(self, path: str, *, timeout: float = 5.0) -> str:
        """Return the body of `GET path`."""
        with urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=timeout) as answer:
            return str(answer.read().decode())

    def _members(self) -> Iterator[tuple[int, list[str]]]:
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with suppress(OSError):  # it may have ended since the listing
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[_SESSION]) == self.process.pid:
                    yield int(entry.name), fields

    def _signal(self, number: signal.Signals) -> None:
        for pid, _ in list(self._members()):
            with suppress(ProcessLookupError):
                os.kill(pid, number)


def start_server(
    name: str,
    command: Sequence[str],
    *,
    port: int,
    ready: str,
    env: Mapping[str, str],
    folder: Path,
    seconds: float = 120.0,
) -> Server:
    """Start `command` and return once `GET ready` answers 200.

    Args:
        name: shown in results; also the name of its log.
        command: program and arguments.
        port: where it will listen.
        ready: path to ask.
        env: variables set on top of this process's own.
        folder: where the log is written.
        seconds: how long to wait.

    Raises:
        ServerError: the process ended, or did not answer in time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = (folder / f"{name}.log").open("wb")
    process = subprocess.Popen(
        command, env={**os.environ, **env}, stdout=log, stderr=log, start_new_session=True
    )
    server = Server(name, process, port, log)
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        if process.poll() is not None:
            break
        with suppress(URLError, OSError):
            server.fetch(ready, timeout=2)
            return server
        time.sleep(0.1)
    server.stop()
    tail = (folder / f"{name}.log").read_text(errors="replace")[-1500:]
    raise ServerError(f"{name} did not become ready; the end of its log:\n{tail}")
