"""Hold one version of a corpus, and make the next one from a change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from service.capabilities.geodesic.numerics.meshes import (
    Mesh,
    MeshOptions,
    build_mesh,
    change_mesh,
)
from service.errors import UnknownItem
from service.numerics.dtypes import Ids32, Matrix32, Progress

# Beyond this share of dead rows a change builds everything anew without them.
_MOST_DEAD = 0.25


@dataclass(frozen=True, slots=True)
class Item:
    """Hold what is kept of an item besides its vector.

    Attributes:
        id: the user's own.
        text: None where only a vector was given.
        metadata: whatever the user wants back.
    """

    id: str
    text: str | None
    metadata: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Making:
    """Say how a corpus was made; it never changes.

    Attributes:
        options: how rows are joined.
        model: encoder of its texts, None where it was made of vectors.
        model_sha256: that encoder's digest.
        transform: whitening that vectors go through, `name@number`; None for none.
        created: when, in UTC, as ISO 8601.
    """

    options: MeshOptions
    model: str | None
    model_sha256: str | None
    transform: str | None
    created: str


@dataclass(frozen=True, slots=True)
class Change:
    """Say what makes the next version.

    Attributes:
        removed: ids of items that go.
        items: items that come, in place of those of the same id.
        vectors: (m, d) float32 of the items, from `prepare`.
    """

    removed: Sequence[str]
    items: Sequence[Item]
    vectors: Matrix32


@dataclass(frozen=True, slots=True)
class Description:
    """Say what a version is, without its items.

    Attributes:
        name: its id.
        version: number of its latest log entry.
        making: how it was made.
        items: living ones.
        dimensions: length of a vector.
        edges: of its graph.
        components: pieces of the graph that hang together.
        exact: whether all pairs were compared.
        recall: share of the true neighbours in the lists, on a sample.
    """

    name: str
    version: int
    making: Making
    items: int
    dimensions: int
    edges: int
    components: int
    exact: bool
    recall: float


@dataclass(frozen=True, slots=True)
class Corpus:
    """Hold one version.

    Attributes:
        name: its id.
        version: number of its latest log entry.
        making: how it was made.
        items: by row; None for a dead one.
        rows: row of each id.
        mesh: vectors and graph, by row.
    """

    name: str
    version: int
    making: Making
    items: Sequence[Item | None]
    rows: Mapping[str, int]
    mesh: Mesh

    @property
    def dimensions(self) -> int:
        """Return the length of its vectors."""
        return int(self.mesh.vectors.shape[1])

    def describe(self) -> Description:
        """Return what it is, without its items."""
        return Description(
            name=self.name,
            version=self.version,
            making=self.making,
            items=self.mesh.count,
            dimensions=self.dimensions,
            edges=self.mesh.graph.edges,
            components=self.mesh.components,
            exact=self.mesh.proposals is None,
            recall=self.mesh.recall,
        )

    def row(self, item_id: str) -> int:
        """Return the row of an item.

        Raises:
            UnknownItem: there is none of that id.
        """
        row = self.rows.get(item_id)
        if row is None:
            raise UnknownItem(f"The corpus {self.name!r} has no item {item_id[:80]!r}.")
        return row

    def item(self, row: int) -> Item:
        """Return the item of a living row."""
        item = self.items[row]
        assert item is not None  # a living row has one
        return item


def first_version(
    name: str, version: int, making: Making, change: Change, *, progress: Progress
) -> Corpus:
    """Return the version that a corpus begins with."""
    return Corpus(
        name=name,
        version=version,
        making=making,
        items=tuple(change.items),
        rows={item.id: row for row, item in enumerate(change.items)},
        mesh=build_mesh(change.vectors, making.options, progress=progress),
    )


def next_version(corpus: Corpus, change: Change, *, progress: Progress) -> Corpus:
    """Return the version after a change; the one before stays as it is.

    Raises:
        UnknownItem: an item to remove is not there.
    """
    replaced = [item.id for item in change.items if item.id in corpus.rows]
    gone = np.array([corpus.row(each) for each in (*change.removed, *replaced)], np.int32)
    if corpus.mesh.count - len(gone) < (1 - _MOST_DEAD) * len(corpus.items):
        return _built_anew(corpus, gone, change, progress)
    rows = dict(corpus.rows)
    items = list(corpus.items)
    for row in gone.tolist():
        del rows[corpus.item(row).id]
        items[row] = None
    for row, item in enumerate(change.items, start=len(items)):
        rows[item.id] = row
    return replace(
        corpus,
        version=corpus.version + 1,
        items=(*items, *change.items),
        rows=rows,
        mesh=change_mesh(corpus.mesh, gone, change.vectors, progress=progress),
    )


def _built_anew(corpus: Corpus, gone: Ids32, change: Change, progress: Progress) -> Corpus:
    """Return the next version without dead rows."""
    kept = corpus.mesh.alive.copy()
    kept[gone] = False
    everything = Change(
        removed=(),
        items=(*(corpus.item(row) for row in np.flatnonzero(kept).tolist()), *change.items),
        vectors=np.concatenate([corpus.mesh.vectors[kept], change.vectors]),
    )
    return first_version(
        corpus.name, corpus.version + 1, corpus.making, everything, progress=progress
    )
