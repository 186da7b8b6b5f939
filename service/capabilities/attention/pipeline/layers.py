"""Run one attention layer under a variant, and measure what it does."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from service.capabilities.attention.pipeline.given import Given, under_variant
from service.capabilities.attention.pipeline.job import (
    LayerJob,
    Noise,
    conditions_of,
    noise_of,
    require_limits,
    turning_size,
    visible_lengths,
)
from service.capabilities.attention.settings import AttentionSettings
from service.errors import Fault, InvalidInput
from service.numerics.attention.forms import Part, parts, values_by_head
from service.numerics.attention.measures import (
    expected_noise,
    normalized_entropy,
    rank,
    row_concentration,
    row_entropy,
)
from service.numerics.attention.positions import RopeName
from service.numerics.attention.reference import Conditions, Normaliser, Path
from service.numerics.dtypes import Ids64, Matrix32, Progress
from service.runtime.attention.sessions import LayerGraphs
from service.runtime.engine import Engine

# Weights of so many scores are held at one time: 16 MB, and as much again for each measure.
_SCORES_AT_ONCE = 2**22
# Noise of one nat, where its effect is asked for and none is added.
UNIT_NOISE = 1.0
Found: TypeAlias = npt.NDArray[Any]
_READ_WEIGHTS = frozenset(
    {"probabilities", "entropy", "concentration", "noise_sensitivity", "rank"}
)


@dataclass(frozen=True, slots=True)
class LayerAnswer:
    """Hold what a layer gave.

    Attributes:
        given: the form, and what making it lost.
        rope_dim: numbers of a head that turned.
        lengths: (n,) keys that each row sees.
        found: (batch, heads, …) arrays by name: `output`, `probabilities`, `entropy`,
            `normalized_entropy`, `expected`, `observed`, `power` (|o|² of each row without noise),
            `numerical`, `smallest`, `largest`, and metrics as `concentration.<name>`.
    """

    given: Given
    rope_dim: int
    lengths: Ids64
    found: Mapping[str, Found]

    @property
    def cache_bytes(self) -> int:
        """Return the bytes of the arrays that a cache holds of all tokens."""
        return sum(int(array.nbytes) for array in self.given.form.kept)

    @property
    def cache_elements(self) -> int:
        """Return the numbers kept of one token."""
        batch, _, tokens, _ = self.given.form.queries.shape
        numbers = sum(int(array.size) for array in self.given.form.kept)
        return numbers // int(batch * tokens)

    @property
    def relative_change(self) -> float | None:
        """Return ‖õ - o‖ / ‖o‖ over all rows, None without noise or without an output."""
        if "observed" not in self.found:
            return None
        power = float(self.found["power"].sum())
        return math.sqrt(float(self.found["observed"].sum()) / power) if power > 0 else None


class LayerPipeline:
    """Answer `/v1/attention/layer`.

    Args:
        engine: compute threads.
        graphs: one-layer graphs.
        settings: limits.
    """

    def __init__(self, engine: Engine, graphs: LayerGraphs, settings: AttentionSettings) -> None:
        self._engine = engine
        self._graphs = graphs
        self._settings = settings

    async def run(self, job: LayerJob, *, progress: Progress) -> LayerAnswer:
        """Return what a layer gives.

        Raises:
            DimensionMismatch: shapes do not fit each other.
            InvalidInput: a row sees no key, or the variant cannot do what is asked.
            NotFinite: numbers are so large that scores would not stay finite.
            TooManyItems: the layer is larger than a limit.
        """
        if job.normaliser is Normaliser.L2 and "noise_sensitivity" in job.wanted:
            raise InvalidInput(
                "noise_sensitivity is a formula of softmax and the normaliser is l2; leave "
                "one out.",
                faults=(Fault("/return", "asks for noise_sensitivity with the normaliser l2"),),
            )
        require_limits(job, self._settings)
        return await self._engine.compute(partial(self._run, job, progress=progress))

    def _run(self, job: LayerJob, *, progress: Progress) -> LayerAnswer:
        turns = job.rope.name is not RopeName.NONE
        given = under_variant(
            job.brought, job.variant, kv_rank=job.kv_rank, turns=turns, settings=self._settings
        )
        lengths = visible_lengths(job, given.form.queries.shape[-2])
        rope_dim = turning_size(job, given) if turns else 0
        conditions = conditions_of(job, given, lengths=lengths, rope_dim=rope_dim)
        split = list(parts(given.form, most_scores=_SCORES_AT_ONCE))
        rows: dict[int, list[Mapping[str, Found]]] = {}
        for number, part in enumerate(split):
            measured = self._measured(job, part, conditions, given.path, lengths)
            rows.setdefault(part.batch.start, []).append(measured)
            progress("attend", number + 1, len(split))
        return LayerAnswer(given, rope_dim, lengths, _joined(list(rows.values())))

    def _measured(
        self, job: LayerJob, part: Part, conditions: Conditions, path: Path, lengths: Ids64
    ) -> dict[str, Found]:
        """Return what was asked of some heads."""
        attend = partial(
            self._graphs.attend, part.form, path=path, weighed=bool(_READ_WEIGHTS & set(job.wanted))
        )
        clean = run = attend(conditions)
        found: dict[str, Found] = {}
        if job.noise is not None:
            noise = noise_of(job.noise, part, len(lengths))
            bias = noise if conditions.bias is None else conditions.bias + noise
            run = attend(replace(conditions, bias=bias))
            found["observed"] = _squares(run.output - clean.output)
            found["power"] = _squares(clean.output)
        if "output" in job.wanted:
            found["output"] = run.output
        if "noise_sensitivity" in job.wanted and clean.weights is not None:
            found["expected"] = _expected(part, clean.weights, job.noise)
        if run.weights is not None:
            found |= _weight_measures(run.weights, lengths, job.wanted)
        return found


def _joined(rows: Sequence[Sequence[Mapping[str, Found]]]) -> dict[str, Found]:
    """Put parts together again: those of one batch along the heads, then the batches."""
    return {
        name: np.concatenate([np.concatenate([each[name] for each in row], axis=1) for row in rows])
        for name in rows[0][0]
    }


def _expected(part: Part, weights: Matrix32, noise: Noise | None) -> Found:
    sigma = UNIT_NOISE if noise is None else noise.sigma
    values = values_by_head(part.form)
    return np.stack(
        [expected_noise(*pair, sigma=sigma) for pair in zip(weights, values, strict=True)]
    )


def _weight_measures(
    weights: Matrix32, lengths: Ids64, wanted: Collection[str]
) -> dict[str, Found]:
    found: dict[str, Found] = {}
    if "probabilities" in wanted:
        found["probabilities"] = weights
    if "entropy" in wanted:
        entropy = row_entropy(weights)
        found |= {"entropy": entropy, "normalized_entropy": normalized_entropy(entropy, lengths)}
    if "concentration" in wanted:
        metrics = row_concentration(weights, lengths)
        found |= {f"concentration.{name}": values for name, values in metrics.items()}
    if "rank" in wanted:
        measured = rank(weights)
        found |= {
            "numerical": measured.numerical,
            "smallest": measured.smallest,
            "largest": measured.largest,
        }
    return found


def _squares(rows: Matrix32) -> Found:
    wide = rows.astype(np.float64)
    return np.asarray((wide * wide).sum(axis=-1))
