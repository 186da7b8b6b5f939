"""Scale the scores of each row by how many keys it sees.

With i.i.d. scores of variance σ² the entropy of a softmax row is about ln n - σ²/2: it grows with
the length, and attention thins out. Scores multiplied by ln n keep it nearly where it was.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from service.errors import Fault, InvalidInput
from service.numerics.dtypes import Ids64, Vector64

STANDARD_LENGTH = 512
MOST_SCALE = 1e6


class ScaleName(StrEnum):
    """Name what multiplies the scores of a row."""

    SQRT = "sqrt"
    LOG_N = "log_n"
    LOG_N_DAGGER = "log_n_dagger"
    VALUE = "value"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleScheme:
    """Say what multiplies the scores of a row.

    Attributes:
        name: which scheme.
        length: above 1; the length at which log_n leaves scores as they are, the trained length
            of log_n_dagger.
        value: of `value`: what q·k is multiplied by, in place of 1/√d.

    Raises:
        InvalidInput: the length is below 2, or the value is not finite and positive.
    """

    name: ScaleName = ScaleName.SQRT
    length: int = STANDARD_LENGTH
    value: float = 1.0

    def __post_init__(self) -> None:
        if self.length <= 1:
            raise InvalidInput(
                f"The length of the scale is {self.length}; its logarithm divides, so it must be "
                "at least 2.",
                faults=(Fault("/scale/length", f"is {self.length}, must be at least 2"),),
            )
        if not 0 < self.value <= MOST_SCALE:
            raise InvalidInput(
                f"The scale is {self.value:g}; it must be above 0 and at most {MOST_SCALE:g}.",
                faults=(Fault("/scale", f"is {self.value:g}"),),
            )


def row_scale(scheme: ScaleScheme, lengths: Ids64, *, head_dim: int) -> Vector64:
    """Return what multiplies each query row on top of 1/√d.

    - sqrt: 1.
    - log_n: ln n / ln 512 (or another length). A row of one key gets 0, and looks at that key all
      the same. For models trained with it.
    - log_n_dagger: max(1, ln n / ln N), N the trained length. For models not trained with it:
      nothing changes within N.
    - value: value · √d, so that scores are value · q·k.

    Args:
        scheme: which, and its parameters.
        lengths: (rows,) n ≥ 1, keys that each row sees; t + 1 under a causal mask.
        head_dim: d, whose root the model divides by.

    Returns:
        (rows,) float64.

    Source: kexue.fm articles 8823 and 9034 (entropy invariance), 9706 (the dagger).
    """
    if scheme.name is ScaleName.SQRT:
        return np.ones(len(lengths))
    if scheme.name is ScaleName.VALUE:
        return np.full(len(lengths), scheme.value * math.sqrt(head_dim))
    factors: Vector64 = np.log(lengths) / math.log(scheme.length)
    return np.maximum(factors, 1.0) if scheme.name is ScaleName.LOG_N_DAGGER else factors
