"""Name the array types; shapes stand in the docstrings that use them."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Ids64: TypeAlias = npt.NDArray[np.int64]
Vector32: TypeAlias = npt.NDArray[np.float32]
Matrix32: TypeAlias = npt.NDArray[np.float32]
Matrix64: TypeAlias = npt.NDArray[np.float64]
