"""Run uvicorn so that nothing accepted is lost when the process is told to stop."""

from __future__ import annotations

import asyncio
import signal
import socket
from types import FrameType
from typing import Any

import typer
import uvicorn
from fastapi import FastAPI
from pydantic import ValidationError

from service.app import create_app
from service.errors import ServiceError
from service.settings import Settings

_BACKLOG = 2048


class DrainingServer(uvicorn.Server):
    """Stop in three steps: readiness says 503, the port closes, accepted work finishes.

    A second signal skips the wait.

    Args:
        config: uvicorn's configuration.
        app: the application whose readiness turns.
        drain_seconds: time for a balancer to notice.
    """

    def __init__(self, config: uvicorn.Config, app: FastAPI, drain_seconds: float) -> None:
        super().__init__(config)
        self._app = app
        self._drain_seconds = drain_seconds

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Turn readiness, then stop after a while; at the second signal at once."""
        if self._app.state.draining or not self._drain_seconds or sig == signal.SIGINT:
            self._app.state.draining = True
            super().handle_exit(sig, frame)
            return
        self._app.state.draining = True
        loop = asyncio.get_running_loop()
        loop.call_later(self._drain_seconds, super().handle_exit, sig, None)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the port, then say where."""
        await super().startup(sockets)
        if self.started and self.servers:
            self._greet()

    def _greet(self) -> None:
        address = self.servers[0].sockets[0].getsockname()
        host = f"[{address[0]}]" if ":" in address[0] else address[0]
        base = f"http://{host}:{address[1]}"
        typer.echo(
            f"\nIsotrope listens on {base} (reference: {base}/docs). Try:\n\n"
            f"  curl -s {base}/v1/similarity -H 'Content-Type: application/json' \\\n"
            """    -d '{"pairs": [["A man plays a guitar.", "Someone makes music."]]}'\n""",
            err=True,
        )


def serve_until_told(overrides: dict[str, Any]) -> int:
    """Serve until a signal; return the exit code.

    Args:
        overrides: settings that beat the environment.
    """
    try:
        settings = Settings(**overrides)
        app = create_app(settings)
    except ValidationError as error:
        for fault in error.errors():
            name = "_".join(str(part) for part in fault["loc"]).upper()
            typer.echo(f"SERVICE_{name}: {fault['msg']} (got {fault['input']!r})", err=True)
        return 2
    except ValueError as error:
        typer.echo(str(error), err=True)
        return 2
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        backlog=_BACKLOG,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=settings.request_deadline_ms // 1000 + 1,
    )
    server = DrainingServer(config, app, settings.drain_seconds)
    server.run()
    return 0 if server.started else 1


def explain(error: ServiceError) -> None:
    """Print an error of ours for a person."""
    typer.secho(f"{error.title}: ", fg="red", err=True, nl=False)
    typer.echo(error.detail, err=True)
