"""Draw random numbers by position instead of by state: Philox 4x64 with ten rounds.

A block of four numbers is a function of a counter and a key, so a draw depends on which draw it is
and on nothing that was drawn before it.

Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3". The same numbers as
numpy's `Philox`, whose counter is one ahead.
"""

# A kernel takes arrays by position, is one loop, and knows the bytes of UTF-8.
# ruff: noqa: PLR0917
from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

from service.numerics.kernels import kernel

_M0 = np.uint64(0xD2E7470EE14C6C93)
_M1 = np.uint64(0xCA5A826395121157)
_W0 = np.uint64(0x9E3779B97F4A7C15)
_W1 = np.uint64(0xBB67AE8584CAA73B)
_ROUNDS = 10
_ELEVEN = np.uint64(11)
_STEP = 2.0**-53


@intrinsic
def _high(_context: Any, _left: Any, _right: Any) -> Any:  # noqa: ANN401 - numba's types
    """Return the upper 64 bits of a product of two 64-bit numbers; numpy has no such operation."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:  # noqa: ANN401
        wide = ir.IntType(128)
        left, right = (builder.zext(each, wide) for each in arguments)
        upper = builder.lshr(builder.mul(left, right), ir.Constant(wide, 64))
        return builder.trunc(upper, ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), generate


# To the type checker a plain function of two numbers; numba's decorator hides the first argument.
_high_product = cast("Callable[[np.uint64, np.uint64], np.uint64]", _high)


@kernel()
def philox(
    c0: np.uint64, c1: np.uint64, c2: np.uint64, c3: np.uint64, k0: np.uint64, k1: np.uint64
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64]:
    """Return the four numbers of one block, each uniform over 0 to 2^64 - 1."""
    for _ in range(_ROUNDS):
        high0, low0 = _high_product(_M0, c0), _M0 * c0
        high1, low1 = _high_product(_M1, c2), _M1 * c2
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0 += _W0
        k1 += _W1
    return c0, c1, c2, c3


@kernel()
def unit(word: np.uint64) -> float:
    """Return a number of [0, 1) with 53 random bits."""
    return float(word >> _ELEVEN) * _STEP


@kernel("void(uint64[::1], uint64[::1], uint64[::1])")
def fill_blocks(counter: np.ndarray, key: np.ndarray, out: np.ndarray) -> None:
    """Write as many whole blocks as `out` holds, the first counter word rising from `counter`."""
    c0 = counter[0]
    for start in range(0, len(out) - 3, 4):
        words = philox(c0, counter[1], counter[2], counter[3], key[0], key[1])
        out[start], out[start + 1], out[start + 2], out[start + 3] = words
        c0 += np.uint64(1)
