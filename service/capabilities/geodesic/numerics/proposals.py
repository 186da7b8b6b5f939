"""Propose near rows among very many, without comparing all.

The proposals come from a navigable small-world graph of faiss; whoever asks measures them
accurately and keeps the nearest.

Source: Malkov and Yashunin 2018, "Efficient and robust approximate nearest neighbor search using
hierarchical navigable small world graphs".
"""

from __future__ import annotations

from threading import Lock

import faiss
import numpy as np

from service.numerics.dtypes import Bytes8, Ids32, Matrix32, Progress
from service.numerics.neighbours import silent

# Links of a row, and the rows looked at while adding and while searching.
_LINKS = 12
_BUILD_BREADTH = 48
_SEARCH_BREADTH = 32
# Rows added or searched under one hold of the lock: a tenth of a second.
_ROWS_A_HOLD = 512


class Proposals:
    """Hold an index that only grows; versions of a corpus share it.

    Rows that a version lacks, or has no more, are proposed too; the version passes over them.

    Args:
        index: of faiss.
        threads: threads of one call. With more than one the index, and so what it proposes, differs
            from build to build.
    """

    __slots__ = ("_index", "_lock", "_threads")

    def __init__(self, index: faiss.Index, *, threads: int) -> None:
        self._index = index
        self._threads = threads
        self._lock = Lock()  # faiss reads while others read, and not while rows are added

    @classmethod
    def empty(cls, dimensions: int, *, threads: int) -> Proposals:
        """Return an index without rows; straight lines order unit vectors as angles do."""
        index = faiss.IndexHNSWFlat(dimensions, _LINKS, faiss.METRIC_L2)
        index.hnsw.efConstruction = _BUILD_BREADTH
        return cls(index, threads=threads)

    @classmethod
    def read(cls, content: Bytes8, *, threads: int) -> Proposals:
        """Return the index that `write` wrote."""
        return cls(faiss.deserialize_index(content), threads=threads)

    def write(self) -> Bytes8:
        """Return the index as bytes."""
        with self._lock:
            content: Bytes8 = faiss.serialize_index(self._index)
        return content

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def add(self, vectors: Matrix32, *, progress: Progress = silent) -> None:
        """Add rows behind those that are there."""
        step = _ROWS_A_HOLD * self._threads
        for first in range(0, len(vectors), step):
            progress("index", first, len(vectors))
            with self._lock:
                faiss.omp_set_num_threads(self._threads)
                self._index.add(vectors[first : first + step])

    def propose(self, queries: Matrix32, *, k: int, progress: Progress = silent) -> Ids32:
        """Return (m, k) int32 rows near each query, -1 where fewer were found."""
        breadth = faiss.SearchParametersHNSW(  # type: ignore[attr-defined]  # its stubs lack it
            efSearch=max(_SEARCH_BREADTH, k + k // 2)
        )
        rows = np.full((len(queries), k), -1, np.int32)
        step = _ROWS_A_HOLD * self._threads
        for first in range(0, len(queries), step):
            progress("neighbours", first, len(queries))
            part = queries[first : first + step]
            with self._lock:
                faiss.omp_set_num_threads(self._threads)
                _, found = self._index.search(part, k, params=breadth)
            rows[first : first + step] = found
        return rows
