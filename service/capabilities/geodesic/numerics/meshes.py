"""Keep the neighbour graph of a corpus: one value a version, and a change makes the next.

Up to `exact_rows` rows, lists are exact. Beyond, an index proposes and the accurate distance
chooses; how many of the true neighbours it finds is measured on a sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeGuard

import numpy as np

from service.capabilities.geodesic.numerics.proposals import Proposals
from service.capabilities.geodesic.numerics.updates import (
    enter_all_lists,
    enter_lists,
    lists_naming,
)
from service.numerics.distances import Metric
from service.numerics.dtypes import Bools, Ids32, Matrix32, Progress
from service.numerics.graphs import EdgeRule, Graph, components, neighbour_graph
from service.numerics.neighbours import (
    Neighbours,
    choose_nearest,
    nearest_neighbours,
    nearest_rows,
    silent,
)
from service.numerics.shortlists import Hubness, choose_neighbours, shortlist_size

_SPARE = 5  # proposals beyond k: the row itself, and what stands in the wrong order
_HOSTS = 3  # lists that a new row may enter, as a multiple of k
_SAMPLE = 200
_GROWTH = 1.25


@dataclass(frozen=True, slots=True)
class MeshOptions:
    """Hold how rows are joined.

    Attributes:
        k: neighbours of a row.
        metric: angle or straight line.
        rule: whether one end or both must name the other.
        max_edge: longest edge, in the unit of the metric; None allows all.
        exact_rows: up to so many rows all pairs are compared.
        threads: threads of the index beyond that.
        hubness: what is done about rows that are near to everybody.
    """

    k: int
    metric: Metric
    rule: EdgeRule
    max_edge: float | None
    exact_rows: int
    threads: int = 1
    hubness: Hubness = Hubness.NONE

    @property
    def listed(self) -> int:
        """Return how many of the nearest each row lists; its neighbours are chosen from them."""
        return shortlist_size(self.k, self.hubness)


@dataclass(frozen=True, slots=True)
class Mesh:
    """Hold one version of a corpus's graph. Rows never move: a removed one is only dead.

    Attributes:
        options: how rows are joined.
        vectors: (n, d) float32 from `prepare`; versions share one memory.
        alive: (n,) bool.
        neighbours: (n, listed) lists of the nearest; -1 at an infinite distance where there are
            fewer, or none.
        graph: of n rows.
        components: pieces that hang together, dead rows not counted.
        proposals: index of more rows than are compared; None up to there.
        recall: share of the true neighbours in the lists, on a sample; 1 where they are exact.
    """

    options: MeshOptions
    vectors: Matrix32
    alive: Bools
    neighbours: Neighbours
    graph: Graph
    components: int
    proposals: Proposals | None
    recall: float

    @property
    def count(self) -> int:
        """Return the number of living rows."""
        return int(self.alive.sum())


def build_mesh(vectors: Matrix32, options: MeshOptions, *, progress: Progress = silent) -> Mesh:
    """Return the graph of some rows.

    Args:
        vectors: (n, d) float32 from `prepare`.
        options: how rows are joined.
        progress: told the stages `index`, `neighbours`, `graph`.
    """
    count = len(vectors)
    alive = np.ones(count, np.bool_)
    proposals = None
    if count > options.exact_rows:
        proposals = Proposals.empty(vectors.shape[1], threads=options.threads)
        proposals.add(vectors, progress=progress)
        rows = np.arange(count, dtype=np.int32)
        lists = _proposed(
            proposals,
            vectors=vectors,
            rows=rows,
            alive=alive,
            options=options,
            progress=progress,
        )
    else:
        found = nearest_neighbours(
            vectors, k=options.listed, metric=options.metric, progress=progress
        )
        lists = _widened(found, options.listed)
    return assemble(vectors, alive, lists, options, proposals=proposals, progress=progress)


def assemble(
    vectors: Matrix32,
    alive: Bools,
    lists: Neighbours,
    options: MeshOptions,
    *,
    proposals: Proposals | None,
    recall: float | None = None,
    progress: Progress = silent,
) -> Mesh:
    """Return the mesh of finished lists; what follows from them is computed."""
    progress("graph", 0, 1)
    chosen = choose_neighbours(lists, k=options.k, metric=options.metric, hubness=options.hubness)
    graph = neighbour_graph(chosen, rule=options.rule, max_edge=options.max_edge)
    pieces = components(graph)[0] - int((~alive).sum())
    if recall is None:
        recall = 1.0 if proposals is None else _measured(vectors, alive, lists, options)
    progress("graph", 1, 1)
    return Mesh(options, vectors, alive, lists, graph, pieces, proposals, recall)


def change_mesh(
    mesh: Mesh, removed: Ids32, added: Matrix32, *, progress: Progress = silent
) -> Mesh:
    """Return the next version: some rows dead, some added behind the others.

    Args:
        mesh: the latest version; only that one can be changed.
        removed: rows that die.
        added: (m, d) float32 from `prepare`.
        progress: told the stages `index`, `neighbours`, `update`, `graph`.
    """
    options, before = mesh.options, len(mesh.vectors)
    vectors = append_rows(mesh.vectors, added)
    alive = np.ones(len(vectors), np.bool_)
    alive[:before] = mesh.alive
    alive[removed] = False
    proposals = _grown(mesh, vectors, int(alive.sum()), progress)
    lists = _lengthened(mesh.neighbours, len(added))
    stale = lists_naming(lists.indices, ~alive) & alive
    stale[before:] = True
    lists.indices[removed], lists.distances[removed] = -1, np.inf
    rows = np.flatnonzero(stale).astype(np.int32)
    found = _lists_of(
        proposals, vectors=vectors, rows=rows, alive=alive, options=options, progress=progress
    )
    lists.indices[rows], lists.distances[rows] = found.indices, found.distances
    new, others = np.arange(before, len(vectors), dtype=np.int32), alive & ~stale
    if proposals is None:
        enter_all_lists(
            vectors, new, open_=others, metric=options.metric, neighbours=lists, progress=progress
        )
    else:
        hosts = proposals.propose(added, k=_HOSTS * options.listed, progress=progress)
        enter_lists(vectors, new, hosts, open_=others, metric=options.metric, neighbours=lists)
    recall = mesh.recall if proposals is not None and mesh.proposals is not None else None
    return assemble(
        vectors, alive, lists, options, proposals=proposals, recall=recall, progress=progress
    )


def nearest_in(mesh: Mesh, query: Matrix32) -> tuple[Ids32, Matrix32]:
    """Return the living rows that a query attaches to, nearest first, and its distances to them.

    Args:
        mesh: any version.
        query: (1, d) float32 from `prepare`.

    Raises:
        DimensionMismatch: the query has another number of dimensions.
    """
    nobody = np.full(1, -1, np.int32)
    found = _lists_of(
        mesh.proposals,
        vectors=mesh.vectors,
        rows=nobody,
        alive=mesh.alive,
        options=mesh.options,
        progress=silent,
        queries=query,
    )
    longest = np.inf if mesh.options.max_edge is None else mesh.options.max_edge
    rows, lengths = found.indices[0, : mesh.options.k], found.distances[0, : mesh.options.k]
    kept = (rows >= 0) & (lengths <= longest)
    return rows[kept], lengths[kept]


def append_rows(vectors: Matrix32, added: Matrix32) -> Matrix32:
    """Return both, in the memory of the first where there is room behind it.

    Only the latest version may be appended to: what lies behind an older one is another's.
    """
    count, size = len(vectors), vectors.shape[1]
    whole = count + len(added)
    memory = vectors.base
    if not _is_room(memory, vectors) or len(memory) < whole:
        memory = np.empty((int(whole * _GROWTH) + 1, size), np.float32)
        memory[:count] = vectors
    memory[count:whole] = added
    return memory[:whole]


def _is_room(memory: object, vectors: Matrix32) -> TypeGuard[Matrix32]:
    """Return whether some memory is rows that begin with the vectors: made by `append_rows`."""
    return (
        isinstance(memory, np.ndarray)
        and memory.shape[1:] == vectors.shape[1:]
        and memory.dtype == vectors.dtype
        and memory.ctypes.data == vectors.ctypes.data
    )


def _lists_of(
    proposals: Proposals | None,
    *,
    vectors: Matrix32,
    rows: Ids32,
    alive: Bools,
    options: MeshOptions,
    progress: Progress,
    queries: Matrix32 | None = None,
) -> Neighbours:
    """Return the lists of some rows, or of queries that are no rows."""
    if proposals is not None:
        return _proposed(
            proposals,
            vectors=vectors,
            rows=rows,
            alive=alive,
            options=options,
            progress=progress,
            queries=queries,
        )
    found = nearest_rows(
        vectors[rows] if queries is None else queries,
        vectors,
        k=options.listed,
        metric=options.metric,
        own=rows,
        alive=alive,
        progress=progress,
    )
    return _widened(found, options.listed)


def _proposed(
    proposals: Proposals,
    *,
    vectors: Matrix32,
    rows: Ids32,
    alive: Bools,
    options: MeshOptions,
    progress: Progress,
    queries: Matrix32 | None = None,
) -> Neighbours:
    """Return lists chosen from proposals; where too few of those live, all rows are compared."""
    sought = vectors[rows] if queries is None else queries
    crowd = (options.listed + _SPARE) * (1 if alive.all() else 2)
    candidates = proposals.propose(sought, k=crowd, progress=progress)
    candidates[candidates >= len(vectors)] = -1  # of a later version
    candidates[~alive[candidates]] = -1
    found = choose_nearest(
        sought, vectors, candidates, k=options.listed, metric=options.metric, own=rows
    )
    short = np.flatnonzero(found.indices[:, -1] < 0)
    if len(short) and int(alive.sum()) > options.listed:
        exact = nearest_rows(
            sought[short], vectors, k=options.listed, metric=options.metric, own=rows[short],
            alive=alive, progress=progress,
        )  # fmt: skip
        found.indices[short], found.distances[short] = exact.indices, exact.distances
    return found


def _grown(mesh: Mesh, vectors: Matrix32, living: int, progress: Progress) -> Proposals | None:
    """Return the index with the new rows in it, a first one where they have become too many."""
    proposals = mesh.proposals
    if proposals is None and living <= mesh.options.exact_rows:
        return None
    if proposals is None:
        proposals = Proposals.empty(vectors.shape[1], threads=mesh.options.threads)
    # What a writer added for a change that was lost to another one lies behind, and is overtaken.
    proposals.add(vectors[len(proposals) :], progress=progress)
    return proposals


def _measured(vectors: Matrix32, alive: Bools, lists: Neighbours, options: MeshOptions) -> float:
    """Return the share of true neighbours in the lists of rows taken evenly."""
    living = np.flatnonzero(alive).astype(np.int32)
    rows = living[:: max(1, len(living) // _SAMPLE)][:_SAMPLE]
    exact = nearest_rows(
        vectors[rows], vectors, k=options.listed, metric=options.metric, own=rows, alive=alive
    )
    # By distance: where rows tie, another one is as good.
    reach = exact.distances.max(axis=1, initial=0, where=exact.indices >= 0)
    hits = (lists.distances[rows] <= reach[:, np.newaxis]).sum()
    return float(hits / max(1, int((exact.indices >= 0).sum())))


def _widened(found: Neighbours, k: int) -> Neighbours:
    """Return lists of k places, the free ones -1 at an infinite distance."""
    count, have = found.indices.shape
    indices = np.full((count, k), -1, np.int32)
    distances = np.full((count, k), np.inf, np.float32)
    indices[:, :have], distances[:, :have] = found.indices, found.distances
    return Neighbours(indices, distances)


def _lengthened(lists: Neighbours, further: int) -> Neighbours:
    """Return a copy of the lists with empty ones behind."""
    k = lists.indices.shape[1]
    return Neighbours(
        np.concatenate([lists.indices, np.full((further, k), -1, np.int32)]),
        np.concatenate([lists.distances, np.full((further, k), np.inf, np.float32)]),
    )
