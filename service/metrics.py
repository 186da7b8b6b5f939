"""Name every Prometheus instrument of the service in one place.

Each process owns one `Metrics` with a registry of its own, so that two services in one process
(as in tests) never share a counter. Units stand in the names: seconds, bytes, tokens, texts.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_TOKENS = (8, 16, 32, 64, 128, 256, 512, 1024, 4096, 16384)


class Metrics:
    """Hold the instruments that the floors below the web kit write to."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.requests = Counter(
            "isotrope_requests", "Requests answered.", ("operation", "status"), registry=registry
        )
        self.request_seconds = Histogram(
            "isotrope_request_seconds",
            "Time from the first byte of a request to the last of its answer.",
            ("operation",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.in_flight = Gauge(
            "isotrope_requests_in_flight", "Requests being answered.", registry=registry
        )
        self.rejected = Counter(
            "isotrope_rejected",
            "Work refused or given up: full, deadline, departed.",
            ("reason",),
            registry=registry,
        )
        self.queued_tokens = Gauge(
            "isotrope_queued_tokens",
            "Tokens waiting for a model: the figure to scale on.",
            ("model",),
            registry=registry,
        )
        self.queued_texts = Gauge(
            "isotrope_queued_texts", "Texts waiting for a model.", ("model",), registry=registry
        )
        self.queue_seconds = Histogram(
            "isotrope_queue_seconds",
            "Time the oldest text of a batch waited.",
            ("model",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.run_seconds = Histogram(
            "isotrope_run_seconds",
            "Time of one model run.",
            ("model",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.batch_texts = Histogram(
            "isotrope_batch_texts",
            "Texts in one model run.",
            ("model",),
            buckets=_COUNTS,
            registry=registry,
        )
        self.batch_tokens = Histogram(
            "isotrope_batch_tokens",
            "Padded tokens in one model run.",
            ("model",),
            buckets=_TOKENS,
            registry=registry,
        )
        self.tokens = Counter("isotrope_tokens", "Real tokens run.", ("model",), registry=registry)
        self.padding = Counter(
            "isotrope_padding_tokens", "Tokens run for nothing.", ("model",), registry=registry
        )
        self.cache_lookups = Counter(
            "isotrope_cache_lookups",
            "Cache look-ups by tier (memory, redis) and outcome (hit, miss, error, bypassed).",
            ("tier", "outcome"),
            registry=registry,
        )
        self.cache_writes_dropped = Counter(
            "isotrope_cache_writes_dropped",
            "Values not written to Redis because its write queue was full or it failed.",
            registry=registry,
        )
        self.cache_bytes = Gauge(
            "isotrope_cache_memory_bytes", "Bytes held by the in-process cache.", registry=registry
        )
        self.breaker_open = Gauge(
            "isotrope_redis_breaker_open", "1 while Redis is left alone.", registry=registry
        )
        self.flights_shared = Counter(
            "isotrope_cache_flights_shared",
            "Texts that waited for another request's computation of the same text.",
            registry=registry,
        )
        self.provider = Gauge(
            "isotrope_provider",
            "1 for the execution provider a model really runs on; wished says whether it was asked for.",
            ("model", "provider", "wished"),
            registry=registry,
        )
        self.sequences = Gauge(
            "isotrope_sequences",
            "Jobs of generation by state: running in slots, or waiting for one.",
            ("state",),
            registry=registry,
        )
        self.sequence_cache_bytes = Gauge(
            "isotrope_sequence_cache_bytes",
            "Keys and values: promised to running jobs, or kept for prompts that begin alike.",
            ("state",),
            registry=registry,
        )
        self.generated_tokens = Counter(
            "isotrope_generated_tokens", "Tokens generated.", ("model",), registry=registry
        )
        self.reused_tokens = Gauge(
            "isotrope_reused_prompt_tokens",
            "Tokens of prompts that needed no computing since the service started.",
            registry=registry,
        )
