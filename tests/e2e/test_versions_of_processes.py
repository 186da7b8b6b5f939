"""Processes that write beside each other, and processes that are killed while they write."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from secrets import token_hex

import pytest

from service.stores.folder import STAGING
from service.stores.objects import Objects
from service.stores.sweep import sweep
from service.stores.versions import Versions
from tests.support.buckets import BUCKET, serve_bucket
from tests.support.version_writer import COLLECTION

pytestmark = pytest.mark.anyio

_DEATHS = 10
_LARGE = 5 * 2**20


@pytest.fixture(params=["folder", "bucket"])
def location(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    if request.param == "folder":
        yield str(tmp_path)
        return
    with serve_bucket() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        yield f"s3://{BUCKET}/{token_hex(4)}"


@contextmanager
def writer(location: str, *, size: int, times: int) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.support.version_writer"]
    with subprocess.Popen(
        [*command, location, "x", str(size), str(times)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


async def test_processes_at_once_take_every_number_once(location: str) -> None:
    acknowledged: list[int] = []
    with (
        writer(location, size=2000, times=12) as one,
        writer(location, size=2000, times=12) as two,
        writer(location, size=2000, times=12) as three,
    ):
        for process in (one, two, three):
            lines, _ = process.communicate(timeout=60)
            assert process.returncode == 0
            acknowledged += map(int, lines.split())
    assert sorted(acknowledged) == list(range(1, 37))
    history = await Versions(Objects(location), COLLECTION).history("x")
    assert [each.version for each in history] == list(range(1, 37))
    # each writer's versions are its own: nobody's record was overwritten
    assert set(Counter(each.metadata["writer"] for each in history).values()) == {12}


async def test_killed_at_any_moment(location: str) -> None:
    acknowledged: list[int] = []
    for _ in range(_DEATHS):
        with writer(location, size=_LARGE, times=0) as process:
            assert process.stdout is not None
            acknowledged.append(int(process.stdout.readline()))
            time.sleep(random.uniform(0, 0.15))
            process.send_signal(signal.SIGKILL)
            acknowledged += map(int, process.stdout.read().split())
    objects = Objects(location)
    versions = Versions(objects, COLLECTION)
    history = await versions.history("x")
    numbers = [each.version for each in history]
    assert set(acknowledged) <= set(numbers)
    assert len(acknowledged) == len(set(acknowledged))
    assert len(numbers) - len(acknowledged) <= _DEATHS  # done, and killed before it could say so
    await sweep(objects, now=datetime.now(UTC) + timedelta(hours=2))
    for version in history:
        assert len(await versions.load(version, "first")) == _LARGE
        assert len(await versions.load(version, "second")) == 16
    blobs = [each for each in await objects.list("") if "/blobs/" in each.key]
    assert len(blobs) == 2 * len(history)
    staging = Path(location) / STAGING
    assert not staging.is_dir() or list(staging.iterdir()) == []
