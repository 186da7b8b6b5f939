"""A corpus is its log: what was acknowledged is there again, whoever reads and whoever writes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.capabilities.geodesic.numerics.meshes import MeshOptions
from service.capabilities.geodesic.pipeline import shelf as module
from service.capabilities.geodesic.pipeline.corpus import Change, Corpus, Item, Making
from service.capabilities.geodesic.pipeline.entries import Creation, read_entry, write_entry
from service.capabilities.geodesic.pipeline.journal import Journal, State, list_states
from service.capabilities.geodesic.pipeline.shelf import Shelf
from service.errors import ArtefactDamaged, ClientLeft, Conflict, UnknownArtefact, UnknownItem
from service.metrics import Metrics
from service.numerics.distances import Metric, prepare
from service.numerics.dtypes import Matrix32
from service.numerics.graphs import EdgeRule
from service.numerics.neighbours import silent
from service.runtime.engine import Engine
from service.runtime.library import Library
from service.settings import Settings
from service.stores.objects import Objects

pytestmark = pytest.mark.anyio
NO_VECTORS = np.empty((0, 6), np.float32)


def making(*, exact_rows: int = 10_000) -> Making:
    options = MeshOptions(3, Metric.ANGULAR, EdgeRule.UNION, None, exact_rows)
    return Making(options, None, None, None, "2026-01-01T00:00:00+00:00")


def draw(count: int, seed: int = 0) -> Matrix32:
    rows = np.random.default_rng(seed).normal(size=(count, 6)).astype(np.float32)
    return prepare(rows, Metric.ANGULAR)


def adding(*ids: str, seed: int = 0, removed: tuple[str, ...] = ()) -> Change:
    items = [Item(each, f"text of {each}", {"n": [1, None]}) for each in ids]
    return Change(removed, items, draw(len(ids), seed) if ids else NO_VECTORS)


def constant(change: Change) -> Callable[[Corpus], Change]:
    return lambda _: change


def same(one: Corpus, other: Corpus) -> None:
    assert (one.version, one.making) == (other.version, other.making)
    assert list(one.items) == list(other.items)
    assert dict(one.rows) == dict(other.rows)
    assert np.array_equal(one.mesh.vectors, other.mesh.vectors)
    assert np.array_equal(one.mesh.alive, other.mesh.alive)
    assert np.array_equal(one.mesh.neighbours.indices, other.mesh.neighbours.indices)
    assert np.array_equal(one.mesh.graph.lengths, other.mesh.graph.lengths)


Open = Callable[[], Shelf]


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    settings = Settings()
    opened = Engine(settings, Metrics(), Library(settings.models_dir, ()))
    yield opened
    await opened.aclose()


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    return Objects(str(tmp_path / "data"))


@pytest.fixture
def open_shelf(objects: Objects, engine: Engine) -> Open:
    """Return what opens the corpus as one more process would."""
    return lambda: Shelf(Journal(objects, "c"), "c", engine, refresh_seconds=0.0)


async def create(shelf: Shelf, *ids: str, **more: Any) -> Corpus:
    return await shelf.create(making(**more), adding(*ids), request=None, progress=silent)


async def test_another_process_reads_what_one_wrote(open_shelf: Open) -> None:
    one = open_shelf()
    await create(one, *"abcdef")
    await one.change(constant(adding("g", "b", seed=1, removed=("c",))), progress=silent)
    last = await one.change(constant(adding(removed=("a",))), progress=silent)
    assert sorted(last.rows) == list("bdefg")
    same(await open_shelf().current(), last)


async def test_a_process_that_is_behind_catches_up(open_shelf: Open) -> None:
    one, other = open_shelf(), open_shelf()
    first = await create(one, *"abcdef")
    same(await other.current(), first)
    second = await one.change(constant(adding("g", seed=1)), progress=silent)
    same(await other.current(), second)
    third = await other.change(constant(adding("h", seed=2)), progress=silent)
    assert third.version == 3
    same(await one.current(), third)


async def test_two_writers_lose_nothing(open_shelf: Open) -> None:
    shelves = [open_shelf() for _ in range(3)]
    await create(shelves[0], *"abc")
    changes = [
        shelf.change(constant(adding(f"{at}-{n}", seed=n)), progress=silent)
        for at, shelf in enumerate(shelves)
        for n in range(4)
    ]
    made = await asyncio.gather(*changes)
    assert sorted(corpus.version for corpus in made) == list(range(2, 14))
    everything = {*"abc", *(f"{at}-{n}" for at in range(3) for n in range(4))}
    for shelf in (*shelves, open_shelf()):
        assert set((await shelf.current()).rows) == everything


@pytest.mark.parametrize("exact_rows", [10_000, 5])
async def test_a_snapshot_takes_the_place_of_the_log(
    open_shelf: Open, objects: Objects, monkeypatch: pytest.MonkeyPatch, exact_rows: int
) -> None:
    monkeypatch.setattr(module, "_ENTRIES_A_SNAPSHOT", 3)
    one, behind = open_shelf(), open_shelf()
    await create(one, *"abcdefgh", exact_rows=exact_rows)
    await behind.current()
    for n in range(8):
        last = await one.change(constant(adding(str(n), seed=n + 1)), progress=silent)
        while one._snapshot is not None:
            await asyncio.sleep(0.01)
    sizes = [each.bytes for each in await objects.list("corpora/c/log")]
    assert len(sizes) == 9
    assert sizes[:8] == [0] * 8
    folders = {each.key.split("/")[3] for each in await objects.list("corpora/c/snapshots")}
    assert len(folders) == 1
    fresh = await open_shelf().current()
    same(fresh, last)
    same(await behind.current(), last)  # what it would read next is emptied
    assert (fresh.mesh.proposals is None) == (exact_rows > 100)
    again = await open_shelf().change(constant(adding("z", seed=50)), progress=silent)
    assert len(again.rows) == 17


async def test_a_snapshot_without_its_first_part_is_none(
    open_shelf: Open, objects: Objects
) -> None:
    one = open_shelf()
    made = await create(one, *"abc")
    await Journal(objects, "c").write_snapshot(made)
    second = await one.change(constant(adding("d", seed=4)), progress=silent)
    await Journal(objects, "c").write_snapshot(second)
    kept = [each.key for each in await objects.list("corpora/c/snapshots")]
    await objects.put(
        kept[0].replace("000000000002", "000000000009").replace("/0000", "/0001"), b"x"
    )
    same(await open_shelf().current(), second)


async def test_a_snapshot_that_is_overtaken_while_it_is_read(
    open_shelf: Open, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = open_shelf()
    old = await create(one, *"abc")
    for n in range(3):
        last = await one.change(constant(adding(str(n), seed=n + 1)), progress=silent)
    await Journal(objects, "c").write_snapshot(last)
    last = await one.change(constant(adding("z", seed=9)), progress=silent)
    latest, stale = Journal.latest_snapshot, [old]

    async def late(self: Journal) -> Corpus | None:
        return stale.pop() if stale else await latest(self)

    monkeypatch.setattr(Journal, "latest_snapshot", late)
    same(await open_shelf().current(), last)
    assert stale == []


async def test_a_deleted_corpus_is_gone_everywhere(open_shelf: Open, objects: Objects) -> None:
    one, other = open_shelf(), open_shelf()
    before = await create(one, *"abc")
    await other.current()
    await one.remove()
    for shelf in (one, other, open_shelf()):
        with pytest.raises(UnknownArtefact, match="no corpus 'c'"):
            await shelf.current()
        with pytest.raises(UnknownArtefact):
            await shelf.change(constant(adding("x")), progress=silent)
    assert len(before.rows) == 3  # who holds a version goes on with it
    assert sum(each.bytes > 0 for each in await objects.list("corpora/c")) == 1
    again = await create(other, "x")
    assert again.version == 3
    same(await open_shelf().current(), again)
    same(await one.current(), again)


async def test_a_name_is_taken_once(open_shelf: Open) -> None:
    one, other = open_shelf(), open_shelf()
    results = await asyncio.gather(create(one, *"ab"), create(other, *"cd"), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["Conflict", "Corpus"]
    with pytest.raises(Conflict, match="a corpus 'c' already"):
        await create(open_shelf(), "e")


async def test_a_request_that_comes_again_makes_nothing_new(open_shelf: Open) -> None:
    one = open_shelf()
    key = ("key", "digest")
    first = await one.create(making(), adding("a", "b"), request=key, progress=silent)
    again = await open_shelf().create(making(), adding("a", "b"), request=key, progress=silent)
    same(again, first)
    with pytest.raises(Conflict):
        await one.create(making(), adding("a"), request=("key", "other"), progress=silent)


async def test_what_cannot_be_changed_changes_nothing(open_shelf: Open) -> None:
    one = open_shelf()
    first = await create(one, *"abc")
    with pytest.raises(UnknownItem, match="no item 'z'"):
        await one.change(constant(adding("d", removed=("z",))), progress=silent)
    same(await open_shelf().current(), first)


async def test_a_change_that_is_given_up_is_not_there(open_shelf: Open) -> None:
    def leave(stage: str, done: int, total: int) -> None:
        if stage == "neighbours":  # the index has the new row by then
            raise ClientLeft("left")

    one = open_shelf()
    first = await create(one, *"abcdefgh", exact_rows=5)
    with pytest.raises(ClientLeft):
        await one.change(constant(adding("x", seed=1)), progress=leave)
    same(await one.current(), first)
    last = await one.change(constant(adding("y", seed=3)), progress=silent)
    assert last.mesh.proposals is not None
    assert len(last.mesh.proposals) == len(last.items) == 9
    assert last.mesh.proposals.propose(draw(1, seed=3), k=1).tolist() == [[8]]
    same(await open_shelf().current(), last)


async def test_dead_rows_are_built_away(open_shelf: Open) -> None:
    one = open_shelf()
    await create(one, *"abcdefgh")
    less = await one.change(constant(adding(removed=("a", "b"))), progress=silent)
    assert (len(less.items), len(less.rows)) == (8, 6)
    built = await one.change(constant(adding("x", seed=3, removed=("c",))), progress=silent)
    assert (len(built.items), sorted(built.rows)) == (6, list("defghx"))
    same(await open_shelf().current(), built)


async def test_a_damaged_entry_is_named(open_shelf: Open, objects: Objects) -> None:
    await create(open_shelf(), *"abc")
    key = "corpora/c/log/000000000001"
    content = await objects.get(key)
    assert content is not None
    await objects.put(key, content[:-3] + b"xyz")
    with pytest.raises(ArtefactDamaged, match=key):
        await open_shelf().current()
    await objects.put(key, content[:20])
    with pytest.raises(ArtefactDamaged, match=key):
        await open_shelf().current()


async def test_an_entry_comes_back_as_it_was() -> None:
    entry = Creation("u", making(), adding("a", "ü", removed=("x",)), ("k", "d"))
    read = read_entry(write_entry(entry), "somewhere")
    assert isinstance(read, Creation)
    assert (read.uid, read.making, read.request) == (entry.uid, entry.making, entry.request)
    assert list(read.change.items) == list(entry.change.items)
    assert np.array_equal(read.change.vectors, entry.change.vectors)


async def states(objects: Objects) -> list[tuple[str, int, bool]]:
    return [(each.name, each.last, each.described) for each in await list_states(objects)]


async def test_a_list_is_read_from_descriptions_alone(
    open_shelf: Open, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = open_shelf()
    await create(one, *"abcdef")
    last = await one.change(constant(adding("g", seed=1, removed=("c",))), progress=silent)
    assert await states(objects) == [("c", 2, True)]
    read: list[str] = []
    get = objects.get

    async def note(key: str) -> bytes | None:
        read.append(key)
        return await get(key)

    monkeypatch.setattr(type(objects), "get", lambda _, key: note(key))
    said = await open_shelf().describe(State("c", 2, described=True))
    assert said == last.describe()
    assert (said.items, said.version, said.exact, said.recall) == (6, 2, True, 1.0)
    assert read == ["corpora/c/descriptions/000000000002"]


async def test_one_description_is_kept_and_an_ended_corpus_has_none(
    open_shelf: Open, objects: Objects
) -> None:
    shelf = open_shelf()
    await create(shelf, *"abc")
    for n in range(3):
        await shelf.change(constant(adding(str(n), seed=n)), progress=silent)
    kept = [each.key for each in await objects.list("corpora/c/descriptions")]
    assert kept == ["corpora/c/descriptions/000000000004"]
    await shelf.remove()
    assert await states(objects) == [("c", 5, True)]
    assert await open_shelf().describe(State("c", 5, described=True)) is None


@pytest.mark.parametrize("loss", ["missing", "damaged"])
async def test_a_corpus_without_a_description_is_opened(
    open_shelf: Open, objects: Objects, loss: str
) -> None:
    made = await create(open_shelf(), *"abcd")
    key = "corpora/c/descriptions/000000000001"
    if loss == "missing":
        await objects.delete(key)
    else:
        await objects.put(key, b"something else")
    [state] = await list_states(objects)
    assert state.described == (loss == "damaged")
    assert await open_shelf().describe(state) == made.describe()
    # a list may be older than what is read for it
    assert await open_shelf().describe(State("c", 7, described=True)) == made.describe()
    assert (
        await Shelf(
            Journal(objects, "nobody"), "nobody", open_shelf()._engine, refresh_seconds=0.0
        ).describe(State("nobody", 1, described=False))
        is None
    )
