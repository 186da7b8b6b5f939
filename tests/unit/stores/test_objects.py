"""What any place promises: whole or not there, one winner, and a clear answer when it is away."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from secrets import token_hex

import pytest

from service.errors import StorageUnavailable
from service.stores import folder as folder_module
from service.stores.folder import STAGING
from service.stores.objects import Objects
from tests.support.buckets import BUCKET, BucketServer

pytestmark = pytest.mark.anyio
Reach = Callable[[], Objects]
LARGE = 6 * 2**20  # more than one part of an upload in parts


async def test_what_is_written_is_read(objects: Objects) -> None:
    assert await objects.get("a/b.txt") is None
    await objects.put("a/b.txt", b"one")
    assert await objects.get("a/b.txt") == b"one"
    await objects.put("a/b.txt", b"two")
    assert await objects.get("a/b.txt") == b"two"
    await objects.put("a/empty", b"")
    assert await objects.get("a/empty") == b""
    large = os.urandom(LARGE)
    await objects.put("a/large", large)
    assert await objects.get("a/large") == large


async def test_a_taken_key_stays_as_it_is(objects: Objects, reach: Reach) -> None:
    assert await objects.put_new("a/b", b"one")
    assert not await objects.put_new("a/b", b"two")
    assert not await reach().put_new("a/b", b"three")
    assert await reach().get("a/b") == b"one"


async def test_of_many_writers_one_wins(reach: Reach) -> None:
    replicas = [reach() for _ in range(4)]
    for round_ in range(10):
        values = [b"%d" % number for number in range(12)]
        won = await asyncio.gather(
            *(replicas[i % 4].put_new(f"r/{round_}", value) for i, value in enumerate(values))
        )
        assert won.count(True) == 1
        assert await reach().get(f"r/{round_}") == values[won.index(True)]


async def test_a_listing_is_sorted_and_keeps_to_whole_segments(objects: Objects) -> None:
    assert await objects.list("a") == []
    began = datetime.now(UTC) - timedelta(seconds=2)  # a bucket keeps whole seconds
    for key in ("b/x", "a/z", "a/deep/er", "ab/x", "a/y"):
        await objects.put(key, key.encode())
    listed = await objects.list("a")
    assert [each.key for each in listed] == ["a/deep/er", "a/y", "a/z"]
    assert [each.bytes for each in listed] == [9, 3, 3]
    assert all(began < each.modified < began + timedelta(minutes=1) for each in listed)
    assert await objects.list("a/") == listed
    assert len(await objects.list("")) == 5


async def test_deleting_twice_is_no_mistake(objects: Objects) -> None:
    for key in ("a/x", "a/y/z", "ab"):
        await objects.put(key, b"")
    await objects.delete("a/x")
    await objects.delete("a/x")
    assert await objects.get("a/x") is None
    assert await objects.put_new("a/x", b"again")
    await objects.delete_prefix("a")
    await objects.delete_prefix("a")
    assert [each.key for each in await objects.list("")] == ["ab"]


@pytest.mark.parametrize(
    "key", ["", "/a", "a//b", "../a", "a/../b", "a/.x", "a b", "a/", "a#1", "ä"]
)
async def test_a_key_that_could_lead_elsewhere_is_refused(key: str) -> None:
    objects = Objects("memory://")
    for call in (objects.put(key, b""), objects.put_new(key, b""), objects.get(key)):
        with pytest.raises(ValueError, match="cannot be a key"):
            await call
    with pytest.raises(ValueError, match="cannot be a key"):
        await objects.delete(key)


async def test_a_reader_never_sees_half_a_value(objects: Objects, reach: Reach) -> None:
    values = [bytes([number]) * (300_000 + number) for number in range(8)]
    await objects.put("a", values[0])
    done = asyncio.Event()

    async def read() -> int:
        replica, seen = reach(), 0
        while not done.is_set():
            found = await replica.get("a")
            assert found in values
            seen += 1
        return seen

    readers = [asyncio.create_task(read()) for _ in range(2)]
    for value in values * 3:
        await objects.put("a", value)
    done.set()
    assert min(await asyncio.gather(*readers)) > 1


async def test_the_state_tells_what_the_place_is(objects: Objects, location: str) -> None:
    before = objects.state()
    assert (before.location, before.state, before.problem) == (location, "untried", None)
    await objects.prove()
    assert objects.state().state == "usable"
    assert before.kind == {"m": "memory", "s": "bucket", "/": "folder"}[location[0]]


@pytest.mark.parametrize(
    "location",
    ["ftp://there", "s3://", "s3:///x", "s3://key:secret@bucket/x", "s3://UPPER", "gs://bucket/x"],
)
def test_an_address_that_cannot_be_understood_is_refused(location: str) -> None:
    with pytest.raises(ValueError, match="SERVICE_DATA_LOCATION") as refusal:
        Objects(location)
    assert "secret" not in str(refusal.value)


def test_half_of_the_credentials_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    with pytest.raises(ValueError, match="AccessKeyId") as refusal:
        Objects(f"s3://{BUCKET}/x")
    assert "secret" not in str(refusal.value)


def test_a_home_is_found() -> None:
    assert Objects("~/x").state().location == str(Path.home() / "x")
    assert Objects("x").state().location == str(Path.cwd() / "x")


class TestFolder:
    """A folder also has to sync, to fill up and to be swept."""

    @pytest.mark.parametrize("method", ["put", "put_new"])
    async def test_bytes_reach_the_disk_before_the_name_and_the_name_before_the_answer(
        self, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        events: list[str] = []
        sync, link, rename = os.fsync, Path.hardlink_to, Path.replace

        def syncing(handle: int) -> None:
            events.append(opened(handle))
            sync(handle)

        def linking(self: Path, target: Path) -> None:
            events.append("named")
            link(self, target)

        def renaming(self: Path, target: Path) -> Path:
            events.append("named")
            return rename(self, target)

        monkeypatch.setattr(folder_module.os, "fsync", syncing)
        monkeypatch.setattr(Path, "hardlink_to", linking)
        monkeypatch.setattr(Path, "replace", renaming)
        root = tmp_path / "root"
        await getattr(Objects(str(root)), method)("a/b/c", b"data")
        assert Path(events[0]).parent == root / STAGING
        above = [root / "a" / "b", root / "a", root, tmp_path]
        assert events[1:] == ["named", *map(str, above)]

    async def test_the_loser_of_a_race_syncs_the_name_too(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await Objects(str(tmp_path)).put_new("a/b", b"")
        synced: list[str] = []
        monkeypatch.setattr(folder_module.os, "fsync", lambda fd: synced.append(opened(fd)))
        assert not await Objects(str(tmp_path)).put_new("a/b", b"")
        assert str(tmp_path / "a") in synced

    async def test_a_full_disk_leaves_everything_as_it_was(
        self, tmp_path: Path, small_files: None
    ) -> None:
        objects = Objects(str(tmp_path))
        await objects.put("a/b", b"old")
        for write in (objects.put, objects.put_new):
            with pytest.raises(StorageUnavailable, match="it is full") as refusal:
                await write("a/b", bytes(2**20))
            assert refusal.value.status == 503
            assert refusal.value.retryable
        assert await objects.get("a/b") == b"old"
        assert list((tmp_path / STAGING).iterdir()) == []
        assert objects.state().state == "unusable"  # reading worked meanwhile, writing did not
        assert objects.state().problem == "it is full"
        await objects.put("a/b", b"new")
        assert (await objects.get("a/b"), objects.state().state) == (b"new", "usable")

    async def test_a_place_that_cannot_be_a_folder(self, tmp_path: Path) -> None:
        file = tmp_path / "file"
        file.write_bytes(b"")
        objects = Objects(str(file / "below"))
        await objects.prove()
        assert objects.state().state == "unusable"
        for call in (objects.put("a", b""), objects.put_new("a", b""), objects.list("")):
            with pytest.raises(StorageUnavailable) as refusal:
                await call
            assert str(tmp_path) not in refusal.value.detail
        file.unlink()  # somebody mounts the volume after all
        await objects.put("a", b"")
        assert await objects.get("a") == b""

    async def test_only_old_unfinished_files_are_swept(self, tmp_path: Path) -> None:
        objects = Objects(str(tmp_path))
        await objects.put("a/b", b"kept")
        left = tmp_path / STAGING / "left"
        left.write_bytes(b"half")
        assert [each.key for each in await objects.list("")] == ["a/b"]
        await objects.sweep(datetime.now(UTC) - timedelta(hours=1))
        assert left.exists()
        await objects.sweep(datetime.now(UTC) + timedelta(hours=1))
        assert not left.exists()
        assert await objects.get("a/b") == b"kept"


class TestBucket:
    """A bucket can be away, slow, missing, or break the one promise that matters."""

    @pytest.fixture
    def place(self, bucket: BucketServer) -> str:
        return f"s3://{BUCKET}/{token_hex(8)}"

    async def test_a_refused_connection(self, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed.getsockname()[1]}")
            await expect_unavailable(Objects(place))

    async def test_a_bucket_that_answers_503(self, place: str, bucket: BucketServer) -> None:
        objects = Objects(place)
        bucket.fail = True
        await expect_unavailable(objects)
        bucket.heal()
        await objects.put("a", b"1")
        await objects.get("a")
        assert objects.state().state == "usable"

    async def test_a_frozen_bucket_is_not_waited_for(
        self, place: str, bucket: BucketServer
    ) -> None:
        objects = Objects(place, patient_seconds=0.2)
        bucket.frozen.clear()
        with pytest.raises(StorageUnavailable, match="did not answer in time"):
            await objects.get("a")

    async def test_a_missing_bucket(self, bucket: BucketServer) -> None:
        objects = Objects("s3://no-such-bucket/x")
        await objects.prove()
        assert objects.state().state == "unusable"
        with pytest.raises(StorageUnavailable, match="not there"):
            await objects.put("a", b"")

    async def test_a_bucket_that_overwrites_is_found_out(
        self, place: str, bucket: BucketServer
    ) -> None:
        bucket.ignore_conditions = True
        objects = Objects(place)
        await objects.prove()
        assert "If-None-Match" in str(objects.state().problem)
        with pytest.raises(StorageUnavailable, match="If-None-Match"):
            await objects.put_new("a", b"")
        bucket.heal()
        await objects.put("b", b"")
        assert objects.state().state == "unusable"
        with pytest.raises(StorageUnavailable, match="If-None-Match"):  # until somebody looks
            await objects.put_new("a", b"")

    async def test_a_lost_answer_is_asked_for_again(self, place: str, bucket: BucketServer) -> None:
        objects = Objects(place)
        bucket.lose_answer_to = "/a"
        await objects.put("a", b"1")
        assert bucket.lose_answer_to is None
        assert await objects.get("a") == b"1"


def opened(handle: int) -> str:
    """Return the path that a file descriptor was opened by."""
    return str(Path(f"/proc/self/fd/{handle}").readlink())


async def expect_unavailable(objects: Objects) -> None:
    for call in (objects.put("a", b""), objects.put_new("a", b""), objects.get("a")):
        with pytest.raises(StorageUnavailable) as refusal:
            await call
        assert "127.0.0.1" not in refusal.value.detail
    with pytest.raises(StorageUnavailable):
        await objects.list("")
    assert objects.state().state == "unusable"
