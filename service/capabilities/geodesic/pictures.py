"""Draw the map of a corpus."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from service.numerics.dtypes import Matrix32

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_NAMES = 40
_NAME_LENGTH = 28


def draw_map(name: str, places: Matrix32, names: Sequence[str]) -> Callable[[Figure], None]:
    """Return what draws a map; items have names beside them where there are few.

    Args:
        name: of the corpus.
        places: (n, 2) float32, NaN for items that are not on the map.
        names: (n) of the items.
    """

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        shown = np.isfinite(places[:, 0])
        axes.scatter(places[shown, 0], places[shown, 1], s=14 if len(names) < 1000 else 3, lw=0)  # noqa: PLR2004 - a matter of taste
        if len(names) <= _MOST_NAMES:
            for at in np.flatnonzero(shown).tolist():
                label = names[at].replace("$", r"\$")[:_NAME_LENGTH]
                axes.annotate(label, places[at], fontsize=7, alpha=0.8)
        axes.set_aspect("equal", adjustable="datalim")
        axes.set_title(f"{name}: {int(shown.sum())} of {len(names)} items, by geodesic distance")

    return draw
