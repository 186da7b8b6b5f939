"""Turn positions into the angles of rotary position embedding, direct or stretched.

Pair m of a query at position t turns by the angle φ_m(t), pair m of a key at i by φ_m(i): their
product depends on t - i alone. A model trained to n positions reads k·n of them when its angles
are slowed down by k (the *factor*); the schemes differ in which pairs are slowed, and how much.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from service.errors import DimensionMismatch, Fault, InvalidInput
from service.numerics.dtypes import Bools, Ids64, Matrix32, Matrix64, Vector64

# "Old" NTK has its lowest frequency at PI's and its highest unchanged: it needs two pairs at least.
_LEAST_NTK_DIM = 4
# Beyond it a factor or a window says nothing that any model could follow.
MOST_FACTOR = 1e6
MOST_WINDOW = 2**31 - 1


class RopeName(StrEnum):
    """Name how positions become angles."""

    NONE = "none"
    DIRECT = "direct"
    PI = "pi"
    NTK = "ntk"
    NTK_FIXED = "ntk_fixed"
    NTK_MIXED = "ntk_mixed"
    REROPE = "rerope"
    LEAKY_REROPE = "leaky_rerope"


_WINDOWED = frozenset({RopeName.REROPE, RopeName.LEAKY_REROPE})


@dataclass(frozen=True, slots=True, kw_only=True)
class RopeScheme:
    """Say how positions become angles.

    Attributes:
        name: which scheme.
        factor: k ≥ 1, how many times the trained length is read; of pi, ntk*, leaky_rerope.
        mixing: b in [0, 1] of ntk_mixed; 0 is pi, 1 is ntk_fixed.
        window: w ≥ 1 positions of rerope and leaky_rerope, within which distances stay true.

    Raises:
        InvalidInput: a parameter is outside its range, or a window is missing.
    """

    name: RopeName = RopeName.DIRECT
    factor: float = 1.0
    mixing: float = 0.625
    window: int | None = None

    def __post_init__(self) -> None:
        _require(1 <= self.factor <= MOST_FACTOR, "factor", self.factor, f"1 to {MOST_FACTOR:g}")
        _require(0 <= self.mixing <= 1, "mixing", self.mixing, "0 to 1")
        if self.windowed and self.window is None:
            raise InvalidInput(
                f"{self.name.value} has no window; give `window`, the distance in positions up to "
                "which it counts truly.",
                faults=(Fault("/rope/window", "is needed"),),
            )
        if self.window is not None:
            _require(1 <= self.window <= MOST_WINDOW, "window", self.window, f"1 to {MOST_WINDOW}")

    @property
    def windowed(self) -> bool:
        """Return whether scores come from two pairs of tables: near and far."""
        return self.name in _WINDOWED


def _require(holds: bool, name: str, value: float, span: str) -> None:
    if not holds:
        raise InvalidInput(
            f"The {name} of the position scheme is {value:g}; it must be from {span}.",
            faults=(Fault(f"/rope/{name}", f"is {value:g}, must be from {span}"),),
        )


@dataclass(frozen=True, slots=True)
class Rotation:
    """Hold the table of some positions.

    Attributes:
        cos: (positions, rope_dim / 2) float32.
        sin: the same shape.
    """

    cos: Matrix32
    sin: Matrix32


@dataclass(frozen=True, slots=True)
class FarTables:
    """Hold the second pair of tables of a windowed scheme.

    Attributes:
        queries: of the S queries.
        keys: of the T keys.
        near: (S, T) true where the near tables give the score: query less key below the window.
    """

    queries: Rotation
    keys: Rotation
    near: Bools


@dataclass(frozen=True, slots=True)
class RopeTables:
    """Hold what an attention graph reads in place of positions.

    Attributes:
        queries: of the S queries.
        keys: of the T keys.
        far: None unless the scheme is windowed.
    """

    queries: Rotation
    keys: Rotation
    far: FarTables | None


def angles(
    scheme: RopeScheme, positions: Ids64 | Vector64, *, rope_dim: int, base: float
) -> Matrix64:
    """Return the angle of every pair at every position; of a windowed scheme the near ones.

    φ_m(t) = t · base^(-2m/d) · k^(-e_m), m = 0 … d/2 - 1, with the exponents

    - direct, rerope, leaky_rerope: e_m = 0; none: no angle at all.
    - pi: e_m = 1. Every pair turns k times slower.
    - ntk: e_m = m / (d/2 - 1). The slowest pair as in pi, the quickest unchanged. It is the "old"
      NTK-aware scheme in its first form, base' = base · k^(d/(d-2)).
    - ntk_fixed: e_m = (m + 1) / (d/2). Also the quickest pair slows, by k^(2/d).
    - ntk_mixed: e_m = ((m + 1) / (d/2))^b. Between pi (b = 0) and ntk_fixed (b = 1).

    Args:
        scheme: which, and its parameters.
        positions: (n,) from 0.
        rope_dim: d, even; numbers of a head that turn.
        base: above 1, of the slowest turn; 10,000 in most models.

    Returns:
        (n, d/2) float64, radians.

    Raises:
        DimensionMismatch: d is odd or below 2, or below 4 for ntk.
        InvalidInput: the base is not above 1, or not finite.

    Source: Su et al. 2021, arXiv:2104.09864; Chen et al. 2023, arXiv:2306.15595 (pi); kexue.fm
    articles 9675 and 9706 (the NTK schemes, as the digits of a number in a mixed base).
    """
    _require_rope_dim(scheme, rope_dim)
    if not 1 < base < math.inf:
        raise InvalidInput(
            f"The base of the rotary angles is {base:g}; it must be finite and above 1.",
            faults=(Fault("/rope/base", f"is {base:g}, must be finite and above 1"),),
        )
    pairs = rope_dim // 2
    if scheme.name is RopeName.NONE:
        return np.zeros((len(positions), pairs))
    m = np.arange(pairs, dtype=np.float64)
    # one exponential of a sum: base^x · k^y in two factors rounds twice
    logs = -2 * m / rope_dim * math.log(base) - _exponents(scheme, m) * math.log(scheme.factor)
    found: Matrix64 = np.multiply.outer(positions.astype(np.float64), np.exp(logs))
    return found


def _require_rope_dim(scheme: RopeScheme, rope_dim: int) -> None:
    least = _LEAST_NTK_DIM if scheme.name is RopeName.NTK else 2
    if rope_dim < least or rope_dim % 2:
        raise DimensionMismatch(
            f"{rope_dim} numbers of a head cannot turn in pairs under {scheme.name.value}; the "
            f"rotary dimension must be even and at least {least}.",
            faults=(Fault("/rope/dim", f"is {rope_dim}, must be even and at least {least}"),),
        )


def _exponents(scheme: RopeScheme, m: Vector64) -> Vector64:
    """Return e_m of every pair, with which k slows it down."""
    pairs = len(m)
    if scheme.name is RopeName.PI:
        return np.ones(pairs)
    if scheme.name is RopeName.NTK:
        return m / (pairs - 1)
    if scheme.name is RopeName.NTK_FIXED:
        return (m + 1) / pairs
    if scheme.name is RopeName.NTK_MIXED:
        mixed: Vector64 = ((m + 1) / pairs) ** scheme.mixing
        return mixed
    return np.zeros(pairs)


def rope_tables(
    scheme: RopeScheme,
    *,
    queries: Ids64,
    keys: Ids64,
    rope_dim: int,
    base: float,
) -> RopeTables:
    """Return cosines and sines of queries and keys, near and far.

    Far scores of a windowed scheme, taken where t - i ≥ w:

    - rerope: the distance stays at w. Queries turn as at position w, keys as at 0.
    - leaky_rerope: beyond w the distance grows k times slower, w + (t - i - w) / k. Queries turn
      as at (t - w) / k + w, keys as at i / k.

    A key after its query (i > t) is near: only distances back are bounded.

    Args:
        scheme: which, and its parameters.
        queries: (S,) positions from 0.
        keys: (T,) positions from 0; where keys are cached turned, those of the new ones only.
        rope_dim: d, even.
        base: above 1.

    Raises:
        DimensionMismatch: d cannot turn in pairs.
        InvalidInput: the base is not above 1.

    Source: kexue.fm articles 9708 and 9731 (ReRoPE and Leaky ReRoPE).
    """

    def turned(places: Ids64 | Vector64) -> Rotation:
        return _rotation(angles(scheme, places, rope_dim=rope_dim, base=base))

    return RopeTables(turned(queries), turned(keys), _far(scheme, queries, keys, turned))


def _far(
    scheme: RopeScheme,
    queries: Ids64,
    keys: Ids64,
    turned: Callable[[Vector64], Rotation],
) -> FarTables | None:
    if scheme.window is None or not scheme.windowed:
        return None
    if scheme.name is RopeName.REROPE:
        asked, held = np.full(len(queries), float(scheme.window)), np.zeros(len(keys))
    else:
        asked = (queries - scheme.window) / scheme.factor + scheme.window
        held = keys / scheme.factor
    near = queries[:, np.newaxis] - keys < scheme.window
    return FarTables(turned(asked), turned(held), near)


def _rotation(turned: Matrix64) -> Rotation:
    # float64 up to here: float32 angles near 1e5 are wrong by 0.004 radians
    return Rotation(np.cos(turned).astype(np.float32), np.sin(turned).astype(np.float32))
