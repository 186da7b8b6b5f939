"""Remove what writers left behind that were killed before they were done."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime, timedelta

import structlog

from service.errors import ArtefactDamaged
from service.stores.layout import Shelf, is_claim, parse_blob, parse_record
from service.stores.objects import Objects, Stored
from service.stores.records import unseal

logger = structlog.get_logger(__name__)

# No request takes as long: what is older and not pointed to will never be.
ORPHAN_AGE = timedelta(hours=1)
# How long an idempotency key is remembered, at least.
CLAIM_AGE = timedelta(days=1)


async def sweep(objects: Objects, *, now: datetime) -> int:
    """Remove unfinished files, blobs that nothing points to and old claims; return their number.

    Where a record is damaged, the blobs beside it stay: it may come back from a backup.

    Raises:
        StorageUnavailable: the storage cannot be used.
    """
    await objects.sweep(now - ORPHAN_AGE)
    # Listed once, records and blobs together: a record that comes later has younger blobs, or a
    # claim that is in this list or younger than its blobs.
    stored = await objects.list("")
    forgotten, claimed = await _claims(objects, stored, now - CLAIM_AGE)
    orphans = await _orphans(objects, stored, now - ORPHAN_AGE, claimed)
    for key in (*forgotten, *orphans):
        await objects.delete(key)
    if forgotten or orphans:
        logger.info("storage_swept", claims=len(forgotten), blobs=len(orphans))
    return len(forgotten) + len(orphans)


async def _claims(
    objects: Objects, stored: Iterable[Stored], before: datetime
) -> tuple[list[str], set[str]]:
    """Return the keys of claims older than `before`, and the uids that the others hold."""
    forgotten: list[str] = []
    held: set[str] = set()
    for each in stored:
        if not is_claim(each.key):
            continue
        if each.modified < before:
            forgotten.append(each.key)
        else:
            with suppress(ArtefactDamaged):  # nobody can finish what it claimed
                held |= await _uids(objects, each.key)
    return forgotten, held


async def _orphans(
    objects: Objects, stored: Iterable[Stored], before: datetime, claimed: set[str]
) -> list[str]:
    """Return the keys of blobs older than `before` that no record and no claim points to."""
    blobs: dict[Shelf, list[tuple[str, str]]] = {}
    records: dict[Shelf, list[str]] = {}
    for each in stored:
        if (blob := parse_blob(each.key)) and each.modified < before:
            blobs.setdefault(blob[0], []).append((blob[1], each.key))
        elif record := parse_record(each.key):
            records.setdefault(record[0], []).append(each.key)
    orphans: list[str] = []
    for shelf, found in blobs.items():
        try:
            pointed = await _uids(objects, *records.get(shelf, ()))
        except ArtefactDamaged:
            continue
        orphans += [key for uid, key in found if uid not in pointed | claimed]
    return orphans


async def _uids(objects: Objects, *keys: str) -> set[str]:
    """Return which versions the records or claims at `keys` are about; a tombstone has no blobs."""
    said = [unseal(data, key) for key in keys if (data := await objects.get(key)) is not None]
    return {each["uid"] for each in said if "deleted" not in each}
