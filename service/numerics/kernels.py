"""Compile numeric kernels once and keep them on disk.

A module of kernels gives every kernel its signature, so that importing the module compiles it, or
loads it from the cache beside the source in a few milliseconds. `isotrope kernels` imports them all
at set-up; no request ever waits for a compiler.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., object])


def kernel(*signatures: str) -> Callable[[F], F]:
    """Return a decorator that compiles a function for the given signatures.

    The global interpreter lock is released inside, and sums keep their order (no `fastmath`): the
    same input gives the same bits on every thread.

    Args:
        signatures: numba's notation, as `"void(int64[::1], float64[::1])"`; none leaves a function
            that only other kernels call, which is compiled into its callers.
    """

    def compile_(function: F) -> F:
        declared = list(signatures) or None
        return cast(F, numba.njit(declared, cache=True, nogil=True)(function))

    return compile_
