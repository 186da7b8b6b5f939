"""Draw the spectrum of a transform, and how often vectors are neighbours."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from service.capabilities.whitening.geometry import Geometry
from service.embedding.transform import Transform

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BINS = 40


def spectrum_picture(transform: Transform) -> Callable[[Figure], None]:
    """Return what draws the variance on each axis, before and after the transform.

    Both are shares of their largest: λ/λ₁ over all axes, and λ^(1−γ) over those that are kept.
    """
    recipe = transform.recipe
    before = np.array(transform.eigenvalues) / transform.eigenvalues[0]
    after = before[: recipe.dimensions] ** (1 - recipe.gamma)

    def draw(figure: Figure) -> None:
        plot = figure.subplots()
        plot.semilogy(np.arange(1, len(before) + 1), before, label="before")
        plot.semilogy(np.arange(1, len(after) + 1), after, label="after")
        plot.axvline(recipe.dimensions, color="0.6", linewidth=1, linestyle=":")
        plot.set_xlabel("axis")
        plot.set_ylabel("variance, share of the largest")
        plot.set_title(
            f"{transform.id}: β = {recipe.beta:g}, γ = {recipe.gamma:g}, "
            f"{recipe.dimensions} of {transform.width} axes"
        )
        plot.legend(frameon=False)

    return draw


def occurrences_picture(geometry: Geometry) -> Callable[[Figure], None]:
    """Return what draws how many vectors are in how many lists of neighbours, by reduction."""
    k = geometry.k
    most = max(int(each.counts.max()) for each in geometry.occurrences.values())
    edges = np.unique(np.round(np.linspace(0, most + 1, min(most + 1, _BINS) + 1))) - 0.5

    def draw(figure: Figure) -> None:
        plot = figure.subplots()
        for name, found in geometry.occurrences.items():
            heights, _ = np.histogram(found.counts, bins=edges)
            skewness = f"{name.replace('_', ' ')}, skewness {found.hubness.skewness:.2f}"
            plot.stairs(heights, edges, label=skewness)
        plot.axvline(k, color="0.6", linewidth=1, linestyle=":")
        plot.set_yscale("symlog", linthresh=1)
        plot.set_xlabel(f"lists of {k} nearest that hold a vector")
        plot.set_ylabel("vectors")
        plot.set_title(f"Occurrences of {geometry.drawn} vectors; the dotted line is fair")
        plot.legend(frameon=False)

    return draw
