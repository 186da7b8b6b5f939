"""List the rooms of the house: a new capability is one import and one item here."""

from __future__ import annotations

from collections.abc import Sequence

from service.capabilities.attention.wiring import capability as attention
from service.capabilities.distribution.wiring import capability as distribution
from service.capabilities.embeddings.wiring import capability as embeddings
from service.capabilities.generation.wiring import capability as generation
from service.capabilities.geodesic.wiring import capability as geodesic
from service.capabilities.inference.wiring import capability as inference
from service.capabilities.summarization.wiring import capability as summarization
from service.capabilities.tokenization.wiring import capability as tokenization
from service.capabilities.whitening.wiring import capability as whitening
from service.web.capability import Capability

CAPABILITIES: tuple[Capability, ...] = (
    embeddings,
    whitening,
    tokenization,
    geodesic,
    summarization,
    distribution,
    inference,
    attention,
    generation,
)


def choose_rooms(names: Sequence[str]) -> tuple[Capability, ...]:
    """Return the rooms of those names, or all of them where none is named.

    Raises:
        ValueError: a name is unknown.
    """
    known = {room.name: room for room in CAPABILITIES}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"SERVICE_ROOMS names {unknown[0]!r}; known are {', '.join(known)}.")
    return tuple(known[name] for name in names) if names else CAPABILITIES
