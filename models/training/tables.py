"""Lay out what was measured of several seeds as tables in Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence

from models.training.evaluation import EXTENSION, Measurement
from models.training.recipe import TRAINED_LENGTH
from models.training.shape import VARIANTS

EXTENDED_LENGTH = TRAINED_LENGTH * EXTENSION


def variant_table(measured: Sequence[Measurement], held_out: Mapping[str, Sequence[float]]) -> str:
    """Return a row for each variant: its sizes, and its perplexity at the trained length.

    Args:
        measured: of every seed.
        held_out: variant to the held-out loss of each seed, nats a byte.
    """
    rows = []
    for name, shape in VARIANTS.items():
        trained = [
            one.perplexity
            for one in measured
            if one.variant == name and one.length == TRAINED_LENGTH
        ]
        cells = (
            name,
            f"{shape.parameters:,}",
            str(shape.ffn_dim),
            str(shape.cache_elements),
            spread(held_out[name], digits=4),
            spread(trained, digits=3),
        )
        rows.append(cells)
    head = (
        "variant",
        "parameters",
        "feed-forward width",
        "cache, numbers a token and layer",
        "held-out loss, nats a byte",
        f"perplexity at {TRAINED_LENGTH}",
    )
    return table(head, rows)


def length_table(measured: Sequence[Measurement], *, last_half: bool) -> str:
    """Return a row for each position scheme and scale, a column for each variant.

    Perplexity at 8 times the trained length, of all bytes or of each window's second half; mean
    and spread of the seeds; `-` where a variant is not measured so.
    """
    far = [one for one in measured if one.length == EXTENDED_LENGTH]
    order = list(dict.fromkeys((one.rope, one.scale) for one in far))
    order.sort(key=lambda pair: list(dict.fromkeys(one.rope for one in far)).index(pair[0]))
    rows = []
    for rope, scale in order:
        cells = [rope, scale]
        for name in VARIANTS:
            found = [
                one.last_half if last_half else one.perplexity
                for one in far
                if (one.variant, one.rope, one.scale) == (name, rope, scale)
            ]
            cells.append(spread(found, digits=2))
        rows.append(cells)
    return table(("positions", "scale", *VARIANTS), rows)


def spread(values: Sequence[float], *, digits: int) -> str:
    """Return `mean ± half the range` of the seeds, or `-` for none."""
    if not values:
        return "-"
    half = (max(values) - min(values)) / 2
    return f"{statistics.fmean(values):.{digits}f} ± {half:.{digits}f}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"
