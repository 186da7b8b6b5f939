"""Name the array types; shapes stand in the docstrings that use them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Bools: TypeAlias = npt.NDArray[np.bool_]
Bytes8: TypeAlias = npt.NDArray[np.uint8]
Ids32: TypeAlias = npt.NDArray[np.int32]
Ids64: TypeAlias = npt.NDArray[np.int64]
Vector32: TypeAlias = npt.NDArray[np.float32]
Vector64: TypeAlias = npt.NDArray[np.float64]
Matrix32: TypeAlias = npt.NDArray[np.float32]
Matrix64: TypeAlias = npt.NDArray[np.float64]
# Scores in the precision they came in.
Logits: TypeAlias = npt.NDArray[np.floating[Any]]

# Told the stage, the steps done and the steps in all. It raises where nobody waits for the result
# any more, so whatever takes long calls it now and then and lets the exception through.
Progress: TypeAlias = Callable[[str, int, int], None]
