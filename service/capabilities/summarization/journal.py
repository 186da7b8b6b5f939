"""Store sets of reviews as what was done to them, one small immutable object a change.

```
opinion-sets/<name>/set.json                    what the set is, with a uid of its own
opinion-sets/<name>/<uid>/00000001.json         {"put": [reviews], "drop": [ids]}
opinion-sets/<name>/<uid>/00000256.json         {"whole": [reviews]}: all there is, now and then
```

Two writers cannot take one number, so changes from several replicas line up, and any replica that
lists the numbers knows what it has not read yet. A set that is deleted and made again has another
uid: what a slow writer adds to the old one is never read.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from service.capabilities.summarization.corpus import Review
from service.errors import ArtefactDamaged, Conflict, UnknownArtefact
from service.stores.claims import Idempotency
from service.stores.objects import Objects

_ROOT = "opinion-sets"
# From one whole state to the next: few objects to read after a restart, few large ones to write.
_WHOLE_EVERY = 256
_READS_AT_ONCE = 16
_MOST_TRIES = 1000


@dataclass(frozen=True, slots=True)
class SetRecord:
    """Describe a stored set.

    Attributes:
        name: given by its maker.
        uid: drawn when it was made.
        model: id of its encoder.
        language: of all reviews, or None.
        k: neighbours of each statement.
        request: key and digest of the request that made it, or None.
    """

    name: str
    uid: str
    model: str
    language: str | None
    k: int
    request: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """Hold what one request did to a set.

    Attributes:
        put: reviews added, or replacing those of the same id.
        drop: ids of reviews removed.
    """

    put: Sequence[Review] = ()
    drop: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class State:
    """Hold the reviews of a set at one revision.

    Attributes:
        revision: number of the last change.
        reviews: by id.
    """

    revision: int
    reviews: Mapping[str, Review]


class Journal:
    """Keep sets of reviews.

    Args:
        objects: where the bytes lie.
    """

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    async def create(
        self,
        name: str,
        *,
        model: str,
        language: str | None,
        k: int,
        idempotency: Idempotency | None,
    ) -> SetRecord:
        """Return a new, empty set; with a known idempotency key, the one that it made.

        Raises:
            Conflict: a set of that name is there.
        """
        request = None
        if idempotency is not None:
            request = f"{idempotency.key}:{idempotency.request_sha256}"
        record = SetRecord(name, secrets.token_hex(8), model, language, k, request)
        if await self._objects.put_new(_record_key(name), orjson.dumps(asdict(record))):
            return record
        there = await self.find(name)
        if request is not None and there.request == request:
            return there
        raise Conflict(f"There is a set {name!r} already. Add reviews to it, or delete it first.")

    async def find(self, name: str) -> SetRecord:
        """Return a set's record.

        Raises:
            UnknownArtefact: there is none of that name.
        """
        raw = await self._objects.get(_record_key(name))
        if raw is None:
            raise UnknownArtefact(f"There is no review set {name[:80]!r}.")
        return SetRecord(**_load(raw, name))

    async def all(self) -> list[SetRecord]:
        """Return the records of all sets, by name."""
        stored = await self._objects.list(f"{_ROOT}/")
        names = [each.key.split("/")[1] for each in stored if each.key.endswith("/set.json")]
        return [await self.find(name) for name in names]

    async def delete(self, name: str) -> None:
        """Delete a set: its record first, so that nobody finds the rest.

        Raises:
            UnknownArtefact: there is none of that name.
        """
        record = await self.find(name)
        await self._objects.delete(_record_key(name))
        await self._objects.delete_prefix(_prefix(record))

    async def append(self, record: SetRecord, change: Change, *, after: State) -> State:
        """Return the state after a change that was written behind all others.

        Args:
            record: the set.
            change: what to do.
            after: a state that was read.
        """
        state = after
        for _ in range(_MOST_TRIES):
            state = await self.read(record, since=state)
            revision = state.revision + 1
            reviews = _apply(state.reviews, change)
            whole = revision % _WHOLE_EVERY == 0
            entry = {"whole": _plain(reviews.values())} if whole else _plain_change(change)
            if await self._objects.put_new(_key(record, revision), orjson.dumps(entry)):
                if whole:
                    await self._forget_before(record, revision)
                return State(revision, reviews)
        raise Conflict(f"The set {record.name} changes too often just now. Send the change again.")

    async def read(self, record: SetRecord, *, since: State) -> State:
        """Return the newest state of a set, reading only what came after `since`.

        Args:
            record: the set.
            since: a state read earlier, or one of revision 0 without reviews.
        """
        for _ in range(_MOST_TRIES):
            stored = await self._objects.list(_prefix(record))
            numbers = [_number(each.key) for each in stored]
            newest = max(numbers, default=0)
            wholes = [n for n in numbers if n % _WHOLE_EVERY == 0 and n > since.revision]
            first = max(wholes, default=since.revision + 1)
            entries = await self._entries(record, range(first, newest + 1))
            if entries is not None:
                return _replay(since, first, entries)
        raise Conflict(f"The set {record.name} changes too often just now. Ask again.")

    async def _entries(self, record: SetRecord, numbers: range) -> list[dict[str, Any]] | None:
        """Return entries in order; None where one is gone, since a newer whole took its place."""
        entries: list[dict[str, Any]] = []
        for start in range(0, len(numbers), _READS_AT_ONCE):
            part = numbers[start : start + _READS_AT_ONCE]
            found = await asyncio.gather(*(self._objects.get(_key(record, n)) for n in part))
            for raw in found:
                if raw is None:
                    return None
                entries.append(_load(raw, record.name))
        return entries

    async def _forget_before(self, record: SetRecord, revision: int) -> None:
        for each in await self._objects.list(_prefix(record)):
            if _number(each.key) < revision:
                await self._objects.delete(each.key)


def _replay(since: State, first: int, entries: Sequence[Mapping[str, Any]]) -> State:
    reviews = dict(since.reviews)
    for entry in entries:
        if "whole" in entry:
            reviews = {each["id"]: Review(**each) for each in entry["whole"]}
        else:
            put = [Review(**each) for each in entry["put"]]
            reviews = _apply(reviews, Change(put, entry["drop"]))
    revision = first + len(entries) - 1 if entries else since.revision
    return State(revision, reviews)


def _apply(reviews: Mapping[str, Review], change: Change) -> dict[str, Review]:
    gone = set(change.drop)
    kept = {name: review for name, review in reviews.items() if name not in gone}
    return kept | {review.id: review for review in change.put}


def _plain(reviews: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - any iterable of reviews
    return [{"id": each.id, "text": each.text, "rating": each.rating} for each in reviews]


def _plain_change(change: Change) -> dict[str, Any]:
    return {"put": _plain(change.put), "drop": list(change.drop)}


def _record_key(name: str) -> str:
    return f"{_ROOT}/{name}/set.json"


def _prefix(record: SetRecord) -> str:
    return f"{_ROOT}/{record.name}/{record.uid}/"


def _key(record: SetRecord, revision: int) -> str:
    return f"{_prefix(record)}{revision:08d}.json"


def _number(key: str) -> int:
    return int(key.rsplit("/", 1)[1].removesuffix(".json"))


def _load(raw: bytes, name: str) -> dict[str, Any]:
    try:
        loaded: dict[str, Any] = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise ArtefactDamaged(
            f"A stored part of the review set {name!r} cannot be read. Restore it from a backup, "
            "or delete the set."
        ) from error
    return loaded
