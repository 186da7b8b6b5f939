"""Let one room read the texts that another keeps, without the two knowing each other.

A room that keeps texts offers a way to read them when it is opened; a room that needs some asks
here at the time of a request. What is not offered, since its room is not open, is unknown.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from service.errors import UnknownArtefact


@dataclass(frozen=True, slots=True)
class KeptTexts:
    """Hold the texts of one stored collection.

    Attributes:
        texts: by their ids.
        model: encoder that the collection was made with; None where it was made of vectors.
    """

    texts: Mapping[str, str]
    model: str | None


Read = Callable[[str], Awaitable[KeptTexts]]


class TextCollections:
    """Hold the ways to read stored texts, by kind."""

    def __init__(self) -> None:
        self._ways: dict[str, Read] = {}

    def offer(self, kind: str, read: Read) -> None:
        """Let others read a kind of collection.

        Args:
            kind: as `corpus`.
            read: returns the texts of one by its id, or raises `UnknownArtefact`.
        """
        self._ways[kind] = read

    async def read(self, kind: str, name: str) -> KeptTexts:
        """Return the texts of one collection.

        Raises:
            UnknownArtefact: there is none of that id, or the room that keeps them is not open.
        """
        way = self._ways.get(kind)
        if way is None:
            raise UnknownArtefact(f"There is no {kind} {name[:80]!r}: none are kept here.")
        return await way(name)
