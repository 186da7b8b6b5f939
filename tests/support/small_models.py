"""Draw weights of a small model without training it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.training.shape import Shape


def weights_of(shape: Shape, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Return seeded weights of every tensor of a variant."""
    random = np.random.default_rng(seed)
    return {
        name: ((len(size) == 1) + random.normal(0, 0.1, size)).astype(np.float32)
        for name, size in shape.tensors().items()
    }
