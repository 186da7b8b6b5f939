"""Cluster and map a corpus."""

from __future__ import annotations

import numpy as np

from service.capabilities.geodesic.numerics.layouts import (
    Layout,
    density_clusters,
    geodesic_matrix,
    merged_clusters,
    plane_map,
)
from service.capabilities.geodesic.pipeline.corpora import Corpora
from service.capabilities.geodesic.pipeline.corpus import Corpus
from service.capabilities.geodesic.settings import GeodesicSettings
from service.errors import TooManyItems
from service.numerics.dtypes import Ids32, Progress
from service.runtime.engine import Engine


class Layouts:
    """Read clusters and maps off corpora.

    Args:
        corpora: where they are found.
        engine: compute threads.
        settings: limits.
    """

    def __init__(self, corpora: Corpora, engine: Engine, settings: GeodesicSettings) -> None:
        self._corpora = corpora
        self._engine = engine
        self._settings = settings

    async def clusters(
        self,
        name: str,
        *,
        method: str,
        min_cluster_size: int,
        clusters: int,
        progress: Progress,
    ) -> tuple[Corpus, Ids32, Ids32]:
        """Return a corpus, its living rows, and the label of each; -1 for noise.

        Raises:
            TooManyItems: all pairs of so many items are not measured.
        """
        corpus = await self._corpora.find(name)
        most = self._settings.max_cluster_items
        if corpus.mesh.count > most:
            raise TooManyItems(
                f"The corpus {name!r} has {corpus.mesh.count} items, and clusters are computed for "
                f"up to {most}. Make a corpus of a sample of it."
            )

        def work() -> Ids32:
            lengths = geodesic_matrix(corpus.mesh.graph, corpus.mesh.alive, progress=progress)
            if method == "hdbscan":
                return density_clusters(lengths, min_cluster_size=min_cluster_size)
            return merged_clusters(lengths, clusters=clusters)

        labels = await self._engine.compute(work)
        return corpus, _rows(corpus), labels

    async def map(self, name: str, *, progress: Progress) -> tuple[Corpus, Ids32, Layout]:
        """Return a corpus, its living rows, and where each stands.

        Raises:
            TooManyItems: an answer would name too many items.
        """
        corpus = await self._corpora.find(name)
        most = self._settings.max_map_items
        if corpus.mesh.count > most:
            raise TooManyItems(
                f"The corpus {name!r} has {corpus.mesh.count} items, and maps are drawn of up to "
                f"{most}. Make a corpus of a sample of it."
            )

        def work() -> Layout:
            return plane_map(corpus.mesh.graph, corpus.mesh.alive, progress=progress)

        return corpus, _rows(corpus), await self._engine.compute(work)


def _rows(corpus: Corpus) -> Ids32:
    return np.flatnonzero(corpus.mesh.alive).astype(np.int32)
