"""Be a session without a model: rows that follow from the ids, runs that a test can hold back."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np

from service.numerics.dtypes import Ids64, Matrix32, Vector32
from service.runtime.providers import ProviderReport

OUTPUTS = ("mean", "mean_raw", "cls", "cls_raw")
_PATIENCE_SECONDS = 10.0


def row_for(ids: Sequence[int], output: str = "mean") -> Vector32:
    """Return the one right row of a sequence: (4,) float32, which follows from ids and output."""
    real = np.asarray(ids, dtype=np.float64)
    weights = np.arange(1, len(real) + 1)
    first = real[0] if output.startswith("cls") else real.sum()
    row = np.array([2.0, np.sin(first), np.cos((real * weights).sum()), np.sin(len(real))])
    if not output.endswith("_raw"):
        row /= np.linalg.norm(row)
    return row.astype(np.float32)


class FakeSession:
    """Answer with `row_for`; keep a record of the runs; stop, fail or go mad when told to.

    Attributes:
        provider: where it claims to run.
        batches: the real ids of each run, in the order in which the runs began.
        widths: padded length of each run.
        errors: raised by the next runs, one each.
        mad_ids: a row that holds one of these ids comes back with a NaN in it.
    """

    def __init__(self, *, used: str = "cpu", wished: str = "cpu") -> None:
        self.provider = ProviderReport(wished=wished, used=used)
        self.batches: list[list[list[int]]] = []
        self.widths: list[int] = []
        self.errors: list[Exception] = []
        self.mad_ids: set[int] = set()
        self._gate = threading.Event()
        self._gate.set()
        self._lock = threading.Lock()

    def hold(self) -> None:
        """Let runs begin and keep them from ending."""
        self._gate.clear()

    def release(self) -> None:
        """Let every run end."""
        self._gate.set()

    async def runs_began(self, count: int) -> None:
        """Wait until so many runs have begun in all."""
        await eventually(lambda: len(self.batches) >= count)

    def run(
        self, input_ids: Ids64, attention_mask: Ids64, outputs: Sequence[str]
    ) -> list[Matrix32]:
        """Return one `(batch, 4)` float32 matrix for each named output."""
        unknown = [name for name in outputs if name not in OUTPUTS]
        if unknown:
            raise ValueError(f"There is no output {unknown[0]!r}.")
        real = [
            row[mask == 1].tolist() for row, mask in zip(input_ids, attention_mask, strict=True)
        ]
        with self._lock:
            self.batches.append(real)
            self.widths.append(input_ids.shape[1])
            error = self.errors.pop(0) if self.errors else None
        if not self._gate.wait(_PATIENCE_SECONDS):
            raise TimeoutError("The test held this run back and never let it go.")
        if error is not None:
            raise error
        matrices = [np.stack([row_for(ids, name) for ids in real]) for name in outputs]
        for index, ids in enumerate(real):
            if self.mad_ids.intersection(ids):
                for matrix in matrices:
                    matrix[index, -1] = np.nan
        return matrices


async def eventually(condition: Callable[[], bool], seconds: float = _PATIENCE_SECONDS) -> None:
    """Wait until `condition()` holds, looking every millisecond, within a bound."""
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, "It did not happen in time."
        await asyncio.sleep(0.001)
