"""Serve S3 buckets on loopback, by moto, and misbehave on request.

moto looks whether a key is taken and writes it in two steps; S3 promises that this is one. So one
request runs at a time here. That S3 keeps its promise is Amazon's to show, not this server's.
"""

from __future__ import annotations

import http.client
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server

BUCKET = "isotrope-tests"
_REGION = "us-east-1"

Environ = dict[str, Any]
Start = Callable[..., Any]


@dataclass(slots=True)
class BucketServer:
    """Hold a running server.

    Attributes:
        port: where it listens.
        ignore_conditions: whether `If-None-Match` is thrown away, as some servers do.
        lose_answer_to: part of a path; the next PUT to it is done and then answered with 500.
        fail: whether every request is answered with 503.
        frozen: requests wait while it is not set.
        requests: how many came.
    """

    port: int = 0
    ignore_conditions: bool = False
    lose_answer_to: str | None = None
    fail: bool = False
    frozen: threading.Event = field(default_factory=threading.Event)
    requests: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment(self) -> dict[str, str]:
        """Return what a process needs in its environment to reach it."""
        return {
            "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": "nothing",
            "AWS_REGION": _REGION,
            "AWS_ENDPOINT_URL": self.url,
        }

    def heal(self) -> None:
        """Behave again."""
        self.ignore_conditions = self.fail = False
        self.lose_answer_to = None
        self.frozen.set()


@contextmanager
def serve_bucket() -> Iterator[BucketServer]:
    """Serve one empty bucket on a free port."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    state = BucketServer()
    state.heal()
    inner = DomainDispatcherApplication(create_backend_app)
    one_at_a_time = threading.Lock()

    def app(environ: Environ, start: Start) -> Iterable[bytes]:
        state.requests += 1
        state.frozen.wait(30)
        if state.fail:
            start("503 Slow Down", [("Content-Length", "0")])
            return []
        if state.ignore_conditions:
            environ.pop("HTTP_IF_NONE_MATCH", None)
        lost = state.lose_answer_to
        if lost is not None and environ["REQUEST_METHOD"] == "PUT" and lost in environ["PATH_INFO"]:
            state.lose_answer_to = None
            with one_at_a_time:
                list(inner(environ, lambda *_, **__: None))
            start("500 Internal Server Error", [("Content-Length", "0")])
            return []
        with one_at_a_time:
            return list(inner(environ, start))

    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=MotoRequestHandler)
    server.daemon_threads = True
    state.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        _make_bucket(state.port)
        yield state
    finally:
        state.heal()
        server.shutdown()
        server.server_close()
        thread.join()


def _make_bucket(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("PUT", f"/{BUCKET}")
    assert connection.getresponse().status == 200
    connection.close()
