"""Calibrations: what is stored is what comes back, and only fitting scores are let in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest

from service.embedding.calibrations import (
    Calibrations,
    Scored,
    ScoreOrigin,
    read_calibration,
    require_same_scores,
)
from service.errors import ArtefactDamaged, ArtefactMismatch, UnknownArtefact
from service.numerics.density import Domain, cdf
from service.numerics.density_fit import Fit, fit_density
from service.runtime.engine import Engine
from service.stores.objects import Objects

pytestmark = pytest.mark.anyio
SCORED = Scored("mini", "ab" * 32, "mean", "halves@2", "cosine", texts=40, pairs=780)
ORIGIN = ScoreOrigin("ab" * 32, "mean", "halves@2", "cosine")


class Threads:
    """Be an engine whose threads are this one."""

    async def compute(self, work: Any, *arguments: Any) -> Any:
        return work(*arguments)


def calibrations(objects: Objects) -> Calibrations:
    return Calibrations(objects, cast(Engine, Threads()))


def fitted(domain: Domain) -> Fit:
    samples = np.random.default_rng(0).beta(4, 2, size=400)
    return fit_density(samples, domain=domain, order=6, progress=lambda *_: None)


@pytest.mark.parametrize("domain", Domain)
async def test_another_replica_reads_the_same_density(tmp_path: Any, domain: Domain) -> None:
    fit = fitted(domain)
    made = await calibrations(Objects(str(tmp_path))).create(
        "scores", fit, samples=400, scored=SCORED
    )
    other = calibrations(Objects(str(tmp_path)))
    found = await other.find("scores")
    assert found == replace(made, density=found.density)
    assert np.array_equal(found.density.coefficients, fit.density.coefficients)
    assert found.density.location == fit.density.location
    scores = np.array([[0.2, 0.7], [0.9, 0.4]], dtype=np.float32)
    percentiles = await other.percentiles(found, scores)
    exact = 100 * cdf(fit.density, scores.astype(np.float64).ravel()).reshape(2, 2)
    assert percentiles == pytest.approx(exact, abs=1e-3)


async def test_what_is_deleted_is_gone() -> None:
    kept = calibrations(Objects("memory://"))
    made = await kept.create("scores", fitted(Domain.REAL), samples=400, scored=None)
    assert [each.id for each in await kept.list()] == [made.id]
    await kept.delete(made.id)
    assert await kept.list() == []
    with pytest.raises(UnknownArtefact):
        await kept.find("scores")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model_sha256", "cd" * 32),
        ("pooling", "cls"),
        ("transform", None),
        ("transform", "halves@1"),
        ("metric", "csls"),
    ],
)
async def test_scores_of_another_kind_are_refused(field: str, value: str | None) -> None:
    kept = calibrations(Objects("memory://"))
    made = await kept.create("scores", fitted(Domain.REAL), samples=400, scored=SCORED)
    require_same_scores(made, ORIGIN)
    require_same_scores(made, replace(ORIGIN, model_sha256=None, pooling=None))
    other = replace(ORIGIN, **{field: value})  # type: ignore[arg-type]
    with pytest.raises(ArtefactMismatch, match=field):
        require_same_scores(made, other)
    require_same_scores(replace(made, scored=None), other)


async def test_a_record_of_another_shape_is_damaged() -> None:
    kept = calibrations(Objects("memory://"))
    made = await kept.create("scores", fitted(Domain.REAL), samples=400, scored=None)
    without = {name: value for name, value in made.version.metadata.items() if name != "scale"}
    with pytest.raises(ArtefactDamaged, match="cannot be understood"):
        read_calibration(replace(made.version, metadata=without))
