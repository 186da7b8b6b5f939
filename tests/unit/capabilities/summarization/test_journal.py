"""Stored sets: what was done to them, in order, whoever did it."""

from __future__ import annotations

import asyncio

import pytest

from service.capabilities.summarization import journal as module
from service.capabilities.summarization.corpus import Review
from service.capabilities.summarization.journal import Change, Journal, SetRecord, State
from service.errors import ArtefactDamaged, Conflict, UnknownArtefact
from service.stores.claims import Idempotency
from service.stores.objects import Objects

pytestmark = pytest.mark.anyio
NOTHING = State(0, {})


async def make(journal: Journal, name: str = "hotel", key: str | None = None) -> SetRecord:
    idempotency = None if key is None else Idempotency(key, "digest")
    return await journal.create(name, model="m", language=None, k=5, idempotency=idempotency)


def reviews(*texts: str) -> list[Review]:
    return [Review(text, f"id of {text}") for text in texts]


async def test_changes_add_replace_and_remove() -> None:
    journal = Journal(Objects("memory://"))
    record = await make(journal)
    state = await journal.append(record, Change(reviews("a", "b")), after=NOTHING)
    state = await journal.append(record, Change([Review("B", "id of b", 4.5)]), after=state)
    state = await journal.append(record, Change(drop=["id of a"]), after=state)
    fresh = await Journal(journal._objects).read(record, since=NOTHING)
    assert fresh == state
    assert fresh.revision == 3
    assert fresh.reviews["id of b"].rating == 4.5
    assert list(fresh.reviews) == ["id of b"]


async def test_writers_at_one_time_line_up() -> None:
    objects = Objects("memory://")
    record = await make(Journal(objects))
    await asyncio.gather(
        *(
            Journal(objects).append(record, Change(reviews(str(number))), after=NOTHING)
            for number in range(12)
        )
    )
    state = await Journal(objects).read(record, since=NOTHING)
    assert state.revision == 12
    assert len(state.reviews) == 12


async def test_a_whole_state_takes_the_place_of_older_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_WHOLE_EVERY", 4)
    objects = Objects("memory://")
    journal = Journal(objects)
    record = await make(journal)
    early = state = NOTHING
    for number in range(10):
        state = await journal.append(record, Change(reviews(str(number))), after=state)
        early = state if number == 1 else early
    kept = [each.key for each in await objects.list("opinion-sets/") if "set.json" not in each.key]
    assert [int(key[-13:-5]) for key in kept] == [8, 9, 10]
    for since in (NOTHING, early):
        found = await journal.read(record, since=since)
        assert found.revision == 10
        assert set(found.reviews) == set(state.reviews)


async def test_a_name_is_taken_once_and_a_repeated_request_finds_its_own() -> None:
    journal = Journal(Objects("memory://"))
    first = await make(journal, key="x")
    assert await make(journal, key="x") == first
    with pytest.raises(Conflict, match="a set 'hotel' already"):
        await make(journal, key="y")
    with pytest.raises(Conflict):
        await make(journal)


async def test_a_set_made_again_knows_nothing_of_the_old_one() -> None:
    journal = Journal(Objects("memory://"))
    old = await make(journal)
    await journal.append(old, Change(reviews("a")), after=NOTHING)
    await journal.delete("hotel")
    with pytest.raises(UnknownArtefact):
        await journal.find("hotel")
    new = await make(journal)
    await journal.append(old, Change(reviews("late")), after=NOTHING)
    assert await journal.read(new, since=NOTHING) == NOTHING
    assert [record.name for record in await journal.all()] == ["hotel"]


async def test_a_damaged_part_is_said_to_be_damaged() -> None:
    objects = Objects("memory://")
    record = await make(Journal(objects))
    await objects.put(f"opinion-sets/hotel/{record.uid}/00000001.json", b"{")
    with pytest.raises(ArtefactDamaged, match="hotel"):
        await Journal(objects).read(record, since=NOTHING)
