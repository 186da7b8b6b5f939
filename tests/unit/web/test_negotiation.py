"""Which form of an answer a request gets."""

from __future__ import annotations

import pytest
from fastapi import Request

from service.web.negotiation import HTML, JSON, NPY, PNG, SSE, SVG, preferred


def asking(accept: str | None) -> Request:
    headers = [] if accept is None else [(b"accept", accept.encode())]
    return Request({"type": "http", "headers": headers})


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (None, JSON),
        ("*/*", JSON),
        ("", JSON),
        (NPY, NPY),
        ("Application/X-NPY; q=0.9", NPY),
        (f"{JSON}, {PNG}", JSON),
        (f"{JSON};q=0.5, {PNG}", PNG),
        ("image/*", PNG),
        (f"image/*;q=0.2, {SVG};q=0.8", SVG),
        (f"{PNG};q=0, image/*", SVG),
        ("text/html,application/xhtml+xml,*/*;q=0.8", HTML),
        ("text/plain", JSON),
        (f"{JSON};q=0", JSON),
        (f"{PNG};q=high", PNG),
        (SSE, SSE),
    ],
)
def test_the_best_liked_offer_is_sent(accept: str | None, chosen: str) -> None:
    assert preferred(asking(accept), (JSON, NPY, PNG, SVG, HTML, SSE)) == chosen
