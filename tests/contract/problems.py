"""Check that an answer is a problem, and nothing else."""

from __future__ import annotations

import httpx
import httpx2

Answer = httpx.Response | httpx2.Response
FIELDS = {"type", "title", "status", "detail", "instance", "code", "retryable", "errors"}


def expect_problem(answer: Answer, status: int, code: str, *parts: str) -> dict[str, object]:
    """Check that an answer is the problem body with a status, a code, and parts of its detail."""
    body: dict[str, object] = answer.json()
    headers = answer.headers
    assert (answer.status_code, body["status"], body["code"]) == (status, status, code), body
    assert headers["content-type"] == "application/problem+json"
    assert set(body) == FIELDS
    assert body["type"] == f"urn:isotrope:problem:{code}"
    assert body["instance"] == f"urn:isotrope:request:{headers['x-request-id']}"
    assert "total;dur=" in headers["server-timing"]
    assert isinstance(body["title"], str)
    assert isinstance(body["retryable"], bool)
    detail = body["detail"]
    assert isinstance(detail, str)
    assert len(detail) < 600
    for part in parts:
        assert part in detail, detail
    errors = body["errors"]
    assert isinstance(errors, list)
    for error in errors:
        assert set(error) == {"pointer", "detail"}
        assert error["pointer"] == "" or error["pointer"].startswith("/")
    return body
