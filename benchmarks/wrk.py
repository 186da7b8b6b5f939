"""Drive one server with wrk and read what it measured."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.process import Server

_LOADS = Path(__file__).parent / "loads"
PATH = "/v1/embeddings"


class ClientError(RuntimeError):
    """wrk is not installed, or did not answer."""


@dataclass(frozen=True, slots=True)
class Load:
    """Describe what the clients send.

    Attributes:
        clients: connections, each with one request under way.
        kind: `short` (5 to 14 words), `reviews` (5 to 200 words) or `fixed` (one text, repeated).
        texts: texts in one request.
        rate: requests a second in all; None sends the next as soon as an answer came.
        track: whether answers are timed by status.
    """

    clients: int
    kind: str = "short"
    texts: int = 1
    rate: float | None = None
    track: bool = False


@dataclass(frozen=True, slots=True)
class Sample:
    """Hold what one run of one server measured.

    Attributes:
        requests: answers received.
        bad_status: answers of 400 and above.
        broken: connections that failed or timed out.
        requests_per_second: answers a second, failures included.
        texts_per_second: texts embedded a second.
        p50_ms: median time to an answer.
        p99_ms: time that 99 of 100 answers kept.
        max_ms: the slowest answer.
        cpu_ms_per_request: CPU of the whole process tree over the answers.
        rss_bytes: resident memory of the tree after the run.
        answer_bytes: mean size of an answer, headers included.
        by_status: for a tracked load, count and times by status.
    """

    requests: int
    bad_status: int
    broken: int
    requests_per_second: float
    texts_per_second: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    cpu_ms_per_request: float
    rss_bytes: int
    answer_bytes: float
    by_status: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def failures(self) -> int:
        """Return the requests that got no 2xx answer."""
        return self.bad_status + self.broken

    def as_dict(self) -> dict[str, object]:
        """Return the fields, rounded for the result file."""
        return {
            name: round(value, 3) if isinstance(value, float) else value
            for name, value in asdict(self).items()
        }


def find_wrk() -> str:
    """Return the path of wrk.

    Raises:
        ClientError: it is not on PATH.
    """
    found = shutil.which("wrk")
    if found is None:
        raise ClientError("wrk is not on PATH; on Debian and Ubuntu: apt-get install wrk")
    return found


def command(load: Load, *, port: int, seconds: float, seed: int) -> list[str]:
    """Return the wrk command line; wrk itself counts whole seconds only."""
    arguments = {
        "words": str(_LOADS / "words.txt"),
        "kind": load.kind,
        "texts": str(load.texts),
        "seed": str(seed),
        "track": str(int(load.track)),
    }
    if load.rate is not None:
        arguments["rate"] = f"{load.rate:.3f}"
    return [
        find_wrk(), "-t1", f"-c{load.clients}", f"-d{max(1, round(seconds))}s", "--timeout", "30s",
        "-s", str(_LOADS / "load.lua"), f"http://127.0.0.1:{port}{PATH}", "--",
        *(f"{key}={value}" for key, value in arguments.items()),
    ]  # fmt: skip


def parse(output: str) -> dict[str, Any]:
    """Return the numbers of the RESULT line.

    Raises:
        ClientError: wrk printed none.
    """
    for line in output.splitlines():
        if line.startswith("RESULT "):
            return dict(json.loads(line.removeprefix("RESULT ")))
    raise ClientError(f"wrk printed no result:\n{output[-1500:]}")


def measure(
    server: Server,
    load: Load,
    *,
    seconds: float,
    seed: int,
    meanwhile: Callable[[], None] | None = None,
) -> Sample:
    """Send `load` to `server` and return what happened; its CPU is read right before and after.

    Args:
        server: who answers.
        load: what is sent.
        seconds: for how long.
        seed: of the random texts.
        meanwhile: called once the clients have started; it should return before they end.
    """
    before = server.cpu_ms()
    client = subprocess.Popen(
        command(load, port=server.port, seconds=seconds, seed=seed),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    if meanwhile is not None:
        meanwhile()
    output, _ = client.communicate()
    cpu = server.cpu_ms() - before
    return to_sample(parse(output), load=load, cpu_ms=cpu, rss=server.rss_bytes())


def to_sample(numbers: dict[str, Any], *, load: Load, cpu_ms: float, rss: int) -> Sample:
    """Return wrk's numbers in the units of this harness."""
    requests = int(numbers["requests"])
    rate = requests / (numbers["duration_us"] / 1e6)
    bad = int(numbers["bad_status"])
    return Sample(
        requests=requests,
        bad_status=bad,
        broken=int(numbers["socket_errors"]) + int(numbers["timeouts"]),
        requests_per_second=rate,
        texts_per_second=rate * load.texts * (requests - bad) / max(1, requests),
        p50_ms=numbers["p50_us"] / 1e3,
        p99_ms=numbers["p99_us"] / 1e3,
        max_ms=numbers["max_us"] / 1e3,
        cpu_ms_per_request=cpu_ms / max(1, requests),
        rss_bytes=rss,
        answer_bytes=numbers["bytes"] / max(1, requests),
        by_status={
            status: {"count": times["count"]}
            | {name.replace("_us", "_ms"): times[name] / 1e3 for name in times if name != "count"}
            for status, times in numbers["by_status"].items()
        },
    )
