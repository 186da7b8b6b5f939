"""Choose the form of an answer by what the request accepts."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import Request

JSON = "application/json"
NPY = "application/x-npy"
NDJSON = "application/x-ndjson"
SSE = "text/event-stream"
PNG = "image/png"
SVG = "image/svg+xml"
HTML = "text/html"


def preferred(request: Request, offered: Sequence[str]) -> str:
    """Return the offered media type that the request likes best.

    A type's weight is that of the most specific range that covers it, as RFC 9110 says; among equal
    weights the order of `offered` decides. Where nothing offered is accepted, the first is sent all
    the same: an answer in another form helps more than a refusal.

    Args:
        request: its `Accept` header is read; absent means that anything will do.
        offered: media types that the operation can send, the usual one first.
    """
    ranges = _parse(request.headers.get("accept", "*/*"))
    weights = [_weight(media, ranges) for media in offered]
    best = max(weights)
    return offered[weights.index(best)] if best > 0 else offered[0]


def _parse(accept: str) -> dict[str, float]:
    """Return `{"image/*": 0.8, ...}`; what cannot be read as a weight counts as 1."""
    ranges: dict[str, float] = {}
    for item in accept.split(","):
        media, *parameters = (part.strip().lower() for part in item.split(";"))
        weight = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip() == "q":
                weight = _number(value)
        ranges[media] = weight
    return ranges


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 1.0


def _weight(media: str, ranges: dict[str, float]) -> float:
    kind = media.partition("/")[0]
    for candidate in (media, f"{kind}/*", "*/*"):
        if candidate in ranges:
            return ranges[candidate]
    return 0.0
