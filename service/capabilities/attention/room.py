"""Hold what this room's routes call."""

from __future__ import annotations

from dataclasses import dataclass

from service.capabilities.attention.models import ModelPipeline


@dataclass(frozen=True, slots=True)
class AttentionRoom:
    """Hold the parts of the room."""

    models: ModelPipeline
