"""Figures drawn without a display."""

from __future__ import annotations

from collections.abc import Callable
from xml.etree import ElementTree

import pytest
from matplotlib.figure import Figure

from service.runtime.engine import Engine
from service.web.negotiation import PNG, SVG
from service.web.pictures import picture

pytestmark = pytest.mark.anyio


class Inline:
    """Compute at once, where the engine would lend a thread."""

    async def compute(self, work: Callable[..., bytes], *arguments: object) -> bytes:
        return work(*arguments)


def draw(figure: Figure) -> None:
    axes = figure.subplots()
    axes.plot([0, 1, 2], [0, 1, 4], label="squares")
    axes.set_title("Squares")
    axes.legend()


async def drawn(media_type: str) -> bytes:
    engine: Engine = Inline()  # type: ignore[assignment]
    return bytes((await picture(engine, media_type, draw, width=6, height=3)).body)


@pytest.mark.parametrize("media_type", [PNG, SVG])
async def test_the_same_figure_gives_the_same_bytes(media_type: str) -> None:
    assert await drawn(media_type) == await drawn(media_type)


async def test_a_png_has_the_size_asked_for() -> None:
    content = await drawn(PNG)
    assert content.startswith(b"\x89PNG\r\n")
    width, height = (int.from_bytes(content[at : at + 4], "big") for at in (16, 20))
    assert (width, height) == (6 * 144, 3 * 144)


async def test_an_svg_is_a_drawing_without_a_date() -> None:
    content = await drawn(SVG)
    root = ElementTree.fromstring(content)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert b"<dc:date>" not in content
