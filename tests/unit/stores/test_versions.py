"""What versions promise on any place: each whole or not there, for good, and made once."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from service.errors import (
    ArtefactDamaged,
    Conflict,
    InvalidInput,
    StorageUnavailable,
    UnknownArtefact,
)
from service.stores.claims import Idempotency
from service.stores.layout import Shelf, parse_blob
from service.stores.objects import Objects
from service.stores.sweep import sweep
from service.stores.versions import Versions
from tests.support.buckets import BUCKET, BucketServer

pytestmark = pytest.mark.anyio
Reach = Callable[[], Objects]

BLOBS = {"kernel": b"\x00kernel\xff", "statistics": b"s" * 3000}
ONE = Idempotency("key one", "a" * 64)


async def make(versions: Versions, name: str = "x", **options: Idempotency) -> str:
    made = await versions.create(name, metadata={"n": 1}, blobs={"b": os.urandom(9)}, **options)
    return made.id


async def blob_keys(objects: Objects) -> list[str]:
    return [each.key for each in await objects.list("") if parse_blob(each.key)]


async def test_a_version_is_found_as_it_was_made(versions: Versions, reach: Reach) -> None:
    metadata = {"beta": 0.5, "model": "é", "nested": {"list": [1, None, True]}, "np": np.float64(2)}
    made = await versions.create("my.Name-1", metadata=metadata, blobs=BLOBS)
    assert (made.id, made.name, made.version) == ("my.Name-1@1", "my.Name-1", 1)
    age = datetime.now(UTC) - datetime.fromisoformat(made.created)
    assert timedelta(0) <= age < timedelta(minutes=1)
    replica = Versions(reach(), "things")
    for found in (await replica.find("my.Name-1@1"), await replica.find("my.Name-1")):
        assert found == made
        assert found.metadata == metadata
        assert {name: blob.bytes for name, blob in found.blobs.items()} == {
            "kernel": 8,
            "statistics": 3000,
        }
        for name, data in BLOBS.items():
            assert await replica.load(found, name) == data


async def test_the_digest_is_of_the_content_alone(versions: Versions) -> None:
    first = await versions.create("x", metadata={"a": 1, "b": 2}, blobs=BLOBS)
    same = await versions.create(
        "y", metadata={"b": 2, "a": 1}, blobs=dict(reversed(BLOBS.items()))
    )
    other = await versions.create("x", metadata={"a": 1, "b": 3}, blobs=BLOBS)
    another = await versions.create("x", metadata={"a": 1, "b": 2}, blobs={**BLOBS, "c": b""})
    assert first.sha256 == same.sha256
    assert len({first.sha256, other.sha256, another.sha256}) == 3


async def test_numbers_count_up_and_old_versions_stay(versions: Versions) -> None:
    for number in range(1, 12):
        assert await make(versions) == f"x@{number}"
    assert (await versions.find("x")).version == 11
    assert (await versions.find("x@3")).version == 3
    assert [each.version for each in await versions.history("x")] == list(range(1, 12))
    assert await versions.history("y") == []


async def test_collections_do_not_see_each_other(versions: Versions, objects: Objects) -> None:
    await make(versions)
    others = Versions(objects, "thing")
    assert await others.list() == []
    assert await make(others) == "x@1"
    await others.delete("x")
    assert (await versions.find("x")).version == 1
    with pytest.raises(ValueError, match="collection"):
        Versions(objects, "../things")


@pytest.mark.parametrize("name", ["", ".x", "-x", "a/b", "a@1", "ä", "a b", "a" * 65, "..", "x\n"])
async def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        await make(Versions(Objects("memory://"), "things"), name)
    assert refusal.value.faults[0].pointer == "/name"


@pytest.mark.parametrize(
    "artefact_id",
    ["nope", "x@2", "x@0", "x@01", "x@", "@1", "x@1@1", "x@999999999", "", "a/b", "é"],
)
async def test_ids_that_are_unknown(artefact_id: str) -> None:
    versions = Versions(Objects("memory://"), "things")
    await make(versions)
    for call in (versions.find(artefact_id), versions.delete(artefact_id)):
        with pytest.raises(UnknownArtefact) as refusal:
            await call
        assert repr(artefact_id) in refusal.value.detail


async def test_the_list_has_the_latest_living_version_of_each_name(versions: Versions) -> None:
    for name in ("b", "a", "a", "c", "d", "d"):
        await make(versions, name)
    await versions.delete("c")
    await versions.delete("d@2")
    assert [each.id for each in await versions.list()] == ["a@2", "b@1", "d@1"]


async def test_deleted_is_said_and_the_number_is_gone_for_good(
    versions: Versions, objects: Objects
) -> None:
    first, second = await make(versions), await make(versions)
    assert (await versions.delete("x")).id == second
    with pytest.raises(UnknownArtefact, match="'x@2' was deleted at"):
        await versions.find(second)
    with pytest.raises(UnknownArtefact, match="was deleted at"):
        await versions.delete(second)
    assert (await versions.find("x")).id == first
    assert await make(versions) == "x@3"
    await versions.delete("x@1")
    await versions.delete("x")
    with pytest.raises(UnknownArtefact, match="'x' was deleted at"):
        await versions.find("x")
    assert await versions.list() == []
    assert await blob_keys(objects) == []
    assert await make(versions) == "x@4"


async def test_deleted_between_find_and_load(versions: Versions, reach: Reach) -> None:
    found = await versions.find(await make(versions))
    await Versions(reach(), "things").delete("x")
    with pytest.raises(UnknownArtefact, match="was deleted at"):
        await versions.load(found, "b")


async def test_readers_beside_a_deletion_get_all_or_a_404(versions: Versions, reach: Reach) -> None:
    outcomes: set[str] = set()
    large = os.urandom(400_000)

    async def read() -> None:
        replica = Versions(reach(), "things")
        for _ in range(40):
            try:
                found = await replica.find("x@1")
                assert await replica.load(found, "big") == large
                outcomes.add("whole")
            except UnknownArtefact:
                outcomes.add("gone")

    await versions.create("x", metadata={}, blobs={"big": large})
    readers = [asyncio.create_task(read()) for _ in range(3)]
    await asyncio.sleep(0.02)
    await versions.delete("x@1")
    await asyncio.gather(*readers)
    assert outcomes == {"whole", "gone"}


async def test_writers_at_once_all_get_numbers_of_their_own(reach: Reach) -> None:
    replicas = [Versions(reach(), "things") for _ in range(3)]
    made = await asyncio.gather(*(make(replicas[i % 3]) for i in range(15)))
    assert {int(each.removeprefix("x@")) for each in made} == set(range(1, 16))


async def test_a_full_disk_gets_back_what_was_begun(tmp_path: Path, small_files: None) -> None:
    objects = Objects(str(tmp_path))
    versions = Versions(objects, "things")
    first = await versions.create("x", metadata={}, blobs=BLOBS)
    before = await objects.list("")
    with pytest.raises(StorageUnavailable, match="it is full"):
        await versions.create("x", metadata={}, blobs={"a": b"small", "b": bytes(2**20)})
    assert await objects.list("") == before
    assert await versions.find("x") == first
    assert await versions.load(first, "kernel") == BLOBS["kernel"]
    assert await make(versions) == "x@2"


class TestIdempotency:
    """The same request again makes nothing new, whatever happened to the first."""

    async def test_a_repeated_request_finds_what_it_made(
        self, versions: Versions, objects: Objects, reach: Reach
    ) -> None:
        first = await make(versions, idempotency=ONE)
        await make(versions)
        before = await objects.list("")
        assert await make(versions, idempotency=ONE) == first
        assert await make(Versions(reach(), "things"), idempotency=ONE) == first
        assert await objects.list("") == before

    async def test_another_request_under_the_key_is_refused(self, versions: Versions) -> None:
        await make(versions, idempotency=ONE)
        with pytest.raises(Conflict, match="key one"):
            await make(versions, idempotency=Idempotency("key one", "b" * 64))
        with pytest.raises(Conflict, match="key one"):
            await make(versions, "y", idempotency=ONE)
        assert await make(versions, idempotency=Idempotency("key two", "a" * 64)) == "x@2"

    async def test_at_once_on_several_replicas(self, objects: Objects, reach: Reach) -> None:
        replicas = [Versions(reach(), "things") for _ in range(3)]
        made = await asyncio.gather(
            *(make(replicas[i % 3], idempotency=ONE) for i in range(9)),
            *(make(replicas[i % 3]) for i in range(6)),
        )
        assert len(set(made[:9])) == 1
        assert len(set(made)) == 7
        assert len(await replicas[0].history("x")) == 7
        assert len(await blob_keys(objects)) == 7

    async def test_what_was_deleted_is_not_made_again_by_a_late_repetition(
        self, versions: Versions
    ) -> None:
        await make(versions, idempotency=ONE)
        await versions.delete("x@1")
        with pytest.raises(Conflict, match="x@1, which was deleted"):
            await make(versions, idempotency=ONE)
        assert await versions.list() == []

    @pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
    @pytest.mark.parametrize("at", range(4))
    async def test_a_crash_at_any_write_is_mended_by_the_repetition(
        self, at: int, done: bool, location: str, reach: Reach
    ) -> None:
        # writes: two blobs, the claim, the record
        dying = Dying(reach(), at=at, done=done)
        with pytest.raises(StorageUnavailable):
            await Versions(dying, "things").create("x", metadata={}, blobs=BLOBS, idempotency=ONE)
        other = Versions(reach(), "things")
        await make(other)  # somebody comes in between
        made = await other.create("x", metadata={}, blobs=BLOBS, idempotency=ONE)
        again = await other.create("x", metadata={}, blobs=BLOBS, idempotency=ONE)
        assert again == made
        history = await other.history("x")
        assert [each.version for each in history] == [1, 2]
        assert made in history
        for name, data in BLOBS.items():
            assert await other.load(made, name) == data
        await sweep(reach(), now=datetime.now(UTC) + timedelta(hours=2))
        assert len(await blob_keys(reach())) == 3
        assert await other.load(made, "kernel") == BLOBS["kernel"]


class Dying(Objects):
    """Fail at one write, before or after it is done, and at everything that follows."""

    def __init__(self, objects: Objects, *, at: int, done: bool) -> None:
        self._inner, self._left, self._done = objects, at, done

    async def put(self, key: str, data: bytes) -> None:
        await self._write(self._inner.put, key, data)

    async def put_new(self, key: str, data: bytes) -> bool:
        return bool(await self._write(self._inner.put_new, key, data))

    async def _write(self, write: Callable[..., object], key: str, data: bytes) -> object:
        self._left -= 1
        if self._left >= 0:
            return await write(key, data)  # type: ignore[misc]
        if self._left == -1 and self._done:
            await write(key, data)  # type: ignore[misc]
        raise StorageUnavailable("killed")

    async def get(self, key: str) -> bytes | None:
        return await self._inner.get(key)

    async def list(self, prefix: str) -> list[object]:  # type: ignore[override]
        return list(await self._inner.list(prefix))

    async def delete(self, key: str) -> None:
        raise StorageUnavailable("killed")


async def test_a_record_whose_answer_was_lost_is_recognised(
    bucket: BucketServer,
) -> None:
    versions = Versions(Objects(f"s3://{BUCKET}/lost{os.getpid()}"), "things")
    bucket.lose_answer_to = "/versions/"
    made = await make(versions)
    assert bucket.lose_answer_to is None
    assert made == "x@1"
    assert [each.id for each in await versions.history("x")] == ["x@1"]


class TestDamage:
    """Bytes that changed are noticed, wherever they lie."""

    @pytest.mark.parametrize("damage", [b"", b"s" * 2999, b"s" * 2999 + b"t", b"s" * 3001, None])
    async def test_of_a_blob(
        self, damage: bytes | None, versions: Versions, objects: Objects
    ) -> None:
        made = await versions.create("x", metadata={}, blobs=BLOBS)
        key = Shelf("things", "x").blob(made.uid, "statistics")
        await objects.delete(key)
        if damage is not None:
            await objects.put(key, damage)
        with pytest.raises(ArtefactDamaged, match="'statistics' of x@1"):
            await versions.load(await versions.find("x"), "statistics")
        assert await versions.load(made, "kernel") == BLOBS["kernel"]
        with pytest.raises(ArtefactDamaged, match="no part 'nope'"):
            await versions.load(made, "nope")

    async def test_of_a_record_is_skipped_and_logged_by_lists_and_told_when_asked_for(
        self, versions: Versions, objects: Objects
    ) -> None:
        for name in ("a", "x", "x"):
            await make(versions, name)
        await objects.put(Shelf("things", "x").record(2), b'{"half": ')
        with structlog.testing.capture_logs() as logs:
            assert [each.id for each in await versions.list()] == ["a@1", "x@1"]
        assert [log["event"] for log in logs] == ["record_damaged"]
        assert "x" in logs[0]["key"]
        for wanted in ("x", "x@2"):  # never another version in its place
            with pytest.raises(ArtefactDamaged, match="x@2"):
                await versions.find(wanted)
        assert await make(versions) == "x@3"
        assert (await versions.find("x")).version == 3

    async def test_another_artefacts_record_is_not_taken(
        self, versions: Versions, objects: Objects
    ) -> None:
        await make(versions, "a")
        record = await objects.get(Shelf("things", "a").record(1))
        assert record is not None
        await objects.put(Shelf("things", "b").record(1), record)
        with pytest.raises(ArtefactDamaged, match="b@1"):
            await versions.find("b")

    async def test_any_changed_byte_of_a_record_is_noticed(self) -> None:
        objects = Objects("memory://")
        versions = Versions(objects, "things")
        made = await versions.create("x", metadata={"a": [1, "é"]}, blobs={"b": b"1"})
        key = Shelf("things", "x").record(1)
        record = await objects.get(key)
        assert record is not None
        for position in range(len(record)):
            for change in (0x01, 0x20, 0x80):
                changed = bytearray(record)
                changed[position] ^= change
                await objects.put(key, bytes(changed))
                with pytest.raises(ArtefactDamaged):
                    await versions.find("x")
            await objects.put(key, record[:position])
            with pytest.raises(ArtefactDamaged):
                await versions.find("x")
        await objects.put(key, record)
        assert await versions.find("x") == made

    @pytest.mark.parametrize("said", [b"[]", b"3", b'"x"', b"{}", b'{"seal": 1}', b"null", b"\xff"])
    async def test_a_record_of_something_else(self, said: bytes) -> None:
        objects = Objects("memory://")
        await objects.put(Shelf("things", "x").record(1), said)
        with pytest.raises(ArtefactDamaged):
            await Versions(objects, "things").find("x")


class TestSweep:
    """What nothing points to goes, after a while; everything else stays."""

    async def test_only_old_orphans_go(self, versions: Versions, objects: Objects) -> None:
        kept = await versions.create("x", metadata={}, blobs=BLOBS)
        orphan = Shelf("things", "x").blob("0" * 32, "kernel")
        nameless = Shelf("things", "never").blob("1" * 32, "kernel")
        foreign = "somebody/else.txt"
        for key in (orphan, nameless, foreign):
            await objects.put(key, b"")
        now = datetime.now(UTC)
        assert await sweep(objects, now=now + timedelta(minutes=50)) == 0
        assert await objects.get(orphan) == b""
        assert await sweep(objects, now=now + timedelta(minutes=70)) == 2
        assert await objects.get(orphan) is None
        assert await objects.get(nameless) is None
        assert await objects.get(foreign) == b""
        for name, data in BLOBS.items():
            assert await versions.load(kept, name) == data

    async def test_blobs_that_a_crashed_deletion_left_go(
        self, versions: Versions, objects: Objects
    ) -> None:
        made = await versions.create("x", metadata={}, blobs=BLOBS)
        left = Shelf("things", "x").blob(made.uid, "kernel")
        await versions.delete("x")
        await objects.put(left, BLOBS["kernel"])
        await sweep(objects, now=datetime.now(UTC) + timedelta(hours=2))
        assert await objects.get(left) is None

    async def test_blobs_of_a_claim_wait_for_its_repetition(
        self, objects: Objects, versions: Versions
    ) -> None:
        dying = Versions(Dying(objects, at=3, done=False), "things")  # the record is not written
        with pytest.raises(StorageUnavailable):
            await dying.create("x", metadata={}, blobs=BLOBS, idempotency=ONE)
        await sweep(objects, now=datetime.now(UTC) + timedelta(hours=2))
        made = await versions.create("x", metadata={}, blobs=BLOBS, idempotency=ONE)
        for name, data in BLOBS.items():
            assert await versions.load(made, name) == data

    async def test_nothing_goes_beside_a_damaged_record(
        self, versions: Versions, objects: Objects
    ) -> None:
        made = await versions.create("x", metadata={}, blobs=BLOBS)
        key = Shelf("things", "x").record(1)
        record = await objects.get(key)
        assert record is not None
        await objects.put(key, record[:-1])
        await sweep(objects, now=datetime.now(UTC) + timedelta(hours=2))
        await objects.put(key, record)  # from a backup
        assert await versions.load(made, "kernel") == BLOBS["kernel"]

    async def test_a_key_is_remembered_for_a_day(
        self, versions: Versions, objects: Objects
    ) -> None:
        await make(versions, idempotency=ONE)
        now = datetime.now(UTC)
        assert await sweep(objects, now=now + timedelta(hours=23)) == 0
        assert await make(versions, idempotency=ONE) == "x@1"
        assert await sweep(objects, now=now + timedelta(hours=25)) == 1
        assert await make(versions, idempotency=ONE) == "x@2"


names = st.sampled_from(["a", "b"])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("make"), names, st.just(0)),
        st.tuples(st.just("delete"), names, st.integers(0, 4)),
    ),
    max_size=14,
)


@given(steps=steps)
def test_any_history_is_as_a_dictionary_would_have_it(steps: list[tuple[str, str, int]]) -> None:
    async def live() -> None:
        versions = Versions(Objects("memory://"), "things")
        model: dict[str, dict[int, bool]] = {"a": {}, "b": {}}
        for do, name, number in steps:
            given_numbers = model[name]
            living = [each for each, alive in given_numbers.items() if alive]
            if do == "make":
                made = await versions.create(name, metadata={}, blobs={})
                assert made.version == len(given_numbers) + 1
                given_numbers[made.version] = True
                continue
            wanted = number or max(living, default=0)
            try:
                gone = await versions.delete(f"{name}@{number}" if number else name)
                assert gone.version == wanted
                assert given_numbers[wanted]
                given_numbers[wanted] = False
            except UnknownArtefact:
                assert not given_numbers.get(wanted, False)
        for name, numbers in model.items():
            alive = [number for number, lives in numbers.items() if lives]
            assert [each.version for each in await versions.history(name)] == alive
        assert [each.version for each in await versions.list()] == [
            max(number for number, lives in numbers.items() if lives)
            for numbers in model.values()
            if any(numbers.values())
        ]

    asyncio.run(live())
