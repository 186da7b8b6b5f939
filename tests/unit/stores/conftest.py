"""Give the tests of the cache what they share."""

from __future__ import annotations

import asyncio
import gc
import resource
from collections.abc import AsyncIterator, Callable, Iterator
from functools import cache
from pathlib import Path
from secrets import token_hex

import pytest

from service.metrics import Metrics
from service.stores.objects import Objects
from service.stores.versions import Versions
from tests.support.buckets import BUCKET, BucketServer, serve_bucket
from tests.support.vectors import Model

Reach = Callable[[], Objects]


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


@pytest.fixture(scope="session")
def bucket_server() -> Iterator[BucketServer]:
    with serve_bucket() as server:
        yield server


@pytest.fixture
def bucket(bucket_server: BucketServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[BucketServer]:
    """Return a server of buckets that behaves, and the environment that leads to it."""
    for name, value in bucket_server.environment().items():
        monkeypatch.setenv(name, value)
    yield bucket_server
    bucket_server.heal()


@pytest.fixture(params=["folder", "bucket", "memory"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return a fresh place of each kind."""
    if request.param == "bucket":
        request.getfixturevalue("bucket")
        return f"s3://{BUCKET}/{token_hex(8)}/deep"
    return "memory://" if request.param == "memory" else str(tmp_path / "not yet" / "there")


@pytest.fixture
def reach(location: str) -> Reach:
    """Return what opens the place anew, as another replica would; memory is only one."""
    if location == "memory://":
        return cache(lambda: Objects(location))
    return lambda: Objects(location)


@pytest.fixture
def objects(reach: Reach) -> Objects:
    return reach()


@pytest.fixture
def versions(objects: Objects) -> Versions:
    return Versions(objects, "things")


@pytest.fixture
def small_files() -> Iterator[None]:
    """Let no file grow beyond half a megabyte, which a writer notices as a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**19, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
