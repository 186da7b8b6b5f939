"""Draw what variants of a model keep, and how widely they look."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from service.numerics.dtypes import Vector64

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_KIB = 1024


def draw_comparison(
    title: str,
    names: Sequence[str],
    *,
    entropies: Sequence[Vector64],
    cache_bytes: Sequence[float],
    perplexities: Sequence[float],
) -> Callable[[Figure], None]:
    """Return what draws entropy by layer beside the cache of each variant.

    Args:
        title: over the whole picture.
        names: one a variant.
        entropies: (layers,) nats each.
        cache_bytes: a token.
        perplexities: written beside the bars.
    """

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        for name, entropy in zip(names, entropies, strict=True):
            left.plot(range(len(entropy)), entropy, marker="o", ms=3, lw=1.2, label=name)
        left.set_xlabel("layer")
        left.set_ylabel("entropy of attention, nats")
        left.set_ylim(bottom=0)
        left.legend(fontsize=8)
        left.set_title(title)
        places = list(range(len(names)))
        sizes = [each / _KIB for each in cache_bytes]
        right.barh(places, sizes, color=[f"C{place}" for place in places])
        labels = [
            f"{name}\nperplexity {value:.3g}"
            for name, value in zip(names, perplexities, strict=True)
        ]
        right.set_yticks(places, labels, fontsize=8)
        right.invert_yaxis()
        right.set_xlabel("cache, KiB a token")
        right.set_title("What is kept")

    return draw
