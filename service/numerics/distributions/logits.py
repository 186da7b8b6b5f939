"""Check rows of logits and bring them to a form in which nothing overflows."""

from __future__ import annotations

import numpy as np

from service.errors import Fault, InvalidInput, NotFinite
from service.numerics.dtypes import Logits, Matrix64, Vector64

# Numbers of a block: what a step works on stays within a core's own cache.
_BLOCK = 2**16


def row_blocks(rows: Logits) -> list[slice]:
    """Return slices of rows that together cover all of them, each about 65,536 numbers."""
    step = max(1, _BLOCK // max(1, rows.shape[1]))
    return [slice(start, start + step) for start in range(0, len(rows), step)]


def require_logits(logits: Logits, *, pointer: str = "/logits") -> None:
    """Check that every row has a largest finite logit; minus infinity marks a masked entry.

    Args:
        logits: (rows, n) float32 or float64.
        pointer: where they stand in the request, for the message.

    Raises:
        NotFinite: a number is NaN or plus infinity, or all of a row is masked.
    """
    for row, highest in enumerate(row_maxima(logits)):
        if np.isfinite(highest):
            continue
        if highest == -np.inf:
            raise NotFinite(
                f"Row {row} of the logits is masked everywhere: all of its {logits.shape[1]} "
                "numbers are minus infinity. Leave at least one entry open.",
                faults=(Fault(f"{pointer}/{row}", "is minus infinity everywhere"),),
            )
        column = int(np.flatnonzero(~(logits[row] < np.inf))[0])
        value = logits[row, column]
        raise NotFinite(
            f"Row {row} of the logits holds {value} at position {column}; a logit must be a "
            "number, or minus infinity to mask an entry.",
            faults=(Fault(f"{pointer}/{row}/{column}", f"is {value}"),),
        )


def row_maxima(logits: Logits) -> Logits:
    """Return each row's largest logit; NaN where a row holds one.

    Args:
        logits: (rows, n) float32 or float64, n ≥ 1.
    """
    highest: Logits = logits.max(axis=1)
    return highest


def shifted(logits: Logits, *, scale: float) -> Matrix64:
    """Return (x - max x) / scale, which is at most 0 and 0 at the largest logit.

    The shift comes first: a quotient of 1e300 and a small scale would overflow.

    Args:
        logits: (rows, n) float32 or float64, checked by `require_logits`.
        scale: temperature or width of the noise, above 0.

    Returns:
        (rows, n) float64 in [-inf, 0].
    """
    wide = logits.astype(np.float64)
    with np.errstate(over="ignore"):  # a distance beyond 1e308 is as good as masked
        wide -= row_maxima(wide)[:, np.newaxis]
        wide /= scale
    return wide


def entropies(probabilities: Logits) -> Vector64:
    """Return the Shannon entropy -Σ p log p of each row, in nats.

    Args:
        probabilities: (rows, n), not negative, each row of sum 1.
    """
    found = np.empty(len(probabilities))
    for block in row_blocks(probabilities):
        p = probabilities[block].astype(np.float64)
        logs = np.log(p, out=np.zeros_like(p), where=p > 0)
        found[block] = -np.einsum("rn,rn->r", p, logs)
    return np.maximum(found, 0.0)


def require_probabilities(rows: Logits, *, pointer: str) -> None:
    """Check that rows are probability distributions.

    Args:
        rows: (rows, n) float32 or float64.
        pointer: where they stand in the request, for the message.

    Raises:
        NotFinite: a number is NaN or infinite.
        InvalidInput: a number is negative, or a row's sum is more than 1e-6 from 1.
    """
    for block in row_blocks(rows):
        _require_block(rows[block], block.start, pointer)


_SUM_TOLERANCE = 1e-6


def _require_block(rows: Logits, first: int, pointer: str) -> None:
    bad = ~np.isfinite(rows) | (rows < 0)
    if bad.any():
        row, column = (int(place) for place in np.argwhere(bad)[0])
        value = rows[row, column]
        kind = InvalidInput if np.isfinite(value) else NotFinite
        raise kind(
            f"Row {first + row} of the probabilities holds {value} at position {column}; "
            "a probability is a number of at least 0.",
            faults=(Fault(f"{pointer}/{first + row}/{column}", f"is {value}"),),
        )
    sums = rows.sum(axis=1, dtype=np.float64)
    off = np.abs(sums - 1) > _SUM_TOLERANCE
    if off.any():
        row = int(np.flatnonzero(off)[0])
        raise InvalidInput(
            f"Row {first + row} of the probabilities sums to {sums[row]:.9g}; the sum must be 1 "
            f"within {_SUM_TOLERANCE:g}. Divide the row by its sum, or send logits.",
            faults=(Fault(f"{pointer}/{first + row}", f"sums to {sums[row]:.9g}"),),
        )
