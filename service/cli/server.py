"""Run uvicorn so that nothing accepted is lost when the process is told to stop."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import sys
from contextlib import AsyncExitStack
from types import FrameType
from typing import Any

import structlog
import typer
import uvicorn
from fastapi import FastAPI
from pydantic import ValidationError
from pydantic_settings import BaseSettings

from service.app import create_app
from service.errors import ServiceError
from service.registry import CAPABILITIES
from service.settings import Settings

logger = structlog.get_logger(__name__)

_BACKLOG = 2048
_SWITCH_SECONDS = 0.0005
_SETTINGS_MISTAKE = 2
_START_FAILED = 3


class DrainingServer(uvicorn.Server):
    """Stop in three steps: readiness says 503, the port closes, accepted work finishes.

    A second signal ends the process at once.

    Args:
        config: uvicorn's configuration, its own lifespan handling off: this class opens the
            application itself, so that what keeps it from starting is told to a person, not traced.
        app: the application whose readiness turns.
        drain_seconds: time for a balancer to notice.
    """

    def __init__(self, config: uvicorn.Config, app: FastAPI, drain_seconds: float) -> None:
        super().__init__(config)
        self._app = app
        self._drain_seconds = drain_seconds
        self._opened = AsyncExitStack()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's
        """Turn readiness, then stop after a while; at the second signal end at once.

        uvicorn's own handler would raise the signal again at the end, and a stop that was asked
        for and went well would look like a death.
        """
        if self._app.state.draining:
            self.should_exit = self.force_exit = True
            return
        self._app.state.draining = True
        logger.info("service_draining", signal=signal.Signals(sig).name)
        if sig == signal.SIGINT or not self._drain_seconds:
            self._stop()
        else:
            asyncio.get_running_loop().call_later(self._drain_seconds, self._stop)

    def _stop(self) -> None:
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Load the models, open the port, then say where; or say what is in the way."""
        try:
            state = await self._opened.enter_async_context(
                self._app.router.lifespan_context(self._app)
            )
        except (ServiceError, ValueError) as error:
            explain(error)
            self.should_exit = True
            return
        self.lifespan.state.update(state or {})
        # What the start made stays for good: left to the collector, it would be walked through
        # again and again, each time for tens of milliseconds in which nobody is answered.
        gc.collect()
        gc.freeze()
        try:
            await super().startup(sockets)
        except SystemExit:  # uvicorn's answer to a port that it cannot have
            where = f"{self.config.host}:{self.config.port}"
            typer.echo(f"Cannot listen on {where}. Is it in use? Choose with --port.", err=True)
            self.should_exit = True
            await self._opened.aclose()
            return
        self._greet()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let accepted requests finish, then close the models and the cache."""
        await super().shutdown(sockets)
        if not self.force_exit:
            await self._opened.aclose()

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
    except ValueError as error:
        explain(error)
        return _SETTINGS_MISTAKE
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        backlog=_BACKLOG,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # no answer depends on the client's address
        timeout_graceful_shutdown=settings.request_deadline_ms // 1000 + 1,
    )
    # An executor that comes back from a run waits at most this long for the event loop to lend it
    # the interpreter; at Python's own 5 ms it idles for a quarter of a short text's run.
    sys.setswitchinterval(_SWITCH_SECONDS)
    server = DrainingServer(config, app, settings.drain_seconds)
    server.run()
    return 0 if server.started else _START_FAILED


def explain(error: ServiceError | ValueError) -> None:
    """Print for a person what kept the service from starting."""
    if isinstance(error, ServiceError):
        typer.echo(f"{error.title}: {error.detail}", err=True)
    elif isinstance(error, ValidationError):
        kinds: list[type[BaseSettings]] = [Settings, *(room.settings for room in CAPABILITIES)]
        prefixes = {kind.__name__: kind.model_config.get("env_prefix", "") for kind in kinds}
        for fault in error.errors():
            name = "_".join(str(part) for part in fault["loc"]).upper()
            variable = f"{prefixes.get(error.title, '')}{name}"
            typer.echo(f"{variable}: {fault['msg']} (got {fault['input']!r})", err=True)
    else:
        typer.echo(str(error), err=True)
