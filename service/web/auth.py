"""Let in those who hold an API key, where keys are asked for."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from pathlib import Path

from starlette.datastructures import Headers
from starlette.types import Scope

from service.errors import Unauthorized

# Probes and scrapers carry no keys, and what they see says nothing about anybody's texts.
OPEN_PATHS = frozenset({"/livez", "/readyz", "/startupz", "/metrics"})


def read_api_keys(path: Path) -> tuple[bytes, ...]:
    """Return the keys of a file, one a line; empty lines and lines that begin with # are left out.

    Raises:
        ValueError: the file cannot be read, or holds no key: the service must not start open.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"SERVICE_API_KEYS_FILE cannot be read: {error}") from error
    keys = tuple(
        line.strip().encode() for line in lines if line.strip() and not line.startswith("#")
    )
    if not keys:
        raise ValueError(f"SERVICE_API_KEYS_FILE {path.name!r} holds no key.")
    return keys


def make_guard(keys: tuple[bytes, ...]) -> Callable[[Scope, Headers], None]:
    """Return a check of a request's headers; without keys it lets everybody in."""

    def check(scope: Scope, headers: Headers) -> None:
        if not keys or scope["path"] in OPEN_PATHS or scope["method"] == "OPTIONS":
            return
        kind, _, given = headers.get("authorization", "").partition(" ")
        offered = given.strip().encode("latin-1")  # the bytes that were sent
        # Every key is compared, each in constant time, so that the time tells nothing.
        matches = [hmac.compare_digest(offered, key) for key in keys]
        if kind.lower() != "bearer" or not any(matches):
            raise Unauthorized("Send one of the service's keys as `Authorization: Bearer <key>`.")

    return check
