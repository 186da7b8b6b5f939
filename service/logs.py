"""Write JSON lines to standard output: an event, its fields, never a text of a request."""

from __future__ import annotations

import logging
import sys

import orjson
import structlog


def configure_logs(level: str) -> None:
    """Send the service's own logs and its libraries' to one stream, as JSON lines.

    Args:
        level: debug, info, warning or error.

    Raises:
        ValueError: the level is unknown.
    """
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f"SERVICE_LOG_LEVEL is {level!r}; use debug, info, warning or error.")
    shared: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer(serializer=_dumps)],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.BytesLoggerFactory(sys.stdout.buffer),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processor=structlog.processors.JSONRenderer(serializer=_dumps_text),
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(number, logging.WARNING))
    # uvicorn's start-up lines say nothing that `service_ready` does not
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = True


def _dumps(event: object, **_: object) -> bytes:
    return orjson.dumps(event, default=str)


def _dumps_text(event: object, **_: object) -> str:
    return orjson.dumps(event, default=str).decode()
