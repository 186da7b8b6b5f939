"""Long work: progress, result, error, and an end when the client leaves or the time is over."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator

import pytest
from fastapi import APIRouter, FastAPI, Request, Response
from pydantic import BaseModel
from starlette.testclient import TestClient

from service.errors import ClientLeft, DeadlineExceeded, InvalidInput
from service.metrics import Metrics
from service.numerics.dtypes import Progress
from service.web.auth import make_guard
from service.web.call import CallMiddleware, CurrentCall, Patience
from service.web.problems import install_problem_handlers
from service.web.routing import ServiceRoute
from service.web.streaming import Reporter, reply_with_progress
from service.web.wire import json_response
from tests.fakes.sessions import eventually

EVENTS = {"Accept": "text/event-stream"}
LONG_SECONDS = 1.0


class Order(BaseModel):
    """Say what the work is to do."""

    steps: int = 3
    end: str = "well"


router = APIRouter(route_class=ServiceRoute)


@router.post("/work")
async def work(order: Order, request: Request, call: CurrentCall) -> Response:
    def compute(progress: Progress) -> None:
        for step in range(order.steps):
            progress("count", step + 1, order.steps)
            if order.end == "never":
                time.sleep(0.01)

    async def run(progress: Progress) -> Response:
        await asyncio.to_thread(compute, progress)
        if order.end == "refused":
            raise InvalidInput("That cannot be counted.")
        if order.end == "broken":
            raise RuntimeError("a secret of the machine")
        return json_response({"counted": order.steps})

    return await reply_with_progress(request, call, run)


@pytest.fixture
def client() -> Iterator[TestClient]:
    app = FastAPI()
    install_problem_handlers(app)
    app.include_router(router)
    app.add_middleware(
        CallMiddleware,
        metrics=Metrics(),
        patience=Patience(0.2, LONG_SECONDS),
        max_body_bytes=1000,
        access_log=False,
        guard=make_guard(()),
    )
    with TestClient(app, raise_server_exceptions=False) as opened:
        opened.app_state["knock"] = lambda: None
        yield opened


def events(text: str) -> list[tuple[str, dict[str, object]]]:
    found = []
    for block in text.strip().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "event" in lines:
            found.append((lines["event"], json.loads(lines["data"])))
    return found


def test_without_the_wish_for_events_the_answer_is_plain(client: TestClient) -> None:
    answer = client.post("/work", json={})
    assert answer.json() == {"counted": 3}
    assert answer.headers["content-type"] == "application/json"


def test_events_end_with_the_result(client: TestClient) -> None:
    answer = client.post("/work", json={"steps": 5}, headers=EVENTS)
    assert answer.headers["content-type"].startswith("text/event-stream")
    *before, last = events(answer.text)
    assert last == ("result", {"counted": 5})
    assert {name for name, _ in before} == {"progress"}
    assert before[-1][1] == {"stage": "count", "done": 5, "total": 5}


@pytest.mark.parametrize(
    ("end", "status", "code"), [("refused", 422, "invalid_input"), ("broken", 500, "internal")]
)
def test_a_failure_is_an_event_with_a_problem(
    client: TestClient, end: str, status: int, code: str
) -> None:
    answer = client.post("/work", json={"end": end}, headers=EVENTS)
    assert answer.status_code == 200
    name, problem = events(answer.text)[-1]
    assert name == "error"
    assert (problem["status"], problem["code"]) == (status, code)
    assert "secret" not in answer.text


@pytest.mark.parametrize("headers", [{}, EVENTS])
def test_work_may_take_longer_than_a_request_but_not_for_ever(
    client: TestClient, headers: dict[str, str]
) -> None:
    started = time.monotonic()
    answer = client.post("/work", json={"steps": 10**6, "end": "never"}, headers=headers)
    assert time.monotonic() - started > LONG_SECONDS * 0.9
    body = events(answer.text)[-1][1] if headers else answer.json()
    assert body["code"] == "deadline_exceeded"


def test_a_client_may_shorten_the_time_of_long_work(client: TestClient) -> None:
    headers = {"X-Request-Timeout-Ms": "50"}
    answer = client.post("/work", json={"steps": 10**6, "end": "never"}, headers=headers)
    assert answer.status_code == 504


@pytest.mark.anyio
async def test_a_report_raises_once_the_client_has_left() -> None:
    reporter = Reporter(time.monotonic() + 60)
    seen: list[type[BaseException]] = []

    def compute() -> None:
        try:
            while True:
                reporter("count", 1, 2)
                time.sleep(0.001)
        except ClientLeft as error:
            seen.append(type(error))

    thread = threading.Thread(target=compute)
    thread.start()
    await asyncio.sleep(0.02)
    reporter.leave()
    await eventually(lambda: seen == [ClientLeft])
    thread.join()


@pytest.mark.anyio
async def test_a_report_raises_after_the_deadline() -> None:
    reporter = Reporter(time.monotonic() - 1)
    with pytest.raises(DeadlineExceeded, match="deadline passed"):
        reporter("count", 0, 1)


@pytest.mark.anyio
async def test_only_the_latest_number_of_each_stage_is_kept() -> None:
    reporter = Reporter(time.monotonic() + 60)
    for done in range(4):
        reporter("embed", done, 3)
    reporter("fit", 0, 1)
    assert reporter.take() == [
        {"stage": "embed", "done": 3, "total": 3},
        {"stage": "fit", "done": 0, "total": 1},
    ]
    assert reporter.take() == []
