"""Texts that one room keeps and another reads."""

from __future__ import annotations

import pytest

from service.embedding.collections import KeptTexts, TextCollections
from service.errors import UnknownArtefact

pytestmark = pytest.mark.anyio


async def test_what_is_offered_can_be_read() -> None:
    async def read(name: str) -> KeptTexts:
        return KeptTexts({"a": name}, "model")

    collections = TextCollections()
    collections.offer("corpus", read)
    assert await collections.read("corpus", "x") == KeptTexts({"a": "x"}, "model")


async def test_what_no_open_room_keeps_is_unknown() -> None:
    with pytest.raises(UnknownArtefact, match="no corpus 'x'"):
        await TextCollections().read("corpus", "x")
