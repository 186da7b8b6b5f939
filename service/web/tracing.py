"""Send traces to an OTLP collector, where one is configured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def open_tracing(endpoint: str | None) -> Iterator[None]:
    """Make spans of requests leave the process until the service stops.

    FastAPI makes the spans by itself; this gives them a way out.

    Args:
        endpoint: base address of an OTLP/HTTP collector, or None for no traces.

    Raises:
        ValueError: an endpoint is set and the extra `isotrope[otlp]` is not installed.
    """
    if endpoint is None:
        yield
        return
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise ValueError(
            "SERVICE_OTLP_ENDPOINT is set and the exporter is missing: "
            "install `isotrope[otlp]`, or unset it."
        ) from error
    provider = TracerProvider(resource=Resource.create({"service.name": "isotrope"}))
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    try:
        yield
    finally:
        provider.shutdown()
