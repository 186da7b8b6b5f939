"""Keep artefacts that users make: numbered versions that never change, each whole or not there."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from typing import Any

import structlog

from service.errors import ArtefactDamaged, Conflict, StorageUnavailable, UnknownArtefact
from service.stores.claims import Claim, Claims, Idempotency
from service.stores.layout import (
    MOST_VERSIONS,
    Shelf,
    check_collection,
    check_name,
    parse_id,
    parse_record,
)
from service.stores.objects import Objects
from service.stores.records import Tombstone, Version, bury, draft, read_record

__all__ = ["Idempotency", "Version", "Versions"]  # what a room needs, in one place

logger = structlog.get_logger(__name__)

# How many other writers may take a number before this one finds its own.
_MOST_TRIES = 1000
# Enough to hide the latency of a bucket, few enough to leave its connections to others.
_READS_AT_ONCE = 8

_WAY_OUT = "Restore it from a backup, or make the artefact again."


class Versions:
    """Keep the versions of one kind of artefact.

    An id is `name@3`, or `name` for the latest version that is not deleted. Another process may
    delete a version at any time: find it again for each request.

    Args:
        objects: where the bytes lie.
        collection: kind of artefact, as `transforms`; part of every key.

    Raises:
        ValueError: the collection cannot stand in a key.
    """

    __slots__ = ("_claims", "_collection", "_objects")

    def __init__(self, objects: Objects, collection: str) -> None:
        check_collection(collection)
        self._objects = objects
        self._collection = collection
        self._claims = Claims(objects, collection)

    async def create(
        self,
        name: str,
        *,
        metadata: Mapping[str, Any],
        blobs: Mapping[str, bytes],
        idempotency: Idempotency | None = None,
    ) -> Version:
        """Return a new version of `name`, stored; with a known idempotency key, the one it made.

        Blobs are written first, under a name nobody knows, and the record last: a version is there
        when its record is. Writers that come at once get different numbers.

        Args:
            name: the artefact's.
            metadata: anything that JSON can say.
            blobs: contents, by name (letters, digits, `._-`).
            idempotency: identity of a request that may come again; remembered for a day at least.

        Raises:
            InvalidInput: the name cannot be one.
            Conflict: the idempotency key was used for another request, or what it made is deleted.
            StorageUnavailable: it could not be stored, or it is not known whether it was.
        """
        check_name(name)
        shelf = Shelf(self._collection, name)
        claim = None if idempotency is None else await self._claims.find(name, idempotency)
        if claim is None:
            claim = await self._claim(shelf, metadata, blobs, idempotency)
        return await self._commit(shelf, claim)

    async def find(self, artefact_id: str) -> Version:
        """Return the version that `name@3` names, or the latest living one of `name`.

        Raises:
            UnknownArtefact: there is none, or it was deleted.
            ArtefactDamaged: its record is not what was written.
            StorageUnavailable: the storage cannot be read.
        """
        name, number = parse_id(artefact_id)
        shelf = Shelf(self._collection, name)
        if number is not None:
            found = await self._read(shelf, number)
            if isinstance(found, Version):
                return found
            raise _absent(artefact_id, found)
        latest: Tombstone | None = None
        for number in reversed(await self._numbers(shelf)):
            found = await self._read(shelf, number)
            if isinstance(found, Version):
                return found
            latest = latest or found
        raise _absent(artefact_id, latest)

    async def load(self, version: Version, blob: str) -> bytes:
        """Return a blob of `version`, checked against its size and digest.

        Raises:
            UnknownArtefact: the version was deleted since it was found.
            ArtefactDamaged: the blob is missing, or is not what was written.
            StorageUnavailable: the storage cannot be read.
        """
        expected = version.blobs.get(blob)
        if expected is None:
            raise ArtefactDamaged(f"{version.id} has no part {blob!r}; make it again.")
        shelf = Shelf(self._collection, version.name)
        data = await self._objects.get(shelf.blob(version.uid, blob))
        if data is None:
            await self.find(version.id)  # says so where it was deleted
            raise ArtefactDamaged(f"The part {blob!r} of {version.id} is missing. {_WAY_OUT}")
        if len(data) != expected.bytes or await asyncio.to_thread(_digest, data) != expected.sha256:
            raise ArtefactDamaged(
                f"The part {blob!r} of {version.id} does not match its digest. {_WAY_OUT}"
            )
        return data

    async def list(self) -> list[Version]:
        """Return the latest living version of every name, sorted by name.

        Records that are damaged are logged and left out.

        Raises:
            StorageUnavailable: the storage cannot be read.
        """
        numbers: dict[str, list[int]] = {}
        for each in await self._objects.list(f"{self._collection}/artefacts/"):
            found = parse_record(each.key)
            if found is not None:
                numbers.setdefault(found[0].name, []).append(found[1])
        gate = asyncio.Semaphore(_READS_AT_ONCE)

        async def latest(name: str) -> Version | None:
            async with gate:
                for number in sorted(numbers[name], reverse=True):
                    version = await self._living(Shelf(self._collection, name), number)
                    if version is not None:
                        return version
            return None

        versions = await asyncio.gather(*(latest(name) for name in sorted(numbers)))
        return [version for version in versions if version is not None]

    async def history(self, name: str) -> Sequence[Version]:
        """Return every living version of `name`, oldest first; damaged records are left out.

        Raises:
            UnknownArtefact: nothing can have such a name.
            StorageUnavailable: the storage cannot be read.
        """
        shelf = Shelf(self._collection, parse_id(name)[0])
        versions = [await self._living(shelf, number) for number in await self._numbers(shelf)]
        return [version for version in versions if version is not None]

    async def delete(self, artefact_id: str) -> Version:
        """Delete the version that `artefact_id` names and return it; its number is never reused.

        Raises:
            UnknownArtefact: there is none, or it was deleted before.
            ArtefactDamaged: its record is not what was written.
            StorageUnavailable: it could not be deleted.
        """
        version = await self.find(artefact_id)
        shelf = Shelf(self._collection, version.name)
        await self._objects.put(shelf.record(version.version), bury(version))
        # from here on it is deleted; what a failure leaves behind is swept at a later start
        for blob in version.blobs:
            await self._objects.delete(shelf.blob(version.uid, blob))
        return version

    async def _claim(
        self,
        shelf: Shelf,
        metadata: Mapping[str, Any],
        blobs: Mapping[str, bytes],
        idempotency: Idempotency | None,
    ) -> Claim:
        """Write the blobs and return what is to be committed: our own, or who was faster's."""
        uid, record = await asyncio.to_thread(draft, shelf.name, metadata, blobs)
        try:
            for blob, data in blobs.items():
                await self._objects.put(shelf.blob(uid, blob), data)
            numbers = await self._numbers(shelf)
        except StorageUnavailable:
            await self._discard(shelf, uid, blobs)
            raise
        claim = Claim(first=numbers[-1] + 1 if numbers else 1, uid=uid, record=record)
        if idempotency is None or await self._claims.stake(shelf.name, idempotency, claim):
            return claim
        theirs = await self._claims.find(shelf.name, idempotency)
        if theirs is None:
            raise StorageUnavailable("A claim is there and not there. Send the request again.")
        if theirs.uid != uid:
            await self._discard(shelf, uid, blobs)
        return theirs

    async def _commit(self, shelf: Shelf, claim: Claim) -> Version:
        """Return the claimed version under the first number that is free, or that it has.

        Every writer of this record walks the same numbers, and numbers that are taken stay taken:
        so it meets the record before it meets a number that is free, if another was faster.
        """
        number = claim.first
        for _ in range(_MOST_TRIES):
            if number > MOST_VERSIONS:
                raise Conflict(f"{shelf.name!r} has no version numbers left; choose another name.")
            if await self._objects.put_new(shelf.record(number), claim.record):
                return _as_version(shelf, number, claim)
            there = await self._peek(shelf, number)
            if there is not None and there.uid == claim.uid:
                if isinstance(there, Version):
                    return there
                raise Conflict(
                    f"The request made {shelf.name}@{number}, which was deleted since. Send it "
                    "with a new idempotency key to make it again."
                )
            number += 1
        raise StorageUnavailable("Too many writers use this name at once. Send the request again.")

    async def _numbers(self, shelf: Shelf) -> Sequence[int]:
        """Return all numbers that were ever given, sorted."""
        parsed = [parse_record(each.key) for each in await self._objects.list(shelf.records)]
        return sorted(found[1] for found in parsed if found is not None)

    async def _read(self, shelf: Shelf, number: int) -> Version | Tombstone | None:
        record = await self._objects.get(shelf.record(number))
        return None if record is None else read_record(shelf.name, number, record)

    async def _peek(self, shelf: Shelf, number: int) -> Version | Tombstone | None:
        """Return what `_read` does, and None for a damaged record, which is logged."""
        try:
            return await self._read(shelf, number)
        except ArtefactDamaged as error:
            logger.error("record_damaged", key=shelf.record(number), detail=error.detail)
            return None

    async def _living(self, shelf: Shelf, number: int) -> Version | None:
        found = await self._peek(shelf, number)
        return found if isinstance(found, Version) else None

    async def _discard(self, shelf: Shelf, uid: str, blobs: Mapping[str, bytes]) -> None:
        """Remove blobs that no record will point to; the sweep at a start gets what is left."""
        with suppress(StorageUnavailable):
            for blob in blobs:
                await self._objects.delete(shelf.blob(uid, blob))


def _as_version(shelf: Shelf, number: int, claim: Claim) -> Version:
    version = read_record(shelf.name, number, claim.record)
    assert isinstance(version, Version)
    return version


def _absent(artefact_id: str, found: Tombstone | None) -> UnknownArtefact:
    if found is None:
        return UnknownArtefact(f"There is no {artefact_id!r}.")
    return UnknownArtefact(f"{artefact_id!r} was deleted at {found.deleted}.")


def _digest(data: bytes) -> str:
    return sha256(data).hexdigest()
