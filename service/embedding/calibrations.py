"""Keep densities of scores, and say in which percentile a score lies."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from service.errors import ArtefactDamaged, ArtefactMismatch
from service.numerics.density import (
    Density,
    Domain,
    PercentileTable,
    percentiles,
    tabulate,
)
from service.numerics.density_fit import Fit
from service.numerics.dtypes import Vector64
from service.runtime.engine import Engine
from service.stores.claims import Idempotency
from service.stores.objects import Objects
from service.stores.records import Version
from service.stores.versions import Versions

COLLECTION = "calibrations"
# A table is a quarter of a megabyte.
_MOST_TABLES = 64


@dataclass(frozen=True, slots=True)
class Scored:
    """Say what the scores of a calibration are.

    Attributes:
        model: encoder of the texts that were compared.
        model_sha256: its digest.
        pooling: how positions became one vector.
        transform: id of the whitening that the vectors went through, or None.
        metric: how two vectors were compared.
        texts: how many there were.
        pairs: how many pairs of them were compared.
    """

    model: str
    model_sha256: str
    pooling: str
    transform: str | None
    metric: str
    texts: int
    pairs: int


@dataclass(frozen=True, slots=True)
class Calibration:
    """Describe one version of a calibration.

    Attributes:
        version: what the store knows of it.
        density: the law of the scores.
        samples: how many scores it was fitted to.
        log_likelihood: mean over them, in nats.
        scored: what the scores are; None where they were given as numbers.
    """

    version: Version
    density: Density
    samples: int
    log_likelihood: float
    scored: Scored | None

    @property
    def id(self) -> str:
        """Return `name@version`."""
        return self.version.id


class Calibrations:
    """Make, find and read calibrations.

    Args:
        objects: where they are kept.
        engine: compute threads.
    """

    def __init__(self, objects: Objects, engine: Engine) -> None:
        self._versions = Versions(objects, COLLECTION)
        self._engine = engine
        self._tables: OrderedDict[str, PercentileTable] = OrderedDict()

    async def create(
        self,
        name: str,
        fit: Fit,
        *,
        samples: int,
        scored: Scored | None,
        idempotency: Idempotency | None = None,
    ) -> Calibration:
        """Return a new version of `name`, stored.

        Raises:
            InvalidInput: the name cannot be one.
            Conflict: the idempotency key belongs to another request.
            StorageUnavailable: it could not be stored.
        """
        density = fit.density
        metadata = {
            "domain": density.domain.value,
            "location": density.location,
            "scale": density.scale,
            "real": density.coefficients.real.tolist(),
            "imaginary": density.coefficients.imag.tolist(),
            "samples": samples,
            "log_likelihood": fit.log_likelihood,
            "scored": None if scored is None else asdict(scored),
        }
        version = await self._versions.create(
            name, metadata=metadata, blobs={}, idempotency=idempotency
        )
        return read_calibration(version)

    async def find(self, calibration_id: str) -> Calibration:
        """Return the calibration `name@3`, or the latest of `name`.

        Raises:
            UnknownArtefact: there is none, or it was deleted.
            ArtefactDamaged: it is not what was stored.
            StorageUnavailable: the storage cannot be read.
        """
        return read_calibration(await self._versions.find(calibration_id))

    async def list(self, name: str | None = None) -> list[Calibration]:
        """Return the latest version of every name, or every version of one, oldest first."""
        if name is None:
            return [read_calibration(version) for version in await self._versions.list()]
        return [read_calibration(version) for version in await self._versions.history(name)]

    async def delete(self, calibration_id: str) -> Calibration:
        """Delete a version and return it; its number is never given again."""
        return read_calibration(await self._versions.delete(calibration_id))

    async def percentiles(
        self, calibration: Calibration, scores: npt.NDArray[np.floating[Any]]
    ) -> Vector64:
        """Return in which percentile each score lies, 0 to 100, in the shape of the scores."""
        return await self._engine.compute(self._percentiles, calibration, scores)

    def _percentiles(
        self, calibration: Calibration, scores: npt.NDArray[np.floating[Any]]
    ) -> Vector64:
        key = calibration.version.uid
        table = self._tables.get(key)
        if table is None:
            table = tabulate(calibration.density)
            self._tables[key] = table
            while len(self._tables) > _MOST_TABLES:
                self._tables.popitem(last=False)
        return percentiles(table, scores)


def read_calibration(version: Version) -> Calibration:
    """Return what a version says about its calibration.

    Raises:
        ArtefactDamaged: it says something else.
    """
    said = version.metadata
    try:
        coefficients = np.array(said["real"]) + 1j * np.array(said["imaginary"])
        density = Density(Domain(said["domain"]), said["location"], said["scale"], coefficients)
        scored = None if said["scored"] is None else Scored(**said["scored"])
        return Calibration(
            version, density, int(said["samples"]), float(said["log_likelihood"]), scored
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ArtefactDamaged(
            f"The record of the calibration {version.id} cannot be understood "
            f"({type(error).__name__}). Make the calibration again."
        ) from error


@dataclass(frozen=True, slots=True)
class ScoreOrigin:
    """Say where scores come from that are to be put into percentiles.

    Attributes:
        model_sha256: digest of their encoder, None where vectors were given.
        pooling: of the encoder, None where the transform says it, or vectors were given.
        transform: id of the whitening that the vectors went through, or None.
        metric: how they were compared.
    """

    model_sha256: str | None
    pooling: str | None
    transform: str | None
    metric: str


def require_same_scores(calibration: Calibration, origin: ScoreOrigin) -> None:
    """Check that scores are of the kind that a calibration was fitted to.

    A calibration of numbers fits every score; nobody said what the numbers are.

    Raises:
        ArtefactMismatch: they are of another encoder, pooling, transform or metric.
    """
    scored = calibration.scored
    if scored is None:
        return
    pairs = (
        ("transform", scored.transform, origin.transform),
        ("metric", scored.metric, origin.metric),
        ("model_sha256", scored.model_sha256, origin.model_sha256 or scored.model_sha256),
        ("pooling", scored.pooling, origin.pooling or scored.pooling),
    )
    for name, wanted, given in pairs:
        if given != wanted:
            raise ArtefactMismatch(
                f"The calibration {calibration.id} is of scores with {name} {wanted!r} (model "
                f"{scored.model}), and these have {given!r}. Make a calibration for them."
            )
