"""Traces leave the process where a collector is configured, and nowhere else."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.processes import start_service

MARKER = "Zauberwort-8642"


@contextmanager
def collecting() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """Yield the address of a collector and what it received, as (path, body)."""
    received: list[tuple[str, bytes]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append((self.path, body))
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", received
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_spans_of_requests_reach_the_collector(models_dir: Path) -> None:
    with collecting() as (address, received):
        environment = {
            "SERVICE_OTLP_ENDPOINT": address + "/",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
        }
        with start_service(models_dir, environment) as running:
            answer = httpx.post(f"{running.url}/v1/embeddings", json={"input": MARKER})
            assert answer.status_code == 200
            assert running.stop() == 0
    assert received
    assert {path for path, _ in received} == {"/v1/traces"}
    assert all(MARKER.encode() not in body for _, body in received)
    spans = [
        (resource.resource, span)
        for _, body in received
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    assert any("/v1/embeddings" in span.name for _, span in spans)
    attributes = {item.key: item.value.string_value for item in spans[0][0].attributes}
    assert attributes["service.name"] == "isotrope"


def test_a_collector_that_is_down_costs_no_answer(models_dir: Path) -> None:
    environment = {"SERVICE_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    with start_service(models_dir, environment) as running:
        answer = httpx.post(f"{running.url}/v1/embeddings", json={"input": "a"})
        assert answer.status_code == 200
        assert running.stop() == 0
