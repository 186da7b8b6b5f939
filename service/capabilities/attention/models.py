"""Hold what the routes on whole models call."""

from __future__ import annotations

from dataclasses import dataclass

from service.capabilities.attention.comparing import Comparing
from service.capabilities.attention.scoring import Scoring


@dataclass(frozen=True, slots=True)
class ModelPipeline:
    """Hold the parts of the room that run language models."""

    scoring: Scoring
    comparing: Comparing
