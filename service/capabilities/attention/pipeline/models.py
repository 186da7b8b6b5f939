"""Hold what the routes on whole models call."""

from __future__ import annotations

from dataclasses import dataclass

from service.capabilities.attention.pipeline.comparing import Comparing
from service.capabilities.attention.pipeline.scoring import Scoring


@dataclass(frozen=True, slots=True)
class ModelPipeline:
    """Hold the parts of the room that run language models."""

    scoring: Scoring
    comparing: Comparing
