"""Draw a density over the histogram of its samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from service.capabilities.distribution.analysis import Reading, curve
from service.numerics.density import Density
from service.numerics.dtypes import Vector64

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_BINS = 80


def density_picture(
    samples: Vector64, density: Density, reading: Reading, shares: Vector64
) -> Callable[[Figure], None]:
    """Return what draws histogram, density and quantiles."""
    points, heights = curve(density)
    inside = samples[(samples >= points[0]) & (samples <= points[-1])]
    bins = int(np.clip(np.sqrt(len(samples)), 5, _MOST_BINS))

    def draw(figure: Figure) -> None:
        plot = figure.subplots()
        share = len(inside) / len(samples)
        counts, edges = np.histogram(inside, bins=bins, range=(points[0], points[-1]), density=True)
        plot.stairs(counts * share, edges, fill=True, alpha=0.3, label=f"{len(samples)} samples")
        plot.plot(points, heights, label=f"density, order {density.order}")
        for number, place in enumerate(reading.quantiles):
            plot.axvline(place, color="0.6", linewidth=0.8, linestyle=":")
            plot.annotate(
                f"{100 * shares[number]:g} %",
                (place, 1.0),
                xycoords=("data", "axes fraction"),
                rotation=90,
                va="top",
                ha="right",
                fontsize=7,
                color="0.4",
            )
        plot.set_xlim(points[0], points[-1])
        plot.set_ylim(0, 1.15 * max(heights.max(), counts.max() * share))  # room for the labels
        plot.set_ylabel("probability per unit")
        plot.legend(frameon=False)

    return draw
