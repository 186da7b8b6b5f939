"""Know how each server is started: ours, infinity and LitServe."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.process import Server, free_port, start_server
from service.settings import Settings

CHECKOUT = Path(__file__).parent.parent
CACHE = CHECKOUT / ".cache" / "peers"
INFINITY_MODEL = CACHE / "infinity-model"
LOGS = CHECKOUT / ".cache" / "benchmarks"
MODEL = "all-MiniLM-L6-v2"
_PEERS = Path(__file__).parent / "peers"

# Neither peer may reach the network or report its use while it is measured.
_QUIET = {
    "ORT_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_HOME": str(CACHE / "home"),
    "DO_NOT_TRACK": "1",
    "INFINITY_ANONYMOUS_USAGE_STATS": "0",
}


class SetUpError(RuntimeError):
    """A peer or the model has not been built yet."""


@dataclass(frozen=True, slots=True)
class Ours:
    """The service of this checkout.

    Attributes:
        name: shown in results.
        settings: environment variables on top of the defaults.
    """

    name: str = "ours"
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Infinity:
    """infinity-emb with its ONNX engine; its threads and their spinning stay as they ship.

    Attributes:
        batch_texts: most texts in one run.
    """

    batch_texts: int = 32

    @property
    def name(self) -> str:
        """Return the name shown in results."""
        return f"infinity-{self.batch_texts}"


@dataclass(frozen=True, slots=True)
class LitServe:
    """LitServe on our graph and tokenizer.

    Attributes:
        batch_requests: most requests gathered for one run.
        run_texts: most texts in one run; 0 for all of the gathered requests.
    """

    batch_requests: int = 64
    run_texts: int = 0

    @property
    def name(self) -> str:
        """Return the name shown in results."""
        cut = f"-by-{self.run_texts}" if self.run_texts else ""
        return f"litserve-{self.batch_requests}{cut}"


Contestant = Ours | Infinity | LitServe


def model_folder() -> Path:
    """Return the folder of the built model.

    Raises:
        SetUpError: it has not been built.
    """
    folder = Settings().models_dir / MODEL
    if not (folder / "model.onnx").is_file():
        raise SetUpError(f"The model {MODEL} is not built; run `isotrope models build {MODEL}`.")
    return folder


def graph_sha256() -> str:
    """Return the digest of our graph."""
    return hashlib.sha256((model_folder() / "model.onnx").read_bytes()).hexdigest()


def environment_python(peer: str) -> Path:
    """Return the interpreter of a peer's own environment.

    Raises:
        SetUpError: it has not been made.
    """
    python = CACHE / peer / "bin" / "python"
    if not python.is_file():
        raise SetUpError(f"{peer} is not set up; run `python -m benchmarks setup`.")
    return python


def start(contestant: Contestant) -> Server:
    """Start a server on a free port and wait until it is ready."""
    port = free_port()
    if isinstance(contestant, Ours):
        return _start_ours(contestant, port)
    if isinstance(contestant, Infinity):
        command = _infinity_command(contestant, port)
    else:
        command = _litserve_command(contestant, port)
    return start_server(
        contestant.name, command, port=port, ready="/health", env=_QUIET, folder=LOGS
    )


def _start_ours(ours: Ours, port: int) -> Server:
    console_script = Path(sys.executable).parent / "isotrope"
    env = {"SERVICE_ROOMS": "embeddings", "SERVICE_ACCESS_LOG": "false", **ours.settings}
    command = [str(console_script), "serve", "--port", str(port)]
    return start_server(ours.name, command, port=port, ready="/readyz", env=env, folder=LOGS)


def _infinity_command(peer: Infinity, port: int) -> Sequence[str]:
    stamp = INFINITY_MODEL / "made_from.txt"
    if not stamp.is_file() or stamp.read_text() != graph_sha256():
        raise SetUpError(
            "infinity's model is not made from ours; run `python -m benchmarks setup`."
        )
    return [
        str(environment_python("infinity")), str(_PEERS / "launch_infinity.py"), "v2",
        "--model-id", str(INFINITY_MODEL), "--served-model-name", MODEL,
        "--engine", "optimum", "--device", "cpu", "--batch-size", str(peer.batch_texts),
        "--host", "127.0.0.1", "--port", str(port), "--url-prefix", "/v1",
        "--log-level", "warning",
    ]  # fmt: skip


def _litserve_command(peer: LitServe, port: int) -> Sequence[str]:
    return [
        str(environment_python("litserve")), str(_PEERS / "serve_litserve.py"),
        "--folder", str(model_folder()), "--port", str(port),
        "--batch-requests", str(peer.batch_requests), "--run-texts", str(peer.run_texts),
    ]  # fmt: skip


@contextmanager
def paused_servers(contestants: Sequence[Contestant]) -> Iterator[list[Server]]:
    """Start the servers one after another and leave every one of them paused."""
    with ExitStack() as stack:
        servers = []
        for contestant in contestants:
            server = start(contestant)
            stack.callback(server.stop)
            server.pause()
            servers.append(server)
        yield servers


@contextmanager
def running(server: Server) -> Iterator[Server]:
    """Let one paused server run for the time of the block."""
    server.resume()
    try:
        yield server
    finally:
        server.pause()
