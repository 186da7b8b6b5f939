"""Keep the log and the snapshots of a corpus among the stored objects.

```
corpora/<name>/log/000000000007                  one change; whoever writes a number first has it
corpora/<name>/descriptions/000000000007         what that version is; empty where the corpus ended
corpora/<name>/snapshots/000000000005-<uid>/0000 first part of version 5, written last: once it is
corpora/<name>/snapshots/000000000005-<uid>/0001 there, so is the snapshot
```
"""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from dataclasses import dataclass
from uuid import uuid4

from service.capabilities.geodesic.pipeline.corpus import Corpus, Description
from service.capabilities.geodesic.pipeline.entries import (
    Entry,
    count_parts,
    read_description,
    read_entry,
    read_parts,
    write_description,
    write_entry,
    write_parts,
)
from service.errors import StorageUnavailable
from service.stores.objects import Objects

_COLLECTION = "corpora"
_PART = re.compile(r"corpora/[^/]+/snapshots/([0-9]{12}-[0-9a-f]{32})/([0-9]+)")
_LOG = re.compile(r"corpora/([^/]+)/log/([0-9]{12})")
_DESCRIPTION = re.compile(r"corpora/([^/]+)/descriptions/([0-9]{12})")
_FIRST = "0000"


@dataclass(frozen=True, slots=True)
class State:
    """Say how far a log is.

    Attributes:
        name: the corpus.
        last: number of its latest entry.
        described: whether a description of that version is kept; a process may have ended between
            the two.
    """

    name: str
    last: int
    described: bool


class Superseded(Exception):  # noqa: N818 - it reads as a fact, and never leaves this room
    """A newer snapshot took the place of what was being read."""


class Journal:
    """Read and write what is kept of one corpus.

    Args:
        objects: where.
        name: the corpus.
    """

    __slots__ = ("_name", "_objects")

    def __init__(self, objects: Objects, name: str) -> None:
        self._objects = objects
        self._name = name

    async def append(self, number: int, entry: Entry) -> bool:
        """Write an entry under a number; return False where another one has it.

        Raises:
            StorageUnavailable: it is not known whether it was written; the log says so later.
        """
        content = await asyncio.to_thread(write_entry, entry)
        if await self._objects.put_new(self._log(number), content):
            return True
        # The answer to a write can be lost on its way and the write sent again.
        try:
            there = await self.read(number)
        except Superseded:
            return False
        return there is not None and there.uid == entry.uid

    async def read(self, number: int) -> Entry | None:
        """Return the entry of a number, None where there is none yet.

        Raises:
            Superseded: a snapshot holds what it said.
        """
        key = self._log(number)
        content = await self._objects.get(key)
        if content is None:
            return None
        if not content:
            raise Superseded
        return await asyncio.to_thread(read_entry, content, key)

    async def describe(self, number: int, description: Description | None) -> None:
        """Keep what the version of a number is, None where its entry ended the corpus.

        Only who wrote the entry may describe it. What fails is told by opening the corpus.
        """
        content = b"" if description is None else write_description(description)
        with suppress(StorageUnavailable):
            await self._objects.put(self._description(number), content)
            if number > 1:
                await self._objects.delete(self._description(number - 1))

    async def described(self, number: int) -> Description | None:
        """Return what the version of a number is, None where the corpus ended.

        Raises:
            Superseded: it is described no more; there is a later one.
        """
        key = self._description(number)
        content = await self._objects.get(key)
        if content is None:
            raise Superseded
        return read_description(content, key) if content else None

    async def last_number(self) -> int:
        """Return the last number that was written, 0 for none."""
        found = [_LOG.fullmatch(each.key) for each in await self._objects.list(self._prefix("log"))]
        return max((int(match[2]) for match in found if match), default=0)

    async def latest_snapshot(self) -> Corpus | None:
        """Return the latest version that was written as a whole, None where none was.

        Raises:
            Superseded: it was removed while it was read.
        """
        whole = [folder for folder, part in await self._parts() if part == _FIRST]
        if not whole:
            return None
        key = self._prefix(f"snapshots/{max(whole)}")
        first = await self._objects.get(f"{key}/{_FIRST}")
        if first is None:
            raise Superseded
        parts = [first]
        for number in range(1, count_parts(first, key) + 1):
            part = await self._objects.get(f"{key}/{number:04}")
            if part is None:
                raise Superseded
            parts.append(part)
        return await asyncio.to_thread(read_parts, parts, key)

    async def write_snapshot(self, corpus: Corpus) -> None:
        """Write a version as a whole, then free what it makes superfluous."""
        folder = f"{corpus.version:012}-{uuid4().hex}"
        parts = await asyncio.to_thread(write_parts, corpus)
        for number in range(len(parts) - 1, -1, -1):
            await self._objects.put(self._prefix(f"snapshots/{folder}/{number:04}"), parts[number])
        await self._free(corpus.version, keep=folder)

    async def clear(self, number: int) -> None:
        """Free everything before the entry of a number; what fails is freed another time."""
        with suppress(StorageUnavailable):
            await self._free(number - 1, keep="")

    async def _free(self, until: int, *, keep: str) -> None:
        """Remove snapshots of earlier versions and empty the log up to a number.

        An emptied entry keeps its number: a writer that has not heard of it must not get it again.
        """
        for folder, part in await self._parts():
            if folder != keep and int(folder.partition("-")[0]) <= until:
                await self._objects.delete(self._prefix(f"snapshots/{folder}/{part}"))
        for each in await self._objects.list(self._prefix("log")):
            match = _LOG.fullmatch(each.key)
            if match and each.bytes and int(match[2]) <= until:
                await self._objects.put(each.key, b"")

    async def _parts(self) -> list[tuple[str, str]]:
        """Return folder and part of everything below snapshots, in order."""
        listed = await self._objects.list(self._prefix("snapshots"))
        return [(match[1], match[2]) for each in listed if (match := _PART.fullmatch(each.key))]

    def _description(self, number: int) -> str:
        return self._prefix(f"descriptions/{number:012}")

    def _log(self, number: int) -> str:
        return self._prefix(f"log/{number:012}")

    def _prefix(self, below: str) -> str:
        return f"{_COLLECTION}/{self._name}/{below}"


async def list_states(objects: Objects) -> list[State]:
    """Return how far the log of every name is, sorted by name; it reads no content."""
    logs: dict[str, int] = {}
    described: set[tuple[str, int]] = set()
    for each in await objects.list(_COLLECTION):
        if match := _LOG.fullmatch(each.key):
            logs[match[1]] = max(logs.get(match[1], 0), int(match[2]))
        elif match := _DESCRIPTION.fullmatch(each.key):
            described.add((match[1], int(match[2])))
    return [State(name, last, (name, last) in described) for name, last in sorted(logs.items())]
