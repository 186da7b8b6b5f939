"""Failures become problems: all of them, short, and with the place named."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from prometheus_client import generate_latest
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from service import errors
from service.errors import Overloaded, ServiceError
from service.metrics import Metrics
from service.web.auth import make_guard
from service.web.call import CallMiddleware, Patience
from service.web.problems import install_problem_handlers, shown
from tests.contract.problems import expect_problem

KINDS = sorted(
    (
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, ServiceError) and kind is not ServiceError
    ),
    key=lambda kind: kind.__name__,
)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def client(metrics: Metrics) -> Iterator[TestClient]:
    """Return a client of an application whose routes fail in every way."""
    app = FastAPI()
    install_problem_handlers(app)

    @app.get("/fail/{name}")
    async def fail(name: str) -> None:
        raise getattr(errors, name)("What was wrong.", retry_after_seconds=1.2)

    @app.get("/break")
    async def break_down() -> None:
        raise RuntimeError("a secret of the machine")

    app.add_middleware(
        CallMiddleware,
        metrics=metrics,
        patience=Patience(1.0, 1.0),
        max_body_bytes=100,
        access_log=True,
        guard=make_guard(()),
    )
    with TestClient(app, raise_server_exceptions=False) as opened:
        yield opened


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_of_the_tree_is_a_problem(client: TestClient, kind: type[ServiceError]) -> None:
    answer = client.get(f"/fail/{kind.__name__}")
    problem = expect_problem(answer, kind.status, kind.code, "What was wrong.")
    assert problem["title"] == kind.title
    assert problem["retryable"] is kind.retryable
    assert answer.headers["retry-after"] == "2"
    assert ("www-authenticate" in answer.headers) == (kind.status == 401)


def test_codes_are_unique() -> None:
    codes = [kind.code for kind in KINDS]
    assert len(set(codes)) == len(codes) > 20


def test_overload_may_pass() -> None:
    assert Overloaded("x").retryable


def test_the_unexpected_is_logged_and_not_told(client: TestClient, metrics: Metrics) -> None:
    with capture_logs() as logs:
        answer = client.get("/break", headers={"X-Request-ID": "the-id"})
    problem = expect_problem(answer, 500, "internal")
    assert "secret" not in str(problem)
    (failure,) = [line for line in logs if line["event"] == "unexpected_error"]
    assert failure["request_id"] == "the-id"
    assert isinstance(failure["exc_info"], RuntimeError)
    (line,) = [line for line in logs if line["event"] == "request"]
    assert line["status"] == 500
    text = generate_latest(metrics.registry).decode()
    assert 'isotrope_requests_total{operation="break_down",status="500"} 1.0' in text
    assert "isotrope_requests_in_flight 0.0" in text


def test_values_are_shown_short() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    # taken apart by hand: letting go of it at once would recurse as deep
    try:
        assert len(shown(deep)) <= 81
    finally:
        while deep:
            deep = deep.pop()  # type: ignore[assignment]
    assert len(shown("x" * 10**6)) <= 81
    assert len(shown({str(n): n for n in range(10**5)})) <= 81
    assert shown(["a", 1, None]) == "['a', 1, None]"
