"""Draw figures without a display and send them as PNG or SVG."""

from __future__ import annotations

import io
from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING, Any

from fastapi import Response

from service.runtime.engine import Engine
from service.web.negotiation import PNG, SVG

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURES = (PNG, SVG)
_drawing = Lock()
_FORMATS = {PNG: "png", SVG: "svg"}
_DOTS_PER_INCH = 144
_STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    # The same figure gives the same bytes: no clock, no random ids.
    "svg.hashsalt": "isotrope",
}


async def picture(
    engine: Engine,
    media_type: str,
    draw: Callable[[Figure], None],
    *,
    width: float = 8.0,
    height: float = 4.5,
) -> Response:
    """Return a drawn figure.

    Args:
        engine: lends a compute thread.
        media_type: `image/png` or `image/svg+xml`.
        draw: fills the figure through matplotlib's object interface; pyplot would keep every figure
            alive and is not safe in threads.
        width: inches.
        height: inches.
    """
    content = await engine.compute(_render, media_type, draw, width, height)
    return Response(content, media_type=media_type)


def _render(media_type: str, draw: Callable[[Figure], None], width: float, height: float) -> bytes:
    from matplotlib import rc_context  # a third of a second, paid by the first picture
    from matplotlib.figure import Figure as NewFigure

    # matplotlib's settings are the process's, so one figure is drawn at a time
    with _drawing, rc_context(_STYLE):
        figure = NewFigure(figsize=(width, height), dpi=_DOTS_PER_INCH, layout="constrained")
        draw(figure)
        buffer = io.BytesIO()
        metadata = {"Date": None} if media_type == SVG else {"Software": None}
        figure.savefig(buffer, format=_FORMATS[media_type], metadata=metadata)
    return buffer.getvalue()
