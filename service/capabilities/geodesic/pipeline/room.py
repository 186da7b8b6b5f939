"""Hold what this room's routes call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from service.capabilities.geodesic.pipeline.answers import Hit
from service.capabilities.geodesic.pipeline.corpora import Corpora
from service.capabilities.geodesic.pipeline.corpus import Corpus
from service.capabilities.geodesic.pipeline.layouts import Layouts
from service.capabilities.geodesic.pipeline.pairwise import Pairwise
from service.capabilities.geodesic.settings import GeodesicSettings
from service.embedding.calibrations import Calibrations, ScoreOrigin, require_same_scores
from service.numerics.distances import Metric
from service.numerics.dtypes import Vector64


@dataclass(frozen=True, slots=True)
class Calibrated:
    """Hold the percentiles of hits, 0 to 100, and the id of the calibration that was used."""

    calibration: str
    percentiles: Vector64


@dataclass(frozen=True, slots=True)
class GeodesicPipeline:
    """Hold the parts of the room, and its limits."""

    pairwise: Pairwise
    corpora: Corpora
    layouts: Layouts
    settings: GeodesicSettings
    calibrations: Calibrations

    async def percentiles(
        self, corpus: Corpus, hits: Sequence[Hit], calibration_id: str | None
    ) -> Calibrated | None:
        """Return in which percentile of a calibration the hits' likeness lies; None for none.

        The likeness of an angle is its cosine, which is what calibrations are of; a straight line's
        is its length, for calibrations of numbers.

        Raises:
            UnknownArtefact: no such calibration.
            ArtefactMismatch: it is of scores of another encoder, transform or metric.
        """
        if calibration_id is None:
            return None
        angular = corpus.making.options.metric is Metric.ANGULAR
        found = await self.calibrations.find(calibration_id)
        origin = ScoreOrigin(
            model_sha256=corpus.making.model_sha256,
            pooling=None,
            transform=corpus.making.transform,
            metric="cosine" if angular else "euclidean",
        )
        require_same_scores(found, origin)
        direct = np.array([hit.direct for hit in hits], dtype=np.float64)
        scores = np.cos(direct) if angular else direct
        return Calibrated(found.id, await self.calibrations.percentiles(found, scores))
