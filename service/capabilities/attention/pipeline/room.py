"""Hold what this room's routes call."""

from __future__ import annotations

from dataclasses import dataclass

from service.capabilities.attention.pipeline.layers import LayerPipeline
from service.capabilities.attention.pipeline.models import ModelPipeline
from service.capabilities.attention.pipeline.probing import Probing
from service.capabilities.attention.pipeline.taps import Taps
from service.capabilities.attention.settings import AttentionSettings


@dataclass(frozen=True, slots=True)
class AttentionRoom:
    """Hold the parts of the room, and its limits."""

    layers: LayerPipeline
    probing: Probing
    taps: Taps
    models: ModelPipeline
    settings: AttentionSettings
