"""Draw attention maps, entropies and cache sizes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from service.capabilities.attention.pipeline.variants import CacheCount
from service.numerics.dtypes import Matrix32, Vector64

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_MAPS = 12
_COLUMNS = 4
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_STEP = 1024.0


def layer_picture(
    weights: Matrix32, entropy: Vector64, title: str
) -> tuple[Callable[[Figure], None], float]:
    """Return what draws the map of each head, twelve at most, and the entropy of all; its height.

    Args:
        weights: (heads, n, n).
        entropy: (heads, n) nats.
        title: of the figure.
    """
    shown = min(len(weights), _MOST_MAPS)
    columns = min(shown, _COLUMNS)
    rows = math.ceil(shown / columns)

    def draw(figure: Figure) -> None:
        figure.suptitle(title)
        grid = figure.add_gridspec(rows + 1, columns)
        for head in range(shown):
            axes = figure.add_subplot(grid[head // columns, head % columns])
            # roots: most weights are near 0, and would all be one colour
            axes.imshow(np.sqrt(weights[head]), aspect="auto", cmap="viridis", vmin=0)
            axes.grid(visible=False)
            axes.set_title(f"head {head}", fontsize=8)
            axes.tick_params(labelsize=6)
        axes = figure.add_subplot(grid[rows, :])
        axes.bar(np.arange(len(entropy)), entropy.mean(axis=-1))
        axes.set_xlabel("head")
        axes.set_ylabel("mean entropy, nats")

    return draw, 2.6 * (rows + 1)


def cache_picture(counts: Sequence[CacheCount], title: str) -> Callable[[Figure], None]:
    """Return what draws a bar of bytes for each variant."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        names = [count.variant.value for count in counts]
        bars = axes.barh(names, [float(count.total_bytes) for count in counts])
        axes.bar_label(
            bars,
            [f"{_size(count.total_bytes)}  ({100 * count.share:.3g} %)" for count in counts],
            padding=3,
        )
        axes.invert_yaxis()
        axes.set_xlim(0, 1.3 * max(count.total_bytes for count in counts))
        axes.set_xlabel("bytes")
        axes.set_title(title)

    return draw


def _size(count: int) -> str:
    size, unit = float(count), 0
    while size >= _STEP and unit < len(_UNITS) - 1:
        size, unit = size / _STEP, unit + 1
    return f"{size:.3g} {_UNITS[unit]}"
