"""Hold what this room's routes call."""

from __future__ import annotations

from dataclasses import dataclass

from service.capabilities.geodesic.pipeline.corpora import Corpora
from service.capabilities.geodesic.pipeline.layouts import Layouts
from service.capabilities.geodesic.pipeline.pairwise import Pairwise
from service.capabilities.geodesic.settings import GeodesicSettings


@dataclass(frozen=True, slots=True)
class GeodesicPipeline:
    """Hold the parts of the room, and its limits."""

    pairwise: Pairwise
    corpora: Corpora
    layouts: Layouts
    settings: GeodesicSettings
