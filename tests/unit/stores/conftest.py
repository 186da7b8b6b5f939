"""Give the tests of the cache what they share."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator

import pytest

from service.metrics import Metrics
from tests.support.vectors import Model


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def silence() -> AsyncIterator[list[str]]:
    """Fail the test if the event loop had to complain, as about an exception nobody fetched."""
    complaints: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(str(context["message"])))
    yield complaints
    gc.collect()
    await asyncio.sleep(0)
    assert complaints == []


@pytest.fixture
async def model() -> Model:
    return Model()
